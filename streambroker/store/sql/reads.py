"""Reads beside the writer: SQLAlchemy's async engine over connections that cannot write.

Every read is one short transaction: a reader that stays open would keep the write-ahead log from being reused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.ext.asyncio import create_async_engine

from streambroker.core.message import STATES_OF, Message, State, Status, weight
from streambroker.core.policy import QueueConfig
from streambroker.core.timeline import Record
from streambroker.store import paging
from streambroker.store.contract import Queue
from streambroker.store.sql import timeline
from streambroker.store.sql.statements import CONTENT, MESSAGE_COLUMNS, message

SCAN_LIMIT = 20_000
"""How many messages one page of a filtered browse looks at: a rare needle in a long queue takes several pages."""
PAGE_BYTES = 8 * 1024 * 1024
"""About how much content one page holds; one message always fits."""
# The driver hands over all rows of a statement at once, so each asks for no more than about so much content.
_PORTION_BYTES = 4 * 1024 * 1024
_FIRST_ROWS, _MOST_ROWS = 8, 2_000

_NAME = "(SELECT name FROM queue WHERE queue.id = message.queue_id)"
_GET = text(f"SELECT {MESSAGE_COLUMNS}, {_NAME} AS queue_name FROM message WHERE message.id = :id")
_TIMELINE = text(timeline.SELECT)
_QUEUES = text("SELECT name, config, paused, created_at, owner FROM queue WHERE name IS NOT NULL ORDER BY name")
_LEASES = text(
    "SELECT name, holder, count(*) FROM queue CROSS JOIN message ON queue_id = queue.id AND state = 2 "
    "WHERE name IS NOT NULL GROUP BY queue.id, holder ORDER BY name, holder"
)
_QUEUE_ID = text("SELECT id FROM queue WHERE name = :name")
_OLDEST_READY = " UNION ALL ".join(
    "SELECT * FROM (SELECT created_at FROM message WHERE queue_id = :queue AND state = 0 "
    f"AND priority = {priority} ORDER BY id LIMIT 1)"
    for priority in range(10)
)
_OLDEST = text(f"SELECT min(created_at) FROM ({_OLDEST_READY})")
# One step along the index: the rows of one state and priority in the order of delivery, from a position on.
_WHERE = "FROM message WHERE queue_id = :queue AND state = :state AND priority = :priority AND id > :id"
_STEP = text(f"SELECT {MESSAGE_COLUMNS}, 1 {_WHERE} ORDER BY id LIMIT :limit")
_FITS = f'(:key IS NULL OR "key" = :key) AND (:contains IS NULL OR instr({CONTENT}, :contains) > 0)'
_STEP_FILTERED = text(f"SELECT {MESSAGE_COLUMNS}, {_FITS} {_WHERE} ORDER BY id LIMIT :limit")


class Reader:
    """A small pool of read-only connections to the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(path)), pool_size=2, max_overflow=2, hide_parameters=True
        )
        event.listen(self._engine.sync_engine, "connect", _read_only)

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def get(self, message_id: int) -> Message | None:
        """See `contract.Store`."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(_GET, {"id": message_id})).fetchone()
        return message(row, row[-1]) if row and row[-1] is not None else None

    async def timeline(self, message_id: int) -> tuple[Message, list[Record]] | None:
        """See `contract.Store`."""
        async with self._engine.connect() as connection:
            return await connection.run_sync(_timeline, message_id)

    async def queues(self) -> list[Queue]:
        """See `contract.Store`."""
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_QUEUES)).fetchall()
        return [Queue(n, msgspec.json.decode(c, type=QueueConfig), bool(p), at, owner) for n, c, p, at, owner in rows]

    async def leases(self) -> list[tuple[str, str, int]]:
        """See `contract.Store`."""
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LEASES)).fetchall()
        return [(queue, holder, count) for queue, holder, count in rows]

    async def oldest_ready(self, queue: str) -> int | None:
        """See `contract.Store`; ten looks into the index, one for each priority."""
        async with self._engine.connect() as connection:
            number = (await connection.execute(_QUEUE_ID, {"name": queue})).scalar()
            found: int | None = (await connection.execute(_OLDEST, {"queue": number})).scalar()
        return found

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        """See `contract.Store`."""
        after = paging.parse(cursor)
        states = STATES_OF[status] if status else tuple(State)
        async with self._engine.connect() as connection:
            return await connection.run_sync(_browse, queue, states, key, contains, limit, after)


def _browse(
    connection: Connection,
    queue: str,
    states: tuple[State, ...],
    key: str | None,
    contains: bytes | None,
    limit: int,
    after: paging.Position | None,
) -> tuple[list[Message], str | None]:
    # The driver begins no transaction for a SELECT, and without one a message that moves would be seen twice.
    connection.exec_driver_sql("BEGIN")
    number = connection.execute(_QUEUE_ID, {"name": queue}).scalar()
    filtered = key is not None or contains is not None
    found: list[Message] = []
    looked = size = 0
    portion = _FIRST_ROWS
    for state, priority, last in _steps(states, after):
        where: dict[str, Any] = {"queue": number, "state": int(state), "priority": priority, "id": last}
        if filtered:
            where |= {"key": key, "contains": contains}
        while True:
            where["limit"] = min(portion, SCAN_LIMIT - looked if filtered else limit - len(found) + 1)
            rows = connection.execute(_STEP_FILTERED if filtered else _STEP, where).fetchall()
            weighed = 0
            for row in rows:
                looked += 1
                candidate = message(row, queue)
                own = weight(candidate.content, candidate.attributes)
                weighed += own
                if row[-1]:
                    if len(found) == limit or (found and size + own > PAGE_BYTES):
                        return found, paging.cursor(found[-1])
                    found.append(candidate)
                    size += own
                if filtered and looked == SCAN_LIMIT:
                    return found, paging.cursor(candidate)
            if len(rows) < where["limit"]:
                break
            where["id"] = rows[-1].id
            portion = min(_MOST_ROWS, max(1, _PORTION_BYTES * len(rows) // max(weighed, 1)))
    return found, None


def _timeline(connection: Connection, message_id: int) -> tuple[Message, list[Record]] | None:
    connection.exec_driver_sql("BEGIN")  # as in `_browse`
    row = connection.execute(_GET, {"id": message_id}).fetchone()
    if row is None or row[-1] is None:
        return None
    records = [timeline.record(kept) for kept in connection.execute(_TIMELINE, {"id": message_id})]
    return message(row, row[-1]), records


def _steps(states: tuple[State, ...], after: paging.Position | None) -> Iterator[tuple[State, int, int]]:
    """State, priority and the id to go on from, in the order of `paging.position`."""
    for state in states:
        for priority in range(9, -1, -1):
            if after is None or (state, -priority) > after[:2]:
                yield state, priority, 0
            elif (state, -priority) == after[:2]:
                yield state, priority, after[2]


def _read_only(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = 1")
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()
