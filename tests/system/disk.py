"""A file system of its own in a file, whose power can be cut: what was not flushed by then is lost.

The cut is ext4's and XFS's own shutdown ioctl without flushing the log, so the page cache above the device is gone
too. Needs root and loop devices.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

Kind = Literal["ext4", "xfs"]
_MKFS: dict[Kind, tuple[tuple[str, ...], int]] = {
    "ext4": (("mkfs.ext4", "-q", "-F"), 192 << 20),
    "xfs": (("mkfs.xfs", "-q", "-f"), 320 << 20),
}


def loop_devices_possible() -> bool:
    return os.geteuid() == 0 and Path("/dev/loop-control").exists()


def why_impossible(kind: Kind) -> str | None:
    """The reason why this machine cannot make such a disk, or None."""
    if not loop_devices_possible():
        return "needs root and loop devices"
    if shutil.which(_MKFS[kind][0][0]) is None:
        return f"{_MKFS[kind][0][0]} is not installed"
    return None


class Disk:
    """One image file and its mount point under ``directory``; a context manager that always unmounts."""

    def __init__(self, directory: Path, kind: Kind = "ext4", size: int | None = None) -> None:
        self.kind: Kind = kind
        self.size = size or _MKFS[kind][1]
        self.image = directory / f"{kind}.image"
        self.path = directory / f"{kind}.mounted"

    def __enter__(self) -> Disk:
        command, _ = _MKFS[self.kind]
        self.path.mkdir()
        with self.image.open("wb") as image:
            image.truncate(self.size)
        _run(*command, str(self.image))
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        if os.path.ismount(self.path):
            subprocess.run(["umount", "--lazy", str(self.path)], check=False, timeout=60)
        self.image.unlink(missing_ok=True)

    def mount(self) -> None:
        _run("mount", "-t", self.kind, "-o", "loop", str(self.image), str(self.path))

    def unmount(self) -> None:
        _run("umount", str(self.path))

    def cut_power(self) -> None:
        """From here on nothing reaches the disk, and what was only in the page cache never will."""
        root = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(root, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(root)

    def power_on(self) -> None:
        """Unmount what is left and mount it again, with the journal's recovery; nothing may use it any more."""
        self.unmount()
        self.mount()


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """A disk in memory of so many bytes, mounted under ``directory``; always unmounted. Needs root."""
    path = directory / "small"
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False, timeout=60)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
