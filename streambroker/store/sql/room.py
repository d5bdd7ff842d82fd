"""Whether there is room for another message, and how acks go on when there is none.

Two things can be used up. **The disk**: then even a delete fails, for the write-ahead log cannot grow, and a broker
that only refuses publishes could never be emptied. So a ballast file holds some room back. When the disk is full, or
nearly, publishes are refused and the ballast is given up to those who make room; when there is room again it is taken
back, and publishes are taken. Should other programs have taken the ballast's room, a smaller reserve is left: it is
given up only for what an admin needs to get in and to delete. What the file holds of free pages is room too, which
nobody else can take: publishes go on in them. **The quota**, where one is set: then nothing is short but the
permission to store more, and publishes alone are refused.

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
RESERVE = "reserve"
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
_INDEX_BYTES = 64 * 1024


class Room:
    """Owned by the writer's thread. `quota` is in bytes of the file that are in use; 0: as much as the disk holds.

    `full` says that the disk is, `inside` that publishes go on all the same, in the file's free pages; `over` that the
    quota is used up.
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
        self._healthy = self._size + 2 * self._low
        self._turns = 0
        self.full = self.inside = False
        self._pages_left = 0  # bytes of the file's free pages, as `_left`
        if not _take(self._path, self._size) or self.free() < self._low:
            self.give_up()
        self._reserve = data_dir / RESERVE
        self._has_reserve = self._reserve.exists() if self.full else _take(self._reserve, self._log_bytes)
        self._quota = quota
        self._left = 0  # of the quota, counting what was admitted since the last look as stored
        self.over = False

    @property
    def log_bytes(self) -> int:
        """How large the write-ahead log may grow before it is moved into the file; on a full disk not at all."""
        return 0 if self.full else self._log_bytes

    @property
    def reserve_bytes(self) -> int:
        """How much is held back for admins: as much as the log holds mostly, so that it can be moved into the file."""
        return self._log_bytes

    @property
    def disk_refuses(self) -> bool:
        """Whether publishes are refused because the disk is full."""
        return self.full and not self.inside

    @property
    def short(self) -> bool:
        """Whether publishes are refused until there is room."""
        return self.disk_refuses or self.over

    def expect(self, messages: int, size: int, in_use: Callable[[], int], unused: Callable[[], int]) -> None:
        """A turn will ask for room for so many messages, with so many bytes of content together. `in_use` tells how
        many bytes of the file are, `unused` how many are not."""
        needed = size + _ROW_BYTES * messages
        if self.full:
            free_pages = unused()
            # The last ones are for those who make room.
            self._pages_left = free_pages - self._log_bytes
            self._go_inside(free_pages, needed)
        if self._quota and (self.over or needed > self._left):
            used = in_use()
            self._left = self._quota - used
            self._judge(used, needed)

    def _go_inside(self, free_pages: int, needed: int) -> None:
        much = free_pages >= self._size
        if not self.inside and much:
            self.inside = True
            log.warning("the disk is full; publishes are taken into free pages of the database")
        elif self.inside and not much and needed > self._pages_left:
            self.inside = False
            log.error("the disk is full, and the database has no free pages left; publishes are refused until it has")

    def _judge(self, used: int, needed: int) -> None:
        low = used < self._quota * _COMES_BACK
        if self.over and low:
            self.over = False
            log.warning("there is room within max_stored_bytes again; publishes are taken")
        elif not self.over and not low and needed > self._left:
            self.over = True
            log.error("max_stored_bytes (%d) is used up; publishes are refused until there is room", self._quota)

    def reconsider(self, in_use: Callable[[], int]) -> None:
        """What was used up may have come back, which those who only look on want to know too. `in_use` as above."""
        if self.over:
            self._judge(in_use(), 0)

    def admit(self, messages: int, size: int) -> None:
        """One publish. Raises `StorageFull` where there is no room for it."""
        needed = size + _ROW_BYTES * messages
        if self.full:
            if not self.inside or needed > self._pages_left:
                raise disk_full()
            self._pages_left -= needed
        if not self._quota:
            return
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
            self._come_back()
        elif (now or self._turns % _TURNS_BETWEEN_LOOKS == 0) and self.free() < self._low:
            self.give_up()

    def _come_back(self) -> None:
        free = self.free()
        if not self._has_reserve and free > 2 * self._log_bytes:
            self._has_reserve = _take(self._reserve, self._log_bytes)
        if free > self._healthy and self._has_reserve and _take(self._path, self._size):
            self.full = self.inside = False
            log.warning("there is room on the disk again; publishes are taken")

    def gives_back(self, unused: int) -> bool:
        """Whether free pages of the file, so many bytes of them, are better given to a full disk: where it is then full
        no more, or the write-ahead log could not grow else. Other programs may take what it gets."""
        free = self.free()
        return free + unused > self._healthy + self._size or (unused > self._size and free < 2 * self._log_bytes)

    def give_up(self) -> None:
        """The disk is full: refuse publishes, and let the others have the ballast."""
        if not self.full:
            log.error("the disk is full; publishes are refused until there is room, all else goes on")
        self.full = True
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def give_up_reserve(self) -> bool:
        """On a full disk on which the ballast was not enough; whether there was a reserve."""
        if not self._has_reserve:
            return False
        self._has_reserve = False
        log.error("other programs have taken the ballast's room on the full disk; the reserve is given up")
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        return True

    def free(self) -> int:
        """Bytes that the disk has left for us."""
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return 0
        return disk.f_frsize * disk.f_bavail


def _take(path: Path, size: int) -> bool:
    """Hold so many bytes of the disk in that file; False where they are not to be had."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return False
    return True


def lengthen(log_file: Path, size: int) -> None:
    """Hold so many bytes of the disk at the end of a write-ahead log. They are zeros, which no frame is."""
    with contextlib.suppress(OSError):
        descriptor = os.open(log_file, os.O_RDWR | os.O_CLOEXEC)
        try:
            # A little is left for the log's index, which grows with it.
            os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, max(1, size - _INDEX_BYTES))
        finally:
            os.close(descriptor)


def disk_full() -> StorageFull:
    """The refusal on a full disk."""
    return StorageFull(
        "the disk is full; nothing was stored. Make room on it, or purge messages", retry_after_ms=_RETRY_MS
    )
