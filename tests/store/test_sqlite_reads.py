"""What SQLite answers beside the contract of stores."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from streambroker.core.lifecycle import Event
from streambroker.core.message import Status
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import (
    Claim,
    Depth,
    DropQueue,
    Overdue,
    SaveQueue,
    Sweep,
)
from streambroker.store.sql import reads
from streambroker.store.sql.connection import DATABASE
from streambroker.store.sql.sqlite import SqliteStore
from tests.store.sqlite_files import Sqlite, ignored, opened
from tests.store.subjects import START, Bench, SpecificationSubject, count, ids, wish


def test_what_is_due_of_a_dropped_queue_is_deleted_and_not_told_of(sqlite: Sqlite) -> None:
    sqlite.publish(available_at=START + 5)
    sqlite.apply(DropQueue("q"))
    lapsed = sqlite.apply(Overdue(START + 5, 10))
    assert (lapsed.items, lapsed.next_due) == ([], None)
    assert sqlite.connection.execute("SELECT count(*) FROM message").fetchone()[0] == 0


def test_a_sweep_leaves_nothing_of_a_dropped_queue(sqlite: Sqlite) -> None:
    drafts = [sqlite.bench.draft(dedup_id=f"d{n}") for n in range(5)]
    sqlite.apply(sqlite.bench.publishing(drafts, digests=[b"1"] * 5))
    sqlite.apply(sqlite.bench.settling(*[wish(message, Event.REJECT) for message in sqlite.take(5)]))
    sqlite.apply(DropQueue("q"))
    assert [sqlite.apply(Sweep(START, 3)) for _ in range(2)] == [True, False]
    for table in ("message", "queue", "dedup", "timeline"):
        assert sqlite.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, table


async def test_a_filtered_page_that_looked_at_enough_goes_on_with_its_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "SCAN_LIMIT", 4)
    with opened(tmp_path) as sqlite:
        drafts = sqlite.publish(5, key="hay") + sqlite.publish(2, key="needle") + sqlite.publish(6, key="hay")
        sqlite.publish(1, key="needle", priority=9)
        reader = reads.Reader(tmp_path / DATABASE)
        found, sizes, cursor = [], [], None
        while True:
            page, cursor = await reader.browse("q", Status.PENDING, "needle", None, 10, cursor)
            found += page
            sizes.append(len(page))
            if cursor is None:
                break
        await reader.close()
    assert ids(found)[1:] == ids(drafts[5:7])
    assert sizes == [1, 2, 0, 0]


async def test_a_page_is_of_one_moment_though_messages_move_meanwhile(tmp_path: Path) -> None:
    with opened(tmp_path) as sqlite:
        sqlite.publish(3)
        reader = reads.Reader(tmp_path / DATABASE)
        moved = threading.Event()

        def move(*_: Any) -> None:
            """Between two statements of the page: what it saw as ready is leased, and stands further down."""
            if len(statements) == 15 and not moved.is_set():
                moved.set()
                sqlite.take(3)

        statements: list[str] = []
        event.listen(reader._engine.sync_engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
        event.listen(reader._engine.sync_engine, "before_cursor_execute", move)
        page, _ = await reader.browse("q", None, None, None, 10, None)
        await reader.close()
    assert moved.is_set()
    assert count(page) == Depth(ready=3)


async def test_a_claim_is_seen_by_readers_once_it_is_answered(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, START, ignored)
    bench = Bench(SpecificationSubject())
    await store.submit(SaveQueue("q", QueueConfig(), False, START))
    await store.submit(bench.publishing(bench.drafts(1)))
    claim: Claim = bench.claim()
    (message,) = await store.submit(claim)
    assert await store.get(message.id) == message
    await store.close()
