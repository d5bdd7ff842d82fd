"""Room on the disk: how acks go on when it is full.

On a full disk even a delete fails, for the write-ahead log cannot grow: a broker that only refuses publishes then could
never be emptied. So a ballast file holds some room back. When the disk is full, or nearly, publishes are refused and
the ballast is given up to those who make room; when there is room again it is taken back, and so are publishes.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

BALLAST = "ballast"
_MOST_BYTES = 16 * 1024 * 1024
_TURNS_BETWEEN_LOOKS = 64


class Room:
    """Owned by the writer's thread. `full` says that publishes are to be refused."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / BALLAST
        self._directory = data_dir
        disk = os.statvfs(data_dir)
        self._size = min(_MOST_BYTES, disk.f_frsize * disk.f_blocks // 8)
        self._turns = 0
        self._log_bytes = min(_MOST_BYTES, self._size // 2)
        self.full = not self._take()

    @property
    def log_bytes(self) -> int:
        """How large the write-ahead log may grow before it is moved into the file; on a full disk not at all."""
        return 0 if self.full else self._log_bytes

    def look(self) -> None:
        """After a turn: refuse publishes when little is left, allow them when there is enough again."""
        self._turns += 1
        if self.full:
            if self._free() > 2 * self._size and self._take():
                self.full = False
                log.warning("there is room on the disk again; publishes are taken")
        elif self._turns % _TURNS_BETWEEN_LOOKS == 0 and self._free() < self._size // 2:
            self.give_up()

    def give_up(self) -> None:
        """The disk is full: refuse publishes, and let the others have the ballast."""
        if not self.full:
            log.error("the disk is full; publishes are refused until there is room, all else goes on")
        self.full = True
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _free(self) -> int:
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return 0
        return disk.f_frsize * disk.f_bavail

    def _take(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        return True
