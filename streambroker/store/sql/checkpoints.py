"""When the write-ahead log is moved into the file, and how short a full disk keeps it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from streambroker.core.errors import StorageFailed
from streambroker.store.sql.room import Room, lengthen
from streambroker.store.sql.transactions import is_fatal

log = logging.getLogger(__name__)

ROW_BYTES = 1_000
"""About what one change of a row adds to the write-ahead log beside its content."""

_CHECKPOINT_BYTES = 16 * 1024 * 1024
_VACUUM_PAGES = 128
_FULL_CHUNK = 16


class Checkpoints:
    """Owned by the writer's thread. `unsaved` is about how many bytes the log got since the last checkpoint; whoever
    writes adds to it."""

    def __init__(self, connection: sqlite3.Connection, room: Room | None) -> None:
        self.unsaved = 0
        self._db = connection
        self._room = room
        self._path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        self._page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]

    def tidy(self) -> None:
        """Between turns: move the write-ahead log into the file when enough has gathered, and look for room."""
        room = self._room
        if room is None:
            if self.unsaved >= _CHECKPOINT_BYTES:
                self._checkpoint(False)
            return
        due = room.full or self.unsaved >= room.log_bytes
        if due:
            self._checkpoint(room.full)
        before = room.full
        room.look(now=due)
        if room.full and not before:
            self.now(room)

    def now(self, room: Room) -> None:
        """Room was given up on a full disk: use it, before others do.

        The log is moved into the file, so that it is written from its beginning again. Where the file would have to
        grow by more than that for it, the room is the log's.
        """
        if self._growth() > room.free():
            lengthen(self._path.with_name(f"{self._path.name}-wal"), room.reserve_bytes)
        else:
            self._checkpoint(True)

    def _checkpoint(self, full: bool) -> None:
        if full and self._room is not None and (pages := self._to_give_back(self._room)):
            # A script, for `execute` stops after the first step of a statement without columns: one page.
            self._try(lambda: self._db.executescript(f"PRAGMA incremental_vacuum({pages})"), full)
        # Also where that failed for want of room in the log: this is what makes it.
        self._try(lambda: self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall(), full)
        self.unsaved = 0

    def _try(self, step: Callable[[], object], full: bool) -> None:
        try:
            step()
        except sqlite3.Error as error:
            if is_fatal(error):
                raise StorageFailed(f"the checkpoint failed: {error} ({error.sqlite_errorname})") from error
            log.log(logging.DEBUG if full else logging.WARNING, "the checkpoint has to wait: %s", error)

    def chunk(self, limit: int) -> int:
        """How many messages to delete in one transaction: on a full disk its log has to be short."""
        return min(limit, _FULL_CHUNK) if self._room is not None and self._room.full else limit

    def in_use(self) -> int:
        """Bytes of the file that are in use; free pages are taken before it grows."""
        pages = self._db.execute("SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count")
        return int(pages.fetchone()[0]) * self._page_bytes

    def unused(self) -> int:
        """Bytes of the file that are not in use."""
        return int(self._db.execute("PRAGMA freelist_count").fetchone()[0]) * self._page_bytes

    def _to_give_back(self, room: Room) -> int:
        """How many free pages the file is better without."""
        unused, growth = self.unused(), self._growth()
        if growth > room.free():  # nothing empties the log but a smaller file, at one go: there is no room for more
            return growth // self._page_bytes + 1 if unused > growth else 0
        return _VACUUM_PAGES if room.gives_back(unused) else 0

    def _growth(self) -> int:
        """Bytes by which the file grows when the log is moved into it."""
        pages = int(self._db.execute("PRAGMA page_count").fetchone()[0])
        return pages * self._page_bytes - self._path.stat().st_size

    def close(self) -> None:
        """Checkpoint and close."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            log.warning("the last checkpoint has to wait for the next start: %s", error)
        self._db.close()
