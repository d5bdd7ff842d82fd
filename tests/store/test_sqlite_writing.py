"""How turns get to the disk, and what happens where they do not."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streambroker.core.errors import (
    Internal,
    Overloaded,
    StorageFailed,
    StorageFull,
)
from streambroker.core.lifecycle import Event
from streambroker.core.message import State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import (
    Command,
    Delete,
    Depth,
    DropQueue,
    Overdue,
    SaveQueue,
    Settle,
)
from streambroker.store.sql import checkpoints
from streambroker.store.sql.connection import DATABASE
from tests.store.sqlite_files import Sqlite
from tests.store.subjects import START, ids, wish

# -- durability --------------------------------------------------------------------------------------------------------


def synchronous(sqlite: Sqlite, *commands: Command) -> int:
    """The level of `PRAGMA synchronous` that a turn was committed with."""
    sqlite.turn(*commands)
    level: int = sqlite.pragma("synchronous")
    return level


def test_turns_of_memory_queues_do_not_wait_for_the_disk_and_all_others_do(sqlite: Sqlite) -> None:
    normal, full = 1, 2
    sqlite.save("memory", durability="memory")
    bench = sqlite.bench

    def publishing(queue: str) -> Command:
        return bench.publishing([bench.draft()], queue)

    assert synchronous(sqlite, publishing("q")) == full
    assert synchronous(sqlite, publishing("memory")) == normal
    assert synchronous(sqlite, publishing("memory"), publishing("q")) == full
    (message,) = sqlite.apply(bench.claim("memory"))
    assert sqlite.pragma("synchronous") == normal
    ack = bench.settling(wish(message, Event.ACK))
    assert synchronous(sqlite, ack) == full  # nobody said that it is of a memory queue
    relaxed = type(ack)(ack.items, ack.now, relaxed=True)
    assert synchronous(sqlite, relaxed) == normal
    assert synchronous(sqlite, relaxed, publishing("q")) == full
    assert synchronous(sqlite, Overdue(START, 10)) == full
    sqlite.turn(publishing("memory"))
    sqlite.engine.work(lambda connection: connection.execute("SELECT 1"))
    assert sqlite.pragma("synchronous") == full
    sqlite.turn(publishing("memory"))
    sqlite.save("memory", durability="fsync")
    assert synchronous(sqlite, publishing("memory")) == full


def test_the_level_changes_before_the_transaction_and_only_when_it_must(sqlite: Sqlite) -> None:
    sqlite.save("memory", durability="memory")
    sqlite.trace()
    sqlite.publish(queue="memory")
    sqlite.publish(queue="memory")
    sqlite.publish()
    steps = [s for s in sqlite.statements if s.startswith(("PRAGMA", "BEGIN", "COMMIT"))]
    transaction = ["BEGIN IMMEDIATE", "COMMIT"]
    assert steps == ["PRAGMA synchronous = 1", *transaction, *transaction, "PRAGMA synchronous = 2", *transaction]


def test_a_turn_is_one_transaction_in_few_statements(sqlite: Sqlite) -> None:
    sqlite.publish(100)
    held = sqlite.take(50)
    sqlite.trace()
    bench = sqlite.bench
    sqlite.turn(
        *[bench.publishing([bench.draft()]) for _ in range(64)],
        bench.settling(*[wish(message, Event.ACK) for message in held]),
        bench.claim(limit=100),
    )
    # BEGIN, one INSERT, the standings and the ack, the select and the lease, COMMIT.
    assert len([s for s in sqlite.statements if not s.startswith("--")]) == 7, sqlite.statements


def test_a_message_that_is_delivered_once_never_touches_the_timelines(sqlite: Sqlite) -> None:
    sqlite.trace()
    bench = sqlite.bench
    at_once = sqlite.turn(bench.publishing([bench.draft()], claims=[bench.claim()]))[0].claimed[0]
    sqlite.publish(3)
    held = [*at_once, *sqlite.take(3)]
    sqlite.apply(bench.settling(*[wish(message, Event.EXTEND, until=START + 9) for message in held]))
    sqlite.apply(Settle([wish(message, Event.ACK) for message in held[:2]], START, queue="q"))
    sqlite.apply(bench.settling(*[wish(message, Event.ACK) for message in held[2:]]))
    assert sqlite.recount() == Depth(processed=4)
    assert [statement for statement in sqlite.statements if "timeline" in statement] == []
    sqlite.publish()
    sqlite.apply(bench.settling(wish(sqlite.take()[0], Event.REQUEUE)))
    assert [statement for statement in sqlite.statements if "timeline" in statement] != []


def test_the_log_moves_into_the_file_when_enough_has_gathered(
    sqlite: Sqlite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = sqlite.publish(50, content=b"x" * 1_000)
    sqlite.engine.tidy()  # not enough yet
    monkeypatch.setattr(checkpoints, "_CHECKPOINT_BYTES", 100_000)

    def in_the_file() -> int:
        shutil.copy(sqlite.directory / DATABASE, tmp_path / "copy.db")
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            tables = copy.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'message'").fetchone()[0]
            found: int = copy.execute("SELECT count(*) FROM message").fetchone()[0] if tables else 0
            return found

    assert in_the_file() == 0
    drafts += sqlite.publish(10)
    sqlite.engine.tidy()
    assert in_the_file() == len(drafts)


# -- a command that fails ----------------------------------------------------------------------------------------------


def same_id(sqlite: Sqlite) -> Command:
    (draft,) = sqlite.publish()
    return sqlite.bench.publishing([sqlite.bench.draft(), draft])


def lone_surrogate(sqlite: Sqlite) -> Command:
    return sqlite.bench.publishing([sqlite.bench.draft(), sqlite.bench.draft(key="\ud800")])


def wrong_type(sqlite: Sqlite) -> Command:
    return sqlite.bench.publishing([sqlite.bench.draft(), sqlite.bench.draft(key=object())])


def too_large_a_number(sqlite: Sqlite) -> Command:
    return sqlite.bench.publishing([sqlite.bench.draft(), sqlite.bench.draft(expires_at=2**63)])


@pytest.mark.parametrize("failing", [same_id, lone_surrogate, wrong_type, too_large_a_number])
@pytest.mark.parametrize("alone", [True, False])
def test_a_command_that_fails_in_the_database_fails_alone(sqlite: Sqlite, failing: Any, alone: bool) -> None:
    bench = sqlite.bench
    sqlite.publish(4, priority=1)
    held = sqlite.take(2)
    bad = failing(sqlite)
    before = sqlite.recount()
    if alone:
        assert isinstance(sqlite.apply(bad), Internal)
        assert sqlite.recount() == before
    else:
        good = bench.drafts(2)
        answers = sqlite.turn(
            bench.publishing(good[:1]),
            bad,
            bench.publishing(good[1:], claims=[bench.claim()]),
            bench.settling(wish(held[0], Event.ACK), wish(held[1], Event.REJECT)),
            SaveQueue("new", QueueConfig(dead_letter_queue="dead"), False, START),
            bench.claim(limit=1),
            Delete(good[0].id),
            DropQueue("unknown"),
        )
        assert [type(answer) for answer in answers].count(Internal) == 1
        assert isinstance(answers[1], Internal)
        assert [answer.ids for answer in (answers[0], answers[2])] == [[good[0].id], [good[1].id]]
        assert [item.state for item in answers[3]] == [State.PROCESSED, State.FAILED]
        assert answers[6].refusal is None
        assert sqlite.engine.catalog.by_name.keys() == {"q", "new", "dead"}
    sqlite.check_counts()
    assert sqlite.publish()  # and the next turn begins a transaction of its own


def test_a_queue_that_was_rolled_back_is_not_remembered(sqlite: Sqlite) -> None:
    def create_and_fail(_: sqlite3.Connection) -> None:
        sqlite.engine.catalog.save(SaveQueue("ghost", QueueConfig(), False, START))
        sqlite.engine.catalog.drop(DropQueue("q"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        sqlite.engine.work(create_and_fail)
    assert sqlite.engine.catalog.by_name.keys() == {"q"}
    sqlite.publish()


def test_an_error_tells_nothing_of_the_database(sqlite: Sqlite) -> None:
    error = sqlite.apply(same_id(sqlite))
    assert "message" not in error.detail.lower()
    assert "UNIQUE" not in error.detail


def test_a_database_that_somebody_else_writes_to_is_overloaded_and_goes_on_afterwards(sqlite: Sqlite) -> None:
    sqlite.connection.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(sqlite.directory / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert isinstance(sqlite.apply(sqlite.bench.publishing(sqlite.bench.drafts(1))), Overloaded)
    sqlite.publish()


# -- a full disk -------------------------------------------------------------------------------------------------------


def fill(sqlite: Sqlite) -> None:
    """Give the file no page more, and publish until nothing fits any more."""
    sqlite.connection.execute(f"PRAGMA max_page_count = {sqlite.pragma('page_count')}")
    for size in (4_000, 400, 40):
        while not isinstance(sqlite.apply(sqlite.bench.publishing([sqlite.bench.draft(b"x" * size)])), StorageFull):
            pass


def test_a_full_disk_refuses_the_publish_and_takes_the_acks(sqlite: Sqlite) -> None:
    sqlite.publish(40, content=b"x" * 2_000)
    held = sqlite.take(20)
    fill(sqlite)
    bench = sqlite.bench
    for message in held[:5]:
        full, settled = sqlite.turn(
            bench.publishing(bench.drafts(3, content=b"x" * 9_000)), bench.settling(wish(message, Event.ACK))
        )
        assert isinstance(full, StorageFull)
        assert full.retry_after_ms
        assert settled[0].state is State.PROCESSED
    for event_, message in zip((Event.ACK, Event.REQUEUE, Event.REJECT, Event.RELEASE) * 3, held[5:17], strict=True):
        (settled,) = sqlite.apply(bench.settling(wish(message, event_, delay_ms=0)))
        assert settled.refusal is None
    sqlite.check_counts()


def test_publishing_goes_on_when_there_is_room_again(sqlite: Sqlite) -> None:
    sqlite.publish(40, content=b"x" * 2_000)
    held = sqlite.take(20)
    fill(sqlite)
    for message in held:
        assert sqlite.apply(Delete(message.id)).refusal is None
    sqlite.publish(10, content=b"x" * 2_000)
    much = sqlite.bench.drafts(100, content=b"x" * 2_000)
    assert isinstance(sqlite.apply(sqlite.bench.publishing(much)), StorageFull)
    sqlite.connection.execute("PRAGMA max_page_count = 1000000")
    assert sqlite.apply(sqlite.bench.publishing(much)).ids == ids(much)


# -- fail-stop ---------------------------------------------------------------------------------------------------------


def test_a_database_that_cannot_be_written_any_more_stops_everything(sqlite: Sqlite) -> None:
    sqlite.connection.execute("PRAGMA query_only = 1")
    bench = sqlite.bench
    for commands in ([bench.publishing(bench.drafts(1))], [bench.publishing(bench.drafts(1)) for _ in range(3)]):
        with pytest.raises(StorageFailed):
            sqlite.turn(*commands)
    with pytest.raises(StorageFailed):
        sqlite.engine.work(lambda connection: connection.execute("DELETE FROM message"))
    sqlite.connection.rollback()
    assert sqlite.recount() == Depth()


def test_a_file_that_is_damaged_under_the_running_broker_stops_everything(tmp_path: Path) -> None:
    sqlite = Sqlite(tmp_path)
    sqlite.publish(300, content=b"x" * 500)
    sqlite.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 40)
    sqlite.connection.execute("PRAGMA shrink_memory")
    with pytest.raises(StorageFailed):
        sqlite.take(300)
    sqlite.connection.close()
