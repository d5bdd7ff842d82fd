"""The transactions of the connection that writes: all or nothing, durable on return, or the end of the broker."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from streambroker.core.errors import BrokerError, Internal, Overloaded, StorageFailed
from streambroker.store.figures import sync_times
from streambroker.store.sql.catalog import Catalog
from streambroker.store.sql.room import disk_full

log = logging.getLogger(__name__)
T = TypeVar("T")

_FULL = sqlite3.SQLITE_FULL
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# After these nothing is known of what is on the disk: a commit whose fsync failed may or may not come back.
_FATAL = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)


class Transactions:
    """Owned by the writer's thread. `sync_seconds` is how long the commits took that waited for the disk."""

    def __init__(self, connection: sqlite3.Connection, catalog: Catalog) -> None:
        self.sync_seconds = sync_times()
        self._db = connection
        self._catalog = catalog
        self._relaxed = False

    def run(self, body: Callable[[], T], relaxed: bool) -> T:
        """What `body` answers, committed; `relaxed`: not waiting for the disk.

        Raises `StorageFailed` when nothing is known any more; after any other error nothing has changed.
        """
        self._catalog.begin()
        try:
            if relaxed is not self._relaxed:
                self._db.execute(f"PRAGMA synchronous = {1 if relaxed else 2}")
                self._relaxed = relaxed
            self._db.execute("BEGIN IMMEDIATE")
            answer = body()
            began = perf_counter()
            self._db.execute("COMMIT")
            if not relaxed:
                self.sync_seconds.add(perf_counter() - began)
            self._catalog.commit()
            return answer
        except BaseException as error:
            self._roll_back(error)
            raise

    def _roll_back(self, error: BaseException) -> None:
        if isinstance(error, sqlite3.Error) and is_fatal(error):
            raise StorageFailed(f"the storage failed: {error} ({error.sqlite_errorname})") from error
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._catalog.undo()
        except sqlite3.Error as other:
            raise StorageFailed(f"the storage failed while it undid a transaction: {other}") from other


def is_full(error: sqlite3.Error) -> bool:
    """Whether it says that the disk is full."""
    return _code(error) == _FULL


def is_fatal(error: sqlite3.Error) -> bool:
    """Whether nothing is known of what is on the disk any more."""
    return _code(error) in _FATAL


def refusal(error: sqlite3.Error) -> BrokerError:
    """What a caller is told of an error that ended nothing but the transaction; the log has the rest."""
    code = _code(error)
    if code == _FULL:
        return disk_full()
    if code in _BUSY:
        return Overloaded("the database is busy; nothing was stored", retry_after_ms=1_000)
    log.error("the database refused a statement: %s (%s)", error, getattr(error, "sqlite_errorname", "no code"))
    return Internal("the database refused this; the broker's log says why")


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 where the error is Python's own."""
    code = getattr(error, "sqlite_errorcode", 0)
    # The index of the write-ahead log is a file too, and cannot grow on a full disk.
    return _FULL if code == sqlite3.SQLITE_IOERR_SHMSIZE else code & 0xFF
