"""Whether there is room for another message, and how acks go on when there is none.

Two things can be used up. **The disk**: then even a delete fails, for the write-ahead log cannot grow, and a broker
that only refuses publishes could never be emptied. So a ballast file holds some room back. When the disk is full, or
nearly, publishes are refused and the ballast is given up to those who make room; when there is room again it is taken
back, and publishes are taken. **The quota**, where one is set: then nothing is short but the permission to store more,
and publishes alone are refused.

Each begins at one mark and ends at another, so that neither flaps.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from streambroker.core.errors import StorageFull

log = logging.getLogger(__name__)

BALLAST = "ballast"
_MIB = 1024 * 1024
_MOST_BYTES = 16 * _MIB
_LOW_BYTES = 256 * _MIB
"""Free space under which a large disk counts as full: other programs, and what the broker has to write to make room."""
_TURNS_BETWEEN_LOOKS = 64
_COMES_BACK = 0.95
"""The part of the quota under which publishes are taken again."""
_ROW_BYTES = 256
"""About what a message takes in the file beside its content."""
_RETRY_MS = 5_000


class Room:
    """Owned by the writer's thread. `quota` is in bytes of the file that are in use; 0: as much as the disk holds.

    `full` says that the disk is, `over` that the quota is used up.
    """

    def __init__(self, data_dir: Path, quota: int = 0) -> None:
        self._path = data_dir / BALLAST
        self._directory = data_dir
        disk = os.statvfs(data_dir)
        total = disk.f_frsize * disk.f_blocks
        # A small disk cannot spare as much: an eighth for the ballast, half of that as the mark.
        self._size = min(_MOST_BYTES, total // 8)
        self._low = min(_LOW_BYTES, total // 16)
        self._log_bytes = min(_MOST_BYTES, self._size // 2)
        self._turns = 0
        self.full = False
        if not self._take() or self._free() < self._low:
            self.give_up()
        self._quota = quota
        self._left = 0  # of the quota, counting what was admitted since the last look as stored
        self.over = False

    @property
    def log_bytes(self) -> int:
        """How large the write-ahead log may grow before it is moved into the file; on a full disk not at all."""
        return 0 if self.full else self._log_bytes

    @property
    def short(self) -> bool:
        """Whether publishes are refused until there is room."""
        return self.full or self.over

    def expect(self, messages: int, size: int, in_use: Callable[[], int]) -> None:
        """A turn will ask for room for so many messages, with so many bytes of content together. `in_use` tells how
        many bytes of the file are."""
        needed = size + _ROW_BYTES * messages
        if self._quota and (self.over or needed > self._left):
            used = in_use()
            self._left = self._quota - used
            self._judge(used, needed)

    def _judge(self, used: int, needed: int) -> None:
        low = used < self._quota * _COMES_BACK
        if self.over and low:
            self.over = False
            log.warning("there is room within max_stored_bytes again; publishes are taken")
        elif not self.over and not low and needed > self._left:
            self.over = True
            log.error("max_stored_bytes (%d) is used up; publishes are refused until there is room", self._quota)

    def admit(self, messages: int, size: int) -> None:
        """One publish. Raises `StorageFull` where there is no room for it."""
        if self.full:
            raise disk_full()
        if not self._quota:
            return
        needed = size + _ROW_BYTES * messages
        if self.over or needed > self._left:
            raise StorageFull(
                f"the quota of {self._quota} bytes (max_stored_bytes) is used up; nothing was stored. Consume or purge "
                "messages, or raise it",
                retry_after_ms=_RETRY_MS,
            )
        self._left -= needed

    def look(self, now: bool) -> None:
        """After a turn: refuse publishes when little of the disk is left, allow them when there is enough again.
        `now`: the file may have grown; else it is enough to look now and then."""
        self._turns += 1
        if self.full:
            if self._free() > self._size + 2 * self._low and self._take():
                self.full = False
                log.warning("there is room on the disk again; publishes are taken")
        elif (now or self._turns % _TURNS_BETWEEN_LOOKS == 0) and self._free() < self._low:
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


def disk_full() -> StorageFull:
    """The refusal on a full disk."""
    return StorageFull(
        "the disk is full; nothing was stored. Make room on it, or purge messages", retry_after_ms=_RETRY_MS
    )
