"""The default store: one SQLite file, one writer, readers beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from streambroker.core.errors import StorageFailed
from streambroker.core.message import Message, Status
from streambroker.core.timeline import Record
from streambroker.store.contract import Command, Depth, Queue
from streambroker.store.groupcommit import GroupCommit
from streambroker.store.sql.connection import DATABASE, DirectoryLock, open_writer
from streambroker.store.sql.engine import SqliteEngine
from streambroker.store.sql.reads import Reader
from streambroker.store.sql.room import BALLAST, Room
from streambroker.store.sql.watching import Watching

T = TypeVar("T")


class SqliteStore:
    """See `contract.Store`. Open with `SqliteStore.open()`."""

    def __init__(
        self, lock: DirectoryLock, engine: SqliteEngine, commits: GroupCommit, reader: Reader, watching: Watching
    ) -> None:
        self._lock = lock
        self._engine = engine
        self._commits = commits
        self._reader = reader
        self.watching = watching
        self.last_id = engine.last_id()

    @classmethod
    async def open(
        cls,
        data_dir: Path,
        now: int,
        on_failure: Callable[[StorageFailed], None],
        max_stored_bytes: int = 0,
        max_stored_bytes_per_user: int = 0,
    ) -> SqliteStore:
        """Lock the directory, check and recover what is in it. Raises `DataDirUnusable` or `DataDamaged`.

        `max_stored_bytes` bounds what is in use of the file, `max_stored_bytes_per_user` the content in the queues of
        one owner; 0 is no bound.
        """
        lock = DirectoryLock(data_dir)
        try:
            (data_dir / BALLAST).unlink(missing_ok=True)  # on a full disk the opening needs room too; it is taken again
            # The check reads the whole file; the loop stays free to answer /readyz.
            engine = await asyncio.to_thread(
                lambda: SqliteEngine(
                    open_writer(data_dir), now, Room(data_dir, max_stored_bytes), max_stored_bytes_per_user
                )
            )
        except BaseException:
            lock.release()
            raise
        reader = Reader(data_dir / DATABASE)
        commits = GroupCommit(engine, on_failure)
        return cls(lock, engine, commits, reader, Watching(data_dir, engine, commits))

    def post(self, command: Command, told: Callable[[Any], None], lazy: bool = False) -> None:
        self._commits.post(command, told, lazy)

    def submit(self, command: Command) -> asyncio.Future[Any]:
        return self._commits.submit(command)

    def work(self, function: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """Run a function on the writer's connection in a transaction of its own; resolves once it is durable."""
        return self._commits.work(function)

    async def get(self, message_id: int) -> Message | None:
        return await self._reader.get(message_id)

    async def timeline(self, message_id: int) -> tuple[Message, list[Record]] | None:
        return await self._reader.timeline(message_id)

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        return await self._reader.browse(queue, status, key, contains, limit, cursor)

    async def queues(self) -> list[Queue]:
        return await self._reader.queues()

    async def depth(self, queue: str) -> Depth:
        return self._engine.catalog.depth(queue)

    async def oldest_ready(self, queue: str) -> int | None:
        return await self._reader.oldest_ready(queue)

    async def leases(self) -> list[tuple[str, str, int]]:
        return await self._reader.leases()

    async def close(self) -> None:
        await self._reader.close()
        await self._commits.close()
        self._lock.release()
