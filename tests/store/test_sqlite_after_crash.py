"""What the file holds after a crash, and what the next start makes of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from streambroker.core.errors import (
    Internal,
)
from streambroker.core.lifecycle import Event
from streambroker.core.message import State
from streambroker.core.policy import QueueConfig
from streambroker.core.timeline import RESTARTED, Mark
from streambroker.store.contract import (
    Delete,
    Depth,
    DropQueue,
    Overdue,
    Purge,
    SaveQueue,
    Sweep,
)
from streambroker.store.sql.connection import open_writer
from streambroker.store.sql.engine import SqliteEngine
from streambroker.store.sql.sqlite import SqliteStore
from streambroker.store.sql.statements import OLDEST, OLDEST_WEIGHED
from tests.store.sqlite_files import Sqlite, crashed, ignored, opened
from tests.store.subjects import START, Bench, SpecificationSubject, wish


def test_all_that_was_answered_is_there_after_a_crash(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(20)
    held = sqlite.take(6)
    sqlite.apply(sqlite.bench.settling(*[wish(message, Event.ACK) for message in held[:3]]))
    expected = sqlite.recount()
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        assert again.recount() == again.engine.catalog.depth("q") == expected
        settled = again.apply(again.bench.settling(*[wish(message, Event.ACK) for message in held]))
        assert [item.already for item in settled] == [True] * 3 + [False] * 3
        assert [item.refusal for item in settled] == [None] * 6


def test_session_leases_are_given_back_after_a_crash_and_fixed_ones_run_on(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(2, expires_at=START + 9_000)
    (session,), (fixed,) = sqlite.take(lease_ms=None), sqlite.take(lease_ms=100)
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        rows = again.connection.execute("SELECT id, state, due_at, failures, lease FROM message ORDER BY id").fetchall()
        assert rows == [
            (session.id, State.READY, START + 9_000, 0, session.lease),
            (fixed.id, State.LEASED, START + 100, 0, fixed.lease),
        ]


@pytest.mark.parametrize("set_back", [0, 1, 5_000])
def test_a_lease_is_never_longer_than_it_was_given_when_the_clock_was_set_back(
    sqlite: Sqlite, tmp_path: Path, set_back: int
) -> None:
    sqlite.publish()
    sqlite.take(lease_ms=100)
    now = START - set_back
    with closing(SqliteEngine(open_writer(crashed(sqlite, tmp_path / "crashed")), now)) as engine:
        assert engine.turn([Overdue(now, 10)])[0].next_due == now + 100


def test_a_record_is_there_after_a_crash_with_the_change_that_it_tells_of(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(2)
    (requeued,), (session,) = sqlite.take(), sqlite.take(lease_ms=None)
    sqlite.apply(sqlite.bench.settling(wish(requeued, Event.REQUEUE, reason="busy")))
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        rows = again.connection.execute("SELECT message_id, mark, attempt, error FROM timeline").fetchall()
        assert rows == [
            (requeued.id, Mark.REQUEUED, 1, "busy"),
            (session.id, Mark.RELEASED, 1, RESTARTED),
        ]


def test_a_record_is_undone_with_the_change_that_it_tells_of(sqlite: Sqlite) -> None:
    drafts = sqlite.publish(2)
    held = sqlite.take(2)
    sqlite.connection.execute(
        f"CREATE TRIGGER refusing BEFORE INSERT ON timeline WHEN new.message_id = {drafts[1].id} "
        "BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    answers = sqlite.turn(*[sqlite.bench.settling(wish(message, Event.REQUEUE)) for message in held])
    assert isinstance(answers[1], Internal)
    states = dict(sqlite.connection.execute("SELECT id, state FROM message").fetchall())
    assert states == {drafts[0].id: State.DELAYED, drafts[1].id: State.LEASED}
    assert sqlite.connection.execute("SELECT message_id FROM timeline").fetchall() == [(drafts[0].id,)]


def test_a_dropped_queue_that_was_not_swept_is_swept_after_a_crash(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(3)
    sqlite.apply(DropQueue("q"))
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        assert again.apply(Sweep(START, 10)) is False
        assert again.connection.execute("SELECT count(*) FROM message WHERE queue_id = 1").fetchone()[0] == 0


@pytest.mark.parametrize("way", ["deleted", "purged", "retired", "swept"])
def test_the_newest_id_is_known_after_a_crash_though_its_message_is_gone(
    sqlite: Sqlite, tmp_path: Path, way: str
) -> None:
    sqlite.save("other")
    sqlite.publish()
    (newest,) = sqlite.publish(queue="other")
    match way:
        case "deleted":
            sqlite.apply(Delete(newest.id))
        case "purged":
            assert sqlite.apply(Purge("other", (State.READY,), 10)) == 1
        case "retired":
            (held,) = sqlite.take(queue="other")
            sqlite.apply(sqlite.bench.settling(wish(held, Event.ACK)))
            sqlite.apply(Overdue(sqlite.bench.now + 2 * QueueConfig().retention_ms, 10))
        case "swept":
            sqlite.apply(DropQueue("other"))
            sqlite.apply(Sweep(sqlite.bench.now, 10))
    assert sqlite.connection.execute("SELECT id FROM message WHERE id = ?", (newest.id,)).fetchall() == []
    with opened(crashed(sqlite, tmp_path / "after")) as after:
        assert after.engine.last_id() == newest.id


def test_deleting_what_is_not_the_newest_keeps_nothing(sqlite: Sqlite) -> None:
    first, newest = sqlite.publish(2)
    sqlite.apply(Delete(first.id))
    assert sqlite.connection.execute("SELECT count(*) FROM totals").fetchone()[0] == 0
    assert sqlite.engine.last_id() == newest.id


def test_an_id_that_was_dropped_for_an_older_one_is_not_made_again(sqlite: Sqlite) -> None:
    sqlite.save("few", max_messages=1, overflow="drop_oldest")
    older, newest = sqlite.bench.drafts(2)
    for draft in (newest, older):  # they were made in one order and came in the other
        sqlite.apply(sqlite.bench.publishing([draft], "few"))
    assert sqlite.recount("few") == Depth(ready=1)
    assert sqlite.engine.last_id() == newest.id


def test_the_oldest_are_found_without_reading_all_that_wait(sqlite: Sqlite) -> None:
    for statement in (OLDEST, OLDEST_WEIGHED):
        steps = [row[3] for row in sqlite.connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1, 0))]
        assert [step for step in steps if "B-TREE" in step or step.startswith("SCAN message")] == []
        assert len([step for step in steps if step.startswith("SEARCH message")]) == 10


async def test_the_newest_id_is_known_after_a_restart(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, START, ignored)
    assert store.last_id == 0
    await store.submit(SaveQueue("q", QueueConfig(), False, START))
    bench = Bench(SpecificationSubject())
    drafts = bench.drafts(2)
    await store.submit(bench.publishing(drafts))
    await store.close()
    store = await SqliteStore.open(tmp_path, START, ignored)
    assert store.last_id == drafts[-1].id
    await store.close()
