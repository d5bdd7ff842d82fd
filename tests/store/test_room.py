"""Whether there is room: what the quota and the disk allow, what is said otherwise, and that neither flaps."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streambroker.core.errors import StorageFull
from streambroker.core.lifecycle import Event
from streambroker.core.message import State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import Command, Delete, Published, Purge, SaveQueue
from streambroker.store.sql.connection import open_writer
from streambroker.store.sql.engine import SqliteEngine
from streambroker.store.sql.room import BALLAST, RESERVE, Room
from tests.store.subjects import START, Bench, SpecificationSubject, wish

MIB = 1024 * 1024
QUOTA = 2 * MIB


class Volume:
    """What `statvfs` says of a disk, as a test wants it."""

    class Numbers(NamedTuple):
        f_frsize: int
        f_blocks: int
        f_bavail: int

    def __init__(self, size: int, free: int) -> None:
        self.size = size
        self.free = free

    def __call__(self, path: object) -> Numbers:
        return self.Numbers(1, self.size, self.free)


class Store:
    """An engine with room, and what a client does to it; each turn is tidied up after, as the writer does."""

    def __init__(self, directory: Path, quota: int) -> None:
        self.engine = SqliteEngine(open_writer(directory), START, Room(directory, quota))
        self.bench = Bench(SpecificationSubject())
        self.apply(SaveQueue("q", QueueConfig(), False, START))

    def turn(self, *commands: Command) -> list[Any]:
        answers = self.engine.turn(commands)
        self.engine.tidy()
        return answers

    def apply(self, command: Command) -> Any:
        (answer,) = self.turn(command)
        return answer

    def publish(self, size: int = 4_000, count: int = 1) -> Any:
        return self.apply(self.bench.publishing([self.bench.draft(b"x" * size) for _ in range(count)]))

    def fill(self, size: int = 4_000) -> StorageFull:
        """Publish until it is refused."""
        for _ in range(10_000):
            answer = self.publish(size, count=20 if size < 100 else 1)
            if isinstance(answer, StorageFull):
                return answer
        raise AssertionError("it was never full")

    def take(self, limit: int = 1_000) -> Any:
        return self.apply(self.bench.claim(limit=limit))

    @property
    def in_use(self) -> int:
        return self.engine._checkpoints.in_use()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, QUOTA)
    with closing(store.engine):
        yield store


# -- the quota ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 300, 4_000, 100_000])
def test_publishes_are_refused_at_the_quota_and_say_which_it_is(store: Store, size: int) -> None:
    refused = store.fill(size)
    assert f"the quota of {QUOTA} bytes (max_stored_bytes)" in refused.detail
    assert refused.retry_after_ms
    assert 0.9 * QUOTA < store.in_use <= 1.02 * QUOTA


def test_a_turn_does_not_store_much_more_than_there_is_room_for(store: Store) -> None:
    bench = store.bench
    answers = store.turn(*[bench.publishing(bench.drafts(20, content=b"x" * 1_000)) for _ in range(400)])
    assert {type(answer) for answer in answers} == {Published, StorageFull}
    assert store.in_use <= 1.15 * QUOTA  # rows do not fill their pages; the next turn measures


def test_all_else_goes_on_at_the_quota(store: Store) -> None:
    store.fill()
    first, second, third, fourth = store.take(4)
    settled = store.apply(
        store.bench.settling(
            wish(first, Event.ACK), wish(second, Event.REQUEUE), wish(third, Event.REJECT), wish(fourth, Event.EXTEND)
        )
    )
    assert [one.refusal for one in settled] == [None] * 4
    assert store.apply(Delete(fourth.id)).refusal is None
    assert store.apply(Purge("q", (State.READY,), 10)) == 10
    assert store.engine.work(lambda db: db.execute("SELECT 1").fetchone()) == (1,)


def test_where_room_is_short_attempts_end_without_a_record_of_it(store: Store) -> None:
    store.publish()
    (first,) = store.take(1)
    store.apply(store.bench.settling(wish(first, Event.REQUEUE)))
    store.fill()
    (second,) = store.take(1)
    assert store.apply(store.bench.settling(wish(second, Event.REQUEUE)))[0].refusal is None
    rows = store.engine.work(lambda db: db.execute("SELECT message_id FROM timeline").fetchall())
    assert rows == [(first.id,)]


def test_publishes_come_back_under_the_low_mark_and_not_before(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.fill()
    while store.in_use > 0.96 * QUOTA:
        assert isinstance(store.publish(), StorageFull)
        assert isinstance(store.publish(1), StorageFull)
        assert store.apply(Purge("q", (State.READY,), 1)) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    store.apply(Purge("q", (State.READY,), 20))
    for _ in range(10):
        assert isinstance(store.publish(), Published)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_room_that_was_made_meanwhile_is_seen_by_the_very_next_publish(store: Store) -> None:
    store.fill()
    store.apply(Purge("q", (State.READY,), 10_000))
    assert isinstance(store.publish(QUOTA // 2), Published)


def test_one_that_is_too_large_for_what_is_left_is_refused_alone(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.publish(QUOTA // 2)
    for _ in range(3):
        assert isinstance(store.publish(QUOTA // 2), StorageFull)
        assert isinstance(store.publish(100), Published)
    assert not caplog.records


def test_processed_messages_go_early_where_room_is_short_the_oldest_first(store: Store) -> None:
    store.fill()
    messages = store.take()
    store.apply(store.bench.settling(*[wish(message, Event.ACK) for message in messages]))
    while isinstance(store.publish(), StorageFull):
        pass
    assert store.engine.catalog.depth("q").processed < len(messages)
    assert store.engine.catalog.depth("q").failed == 0


def test_waiting_and_failed_messages_stay_however_short_room_is(store: Store) -> None:
    store.fill()
    (failed,) = store.take(1)
    store.apply(store.bench.settling(wish(failed, Event.REJECT)))
    before = store.engine.catalog.depth("q")
    for _ in range(10):
        assert isinstance(store.publish(), StorageFull)
    assert store.engine.catalog.depth("q") == before


def test_that_there_is_room_again_is_known_before_the_next_publish(store: Store) -> None:
    store.fill()
    assert store.engine.full == (False, True)
    store.apply(Purge("q", tuple(State), 10_000))
    assert store.engine.full == (False, False)


def test_without_a_quota_there_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, 0)
    with closing(store.engine):
        for _ in range(40):
            assert isinstance(store.publish(100_000), Published)


def test_a_purge_takes_far_less_room_than_it_makes(tmp_path: Path) -> None:
    engine = SqliteEngine(open_writer(tmp_path), START)
    log = tmp_path / "streambroker.db-wal"
    bench = Bench(SpecificationSubject())
    with closing(engine):
        engine.turn([SaveQueue("q", QueueConfig(), False, START)])
        for _ in range(20):
            engine.turn([bench.publishing(bench.drafts(1, content=b'"' + b"x" * 500_000 + b'"'), "q")])
        with closing(sqlite3.connect(tmp_path / "streambroker.db")) as beside:
            beside.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert engine.turn([Purge("q", (State.READY,), 100)]) == [20]
        assert 0 < log.stat().st_size < MIB  # of the 10 MB that they held


def test_a_quota_that_was_used_up_is_so_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, QUOTA)
    store.fill()
    store.engine.close()
    again = Store(tmp_path, QUOTA)
    with closing(again.engine):
        again.fill(100)
        assert again.in_use <= 1.02 * QUOTA


# -- the disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ballast", "low"), [(8 * MIB, MIB, MIB // 2), (128 * MIB, 16 * MIB, 8 * MIB), (2**40, 16 * MIB, 256 * MIB)]
)
def test_the_disk_counts_as_full_below_a_mark_that_fits_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, ballast: int, low: int
) -> None:
    volume = Volume(size, low)
    monkeypatch.setattr(os, "statvfs", volume)
    room = Room(tmp_path)
    assert (tmp_path / BALLAST).stat().st_size == ballast
    room.admit(1, 1)
    volume.free = low - 1
    room.look(now=True)
    with pytest.raises(StorageFull, match="the disk is full"):
        room.admit(1, 1)
    assert not (tmp_path / BALLAST).exists()
    for free in (low, 2 * low, ballast + 2 * low):
        volume.free = free
        room.look(now=True)
        assert room.short
    volume.free += 1
    room.look(now=True)
    room.admit(1, 1)
    assert (tmp_path / BALLAST).stat().st_size == ballast


def test_the_disk_is_looked_at_now_and_then_also_where_nothing_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(2**40, 2**39)
    monkeypatch.setattr(os, "statvfs", volume)
    room = Room(tmp_path)
    volume.free = 1
    for _ in range(64):
        room.look(now=False)
    assert room.full


def test_a_disk_that_is_nearly_full_at_the_start_refuses_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", Volume(2**40, 255 * MIB))
    with pytest.raises(StorageFull, match="the disk is full"):
        Room(tmp_path).admit(1, 1)


def test_where_both_are_used_up_the_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", Volume(2**40, 1))
    room = Room(tmp_path, 10)
    room.expect(1, 100, lambda: 20, lambda: 0)
    with pytest.raises(StorageFull, match="the disk is full"):
        room.admit(1, 100)


def pages(store: Store, name: str = "page_count") -> int:
    return int(store.engine.work(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0]))


def test_on_a_full_disk_publishes_go_on_in_the_files_free_pages_and_end_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    volume = Volume(8 * MIB, 8 * MIB)
    monkeypatch.setattr(os, "statvfs", volume)
    store = Store(tmp_path, 0)
    with closing(store.engine):
        for _ in range(40):
            store.publish(100_000)
        before = pages(store)
        volume.free = 0
        store.fill(100_000)
        assert store.engine.full == (True, False)
        assert store.apply(Purge("q", (State.READY,), 1_000)) == 16  # a full disk's chunk
        assert isinstance(store.publish(100_000), Published)
        assert store.engine.full == (False, False)
        while store.apply(Purge("q", (State.READY,), 1_000)):
            pass
        store.fill(100_000)
        assert pages(store) <= before
        assert pages(store, "freelist_count") * pages(store, "page_size") > MIB // 4
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "ERROR"]


def test_what_is_no_login_and_deletes_nothing_leaves_the_reserve_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(8 * MIB, 8 * MIB)
    monkeypatch.setattr(os, "statvfs", volume)
    store = Store(tmp_path, 0)
    reserve = tmp_path / RESERVE
    with closing(store.engine):
        store.publish(count=20)
        volume.free = 0
        assert isinstance(store.fill(), StorageFull)
        assert reserve.stat().st_size == MIB // 2
        store.engine._db.execute("PRAGMA max_page_count = 1")  # the file cannot grow: SQLITE_FULL, as on such a disk
        answers = [store.apply(SaveQueue(f"{n:0128}", QueueConfig(), False, START)) for n in range(100)]
        assert isinstance(answers[-1], StorageFull)
        assert reserve.exists()
        with pytest.raises(StorageFull):
            store.engine.work(lambda db: db.execute("CREATE TABLE grows (x)"))
        assert not reserve.exists()
        volume.free = MIB + 1
        store.engine.tidy()
        assert reserve.stat().st_size == MIB // 2


def test_the_reserve_outlives_a_restart_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(8 * MIB, 8 * MIB)
    monkeypatch.setattr(os, "statvfs", volume)
    Room(tmp_path)
    volume.free = 0
    again = Room(tmp_path)
    assert (again.full, again.give_up_reserve(), again.give_up_reserve()) == (True, True, False)
    assert not (tmp_path / RESERVE).exists()


@pytest.mark.parametrize(
    ("free", "unused", "helps"),
    [(0, 3 * MIB + 1, True), (0, MIB, False), (0, MIB + 1, True), (MIB, 2 * MIB, False), (MIB, 2 * MIB + 1, True)],
    ids=["healed by it", "the last ones stay", "for the log", "of no use", "healed together"],
)
def test_free_pages_are_given_to_the_disk_where_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, unused: int, helps: bool
) -> None:
    monkeypatch.setattr(os, "statvfs", Volume(8 * MIB, free))
    assert Room(tmp_path).gives_back(unused) is helps
