"""A log file that is replaced when it is full, and that nothing on the disk can turn into an error of the broker."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

NAME = "streambroker.log"
MAX_BYTES = 10 * 1024 * 1024
FILES = 5
"""The current one among them."""
_RETRY_S = 1.0


class RotatingFile:
    """`streambroker.log` in a directory, and up to four older ones: `.1` the youngest, `.4` the oldest.

    Owned by one thread, for it blocks. Nothing here raises: a line that cannot be written is counted, `complain` is
    told once why, and once more when lines are written again.
    """

    def __init__(
        self,
        complain: Callable[[str], None],
        *,
        max_bytes: int = MAX_BYTES,
        files: int = FILES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._complain = complain
        self._max_bytes = max_bytes
        self._files = files
        self._clock = clock
        self._path: Path | None = None
        self._directory: int | None = None
        self._file: int | None = None
        self._lost = 0
        self._torn = False
        self._again_at = 0.0

    def place(self, directory: Path) -> None:
        """Write into this directory from now on; it is made, for the broker's user alone, where there is none."""
        self._path = directory

    def write(self, line: bytes) -> None:
        """Append a line that ends with its line feed."""
        if self._lost and self._clock() < self._again_at:
            self._lost += 1
            return
        try:
            self._append(line)
        except OSError as error:
            self._failed(error)
            return
        if self._lost:
            self._complain(f"log files in {self._path} are written again; {self._lost} lines are missing in them")
            self._lost = 0

    def close(self) -> None:
        """Let go of file and directory."""
        for descriptor in (self._file, self._directory):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._directory = None

    def _append(self, line: bytes) -> None:
        file = self._ready_for(len(line))
        # A full disk may take the first half of a line: the next one begins on a line of its own.
        line = b"\n" + line if self._torn else line
        written = os.write(file, line)
        self._torn = self._torn if written == 0 else written < len(line)
        if written < len(line):
            raise OSError(0, "only a part of a line could be written, the disk is full perhaps")

    def _failed(self, error: OSError) -> None:
        if not self._lost:
            where = error.strerror or str(error)
            self._complain(f"log files in {self._path} cannot be written: {where}; the log goes on without them")
        self._lost += 1
        # Not at each line: what fails on a disk may take its time, and lines may come by the thousand.
        self._again_at = self._clock() + _RETRY_S
        self.close()

    def _ready_for(self, size: int) -> int:
        """The file to write to. One that was deleted gives up its room, and a new one takes its place."""
        if self._file is not None:
            now = os.fstat(self._file)
            if now.st_nlink and now.st_size + size <= self._max_bytes:
                return self._file
            os.close(self._file)
            self._file = None
        directory = self._open_directory()
        if _size(directory) + size > self._max_bytes:
            self._rotate(directory)
        self._file = _open_file(directory)
        return self._file

    def _open_directory(self) -> int:
        if self._directory is None:
            if self._path is None:
                raise OSError(0, "no directory was named")
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # Two that replace each other's files would lose lines.
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(directory)
                raise OSError(0, f"another broker keeps its log in {self._path}") from None
            self._directory = directory
        return self._directory

    def _rotate(self, directory: int) -> None:
        names = [NAME, *(f"{NAME}.{number}" for number in range(1, self._files))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            try:
                os.rename(newer, older, src_dir_fd=directory, dst_dir_fd=directory)
            except FileNotFoundError:
                continue


def _size(directory: int) -> int:
    try:
        return os.stat(NAME, dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _open_file(directory: int) -> int:
    """The log, by its descriptor; raises `OSError` where something else stands under its name."""
    # O_NONBLOCK only so that a pipe of that name cannot hold us; it means nothing to a file.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(NAME, flags, 0o600, dir_fd=directory)
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, f"{NAME} is not a regular file")
        if stat.S_IMODE(mode) != 0o600:
            os.fchmod(file, 0o600)
    except OSError:
        os.close(file)
        raise
    return file
