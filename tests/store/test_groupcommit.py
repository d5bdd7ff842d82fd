"""Who shares a commit, who waits for it, and what is left when the storage fails."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from streambroker.core.errors import Draining, Internal, NotFound, Overloaded, StorageFailed
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.policy import QueueConfig
from streambroker.store import groupcommit
from streambroker.store.contract import Command, Publish, SaveQueue, Settle
from streambroker.store.groupcommit import GroupCommit
from streambroker.store.memory import MemoryEngine
from streambroker.store.sql.connection import DATABASE, open_writer
from streambroker.store.sql.engine import SqliteEngine
from tests.store.subjects import START, Bench, SpecificationSubject

DEADLINE = 10.0


class Recorder:
    """An engine that writes down what it is asked for, and can be held in the middle of a turn."""

    def __init__(self) -> None:
        self.turns: list[list[Command]] = []
        self.did: list[str] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.failure: StorageFailed | None = None
        self.thread: int | None = None
        self._memory = MemoryEngine()
        self._memory.turn([SaveQueue("q", QueueConfig(), False, START)])

    def turn(self, commands: Sequence[Command]) -> list[Any]:
        self._step("turn")
        self.turns.append([*commands])
        return self._memory.turn(commands)

    def work(self, function: Callable[[Any], Any]) -> Any:
        self._step("work")
        return function(self)

    def tidy(self) -> None:
        self.did.append("tidy")

    def close(self) -> None:
        self.did.append("close")

    def _step(self, name: str) -> None:
        self.did.append(name)
        self.thread = threading.get_ident()
        self.entered.release()
        assert self.go_on.wait(DEADLINE)
        if self.failure is not None:
            raise self.failure

    async def is_busy(self) -> None:
        """Wait until a turn has begun."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=DEADLINE)


class Failures(list[StorageFailed]):
    """What `on_failure` was called with, and where."""

    def __call__(self, error: StorageFailed) -> None:
        self.append(error)
        self.thread = threading.get_ident()


@asynccontextmanager
async def group_commit(engine: Any, failures: Failures | None = None) -> AsyncIterator[GroupCommit]:
    commits = GroupCommit(engine, Failures() if failures is None else failures)
    async with asyncio.timeout(DEADLINE):
        try:
            yield commits
        finally:
            if isinstance(engine, Recorder):
                engine.go_on.set()
            await commits.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def bench() -> Bench:
    """For its drafts, claims and ids only."""
    return Bench(SpecificationSubject())


# -- sharing -----------------------------------------------------------------------------------------------------------


async def test_what_is_submitted_together_shares_a_commit(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder) as commits:
        commands: list[Command] = [bench.publishing([bench.draft()]), bench.claim(), bench.publishing([bench.draft()])]
        answers = await asyncio.gather(*map(commits.submit, commands))
    assert recorder.turns == [[commands[0], commands[2], commands[1]]]  # in the order in which engines apply them
    assert [len(answer.ids) for answer in (answers[0], answers[2])] == [1, 1]


async def test_what_comes_during_a_commit_shares_the_next_one(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder) as commits:
        recorder.go_on.clear()
        first = commits.submit(bench.claim())
        await recorder.is_busy()
        later = []
        for _ in range(5):
            later.append(commits.submit(bench.publishing([bench.draft()])))
            await asyncio.sleep(0)  # each in its own turn of the loop, as five connections would
        recorder.go_on.set()
        await asyncio.gather(first, *later)
    assert [len(turn) for turn in recorder.turns] == [1, 5]


async def test_commits_of_the_database_are_shared(tmp_path: Path, bench: Bench) -> None:
    statements: list[str] = []
    connection = open_writer(tmp_path)
    engine = SqliteEngine(connection, START)
    engine.turn([SaveQueue("q", QueueConfig(), False, START)])
    connection.set_trace_callback(statements.append)
    async with group_commit(engine) as commits:
        await asyncio.gather(*[commits.submit(bench.publishing([bench.draft()])) for _ in range(100)])
        assert statements.count("BEGIN IMMEDIATE") == statements.count("COMMIT") == 1
        (got,) = await asyncio.gather(commits.submit(bench.claim(limit=1_000)))
        assert len(got) == 100
        assert statements.count("BEGIN IMMEDIATE") == 2


async def test_a_turn_takes_no_more_than_its_bound(
    recorder: Recorder, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_TURN", 3)
    async with group_commit(recorder) as commits:
        recorder.go_on.clear()
        futures = [commits.submit(bench.claim())]
        await recorder.is_busy()
        for _ in range(7):
            futures.append(commits.submit(bench.claim()))
            await asyncio.sleep(0)
        recorder.go_on.set()
        await asyncio.gather(*futures)
    assert [len(turn) for turn in recorder.turns] == [1, 3, 3, 1]


async def test_each_caller_gets_its_own_answer_or_refusal(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder) as commits:
        good, bad = bench.draft(), bench.draft()
        answers = await asyncio.gather(
            commits.submit(bench.publishing([good])),
            commits.submit(bench.publishing([bad], "unknown")),
            commits.submit(Settle([], START)),
            return_exceptions=True,
        )
    assert answers[0].ids == [good.id]  # type: ignore[union-attr]
    assert isinstance(answers[1], NotFound)
    assert answers[2] == []


async def test_the_engine_stays_on_one_thread_that_is_not_the_loops(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder) as commits:
        await commits.submit(bench.claim())
        first = recorder.thread
        await commits.work(lambda _: None)
        assert first == recorder.thread != threading.get_ident()


async def test_the_engine_tidies_after_every_turn(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder) as commits:
        await commits.submit(bench.claim())
        await commits.submit(bench.claim())
    assert recorder.did == ["turn", "tidy", "turn", "tidy", "close"]


# -- callers that go away ----------------------------------------------------------------------------------------------


async def test_a_caller_that_is_cancelled_does_not_undo_its_command(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder) as commits:
        recorder.go_on.clear()
        gone, stays = bench.publishing([bench.draft()]), bench.publishing([bench.draft()])

        async def caller(command: Publish) -> Any:
            return await commits.submit(command)

        tasks = [asyncio.create_task(caller(gone)), asyncio.create_task(caller(stays))]
        await recorder.is_busy()
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        recorder.go_on.set()
        assert (await tasks[1]).ids == [stays.drafts[0].id]
        assert len(await commits.submit(bench.claim(limit=9))) == 2
    assert recorder.turns[0] == [gone, stays]


async def test_a_caller_that_is_cancelled_before_the_commit_begins_does_not_undo_it_either(
    recorder: Recorder, bench: Bench
) -> None:
    async with group_commit(recorder) as commits:
        commits.submit(bench.publishing([bench.draft()])).cancel()
        assert len(await commits.submit(bench.claim())) == 1


async def test_who_was_cancelled_frees_the_room_it_took(
    recorder: Recorder, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_WAITING", 1)
    async with group_commit(recorder) as commits:
        commits.submit(bench.publishing([bench.draft()])).cancel()
        await commits.submit(bench.claim())
        await commits.submit(bench.publishing([bench.draft()]))


async def test_who_posts_is_called_back_with_the_answer_or_the_refusal(recorder: Recorder, bench: Bench) -> None:
    told: list[Any] = []
    async with group_commit(recorder) as commits:
        draft = bench.draft()
        commits.post(bench.publishing([draft]), told.append)
        commits.post(bench.publishing([draft], "unknown"), told.append)
        assert told == []  # never before it is durable
        await commits.submit(bench.claim())
    assert told[0].ids == [draft.id]
    assert isinstance(told[1], NotFound)


async def test_a_callback_that_raises_keeps_nobody_from_the_answer(recorder: Recorder, bench: Bench) -> None:
    def broken(_: Any) -> None:
        raise ValueError("no")

    async with group_commit(recorder) as commits:
        commits.post(bench.claim(), broken)
        assert await commits.submit(bench.claim()) == []


# -- overload ----------------------------------------------------------------------------------------------------------


async def held(commits: GroupCommit, recorder: Recorder, *commands: Command) -> list[asyncio.Future[Any]]:
    """Submit while the engine is busy, so that all of them wait."""
    recorder.go_on.clear()
    busy = commits.submit(Settle([], START))
    await recorder.is_busy()
    return [busy, *map(commits.submit, commands)]


async def test_one_publish_too_many_is_refused_at_once_and_not_stored(
    recorder: Recorder, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_WAITING", 2)
    async with group_commit(recorder) as commits:
        futures = await held(commits, recorder, *[bench.publishing([bench.draft()]) for _ in range(2)])
        with pytest.raises(Overloaded) as refused:
            await commits.submit(bench.publishing([bench.draft()]))
        assert refused.value.retry_after_ms
        recorder.go_on.set()
        await asyncio.gather(*futures)
        await commits.submit(bench.publishing([bench.draft()]))
        assert len(await commits.submit(bench.claim(limit=9))) == 3


async def test_too_many_bytes_are_refused(recorder: Recorder, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groupcommit, "MAX_WAITING_BYTES", 100)
    async with group_commit(recorder) as commits:
        futures = await held(commits, recorder, bench.publishing([bench.draft(b"x" * 60), bench.draft(b"x" * 40)]))
        with pytest.raises(Overloaded):
            await commits.submit(bench.publishing([bench.draft(b"x")]))
        recorder.go_on.set()
        await asyncio.gather(*futures)
        await commits.submit(bench.publishing([bench.draft(b"x" * 100)]))


async def test_overload_does_not_stop_those_who_make_room(
    recorder: Recorder, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_WAITING", 1)
    async with group_commit(recorder) as commits:
        futures = await held(
            commits, recorder, bench.publishing([bench.draft()]), bench.claim(), bench.settling(), bench.claim()
        )
        recorder.go_on.set()
        await asyncio.gather(*futures)


async def test_one_settle_too_many_is_refused_and_not_applied(
    recorder: Recorder, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_WAITING_SETTLES", 3)
    item = Settlement(1, Event.ACK, "token")
    async with group_commit(recorder) as commits:
        futures = await held(commits, recorder, bench.settling(item, item), bench.settling(item))
        with pytest.raises(Overloaded) as refused:
            await commits.submit(bench.settling(item))
        assert refused.value.retry_after_ms
        recorder.go_on.set()
        await asyncio.gather(*futures)
        await commits.submit(bench.settling(item, item, item))
    assert sum(len(c.items) for turn in recorder.turns for c in turn if isinstance(c, Settle)) == 6


async def test_a_refused_publish_gives_its_room_back(
    recorder: Recorder, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "MAX_WAITING", 1)
    async with group_commit(recorder) as commits:
        for _ in range(3):
            with pytest.raises(NotFound):
                await commits.submit(bench.publishing([bench.draft()], "unknown"))


# -- fail-stop ---------------------------------------------------------------------------------------------------------


async def test_a_storage_that_fails_is_told_once_on_the_loop_and_everybody_is_answered(
    recorder: Recorder, bench: Bench
) -> None:
    failures = Failures()
    async with group_commit(recorder, failures) as commits:
        recorder.failure = StorageFailed("the disk is gone")
        recorder.go_on.clear()
        futures: list[asyncio.Future[Any]] = [commits.submit(bench.publishing([bench.draft()]))]
        await recorder.is_busy()
        for _ in range(3):  # these wait for the next turn, which never comes
            futures.append(commits.submit(bench.claim()))
            await asyncio.sleep(0)
        futures.append(asyncio.ensure_future(commits.work(lambda _: "never")))
        recorder.go_on.set()
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Internal] * 5
        with pytest.raises(Internal):
            await commits.submit(bench.claim())
        with pytest.raises(Internal):
            await commits.work(lambda _: "never")
    assert [*failures] == [recorder.failure]
    assert failures.thread == threading.get_ident()
    assert recorder.did == ["turn"]  # nothing was written after it, not even by a close


async def test_a_failure_that_is_not_known_does_not_claim_that_nothing_was_stored(
    recorder: Recorder, bench: Bench
) -> None:
    async with group_commit(recorder, Failures()) as commits:
        recorder.failure = StorageFailed("the disk is gone")
        with pytest.raises(Internal) as unknown:
            await commits.submit(bench.publishing([bench.draft()]))
    assert unknown.value.status == 500
    assert unknown.value.retryable


async def test_a_storage_that_fails_in_work_stops_too(recorder: Recorder, bench: Bench) -> None:
    failures = Failures()
    async with group_commit(recorder, failures) as commits:
        recorder.failure = StorageFailed("the disk is gone")
        with pytest.raises(Internal):
            await commits.work(lambda _: "never")
        with pytest.raises(Internal):
            await commits.submit(bench.claim())
    assert len(failures) == 1


async def test_a_database_that_fails_stops_the_group_commit(tmp_path: Path, bench: Bench) -> None:
    connection = open_writer(tmp_path)
    engine = SqliteEngine(connection, START)
    engine.turn([SaveQueue("q", QueueConfig(), False, START)])
    connection.execute("PRAGMA query_only = 1")  # every write now fails as on a disk that is mounted read-only
    failures = Failures()
    async with group_commit(engine, failures) as commits:
        futures = [commits.submit(bench.publishing([bench.draft()])) for _ in range(3)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Internal] * 3
    assert len(failures) == 1


# -- close -------------------------------------------------------------------------------------------------------------


async def test_close_commits_what_was_submitted(recorder: Recorder, bench: Bench) -> None:
    commits = GroupCommit(recorder, Failures())
    recorder.go_on.clear()
    futures = [commits.submit(bench.publishing([bench.draft()]))]
    await recorder.is_busy()
    futures += [commits.submit(bench.publishing([bench.draft()])) for _ in range(3)]
    closing = asyncio.create_task(commits.close())
    await asyncio.sleep(0)
    recorder.go_on.set()
    async with asyncio.timeout(DEADLINE):
        await closing
        answers = await asyncio.gather(*futures)
    assert [len(answer.ids) for answer in answers] == [1] * 4
    assert recorder.did[-1] == "close"


@pytest.mark.parametrize("closed", [True, False])
async def test_what_is_submitted_after_close_is_refused_and_not_stored(
    recorder: Recorder, bench: Bench, closed: bool
) -> None:
    commits = GroupCommit(recorder, Failures())
    closing = asyncio.create_task(commits.close())
    await (closing if closed else asyncio.sleep(0))
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Draining):
            await commits.submit(bench.publishing([bench.draft()]))
        with pytest.raises(Draining):
            await commits.work(lambda _: "never")
        await closing
    assert recorder.did == ["close"]


async def test_a_failed_storage_can_be_closed(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder, Failures()) as commits:
        recorder.failure = StorageFailed("the disk is gone")
        with pytest.raises(Internal):
            await commits.submit(bench.claim())
    assert recorder.did == ["turn"]  # the file is left as it is


# -- work --------------------------------------------------------------------------------------------------------------


async def test_work_runs_after_the_commands_of_its_group_and_apart_from_them(recorder: Recorder, bench: Bench) -> None:
    async with group_commit(recorder) as commits:
        futures = [commits.work(lambda _: "first"), commits.submit(bench.claim()), commits.work(lambda _: "second")]
        assert await asyncio.gather(*futures) == ["first", [], "second"]
    assert recorder.did == ["turn", "work", "work", "tidy", "close"]


async def test_work_that_raises_hurts_nobody_else(recorder: Recorder, bench: Bench) -> None:
    def broken(_: Any) -> None:
        raise ValueError("no")

    def refused(_: Any) -> None:
        raise NotFound("not here")

    async with group_commit(recorder) as commits:
        futures = [commits.work(broken), commits.work(refused), commits.submit(bench.claim())]
        answers = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, NotFound, list]


async def test_work_has_a_transaction_of_its_own(tmp_path: Path, bench: Bench) -> None:
    connection = open_writer(tmp_path)
    engine = SqliteEngine(connection, START)
    engine.turn([SaveQueue("q", QueueConfig(), False, START)])
    statements: list[str] = []
    connection.set_trace_callback(statements.append)

    def broken(connection: Any) -> None:
        connection.execute("CREATE TABLE half_done (a)")
        raise ValueError("no")

    async with group_commit(engine) as commits:
        answers = await asyncio.gather(
            commits.submit(bench.publishing([bench.draft()])),
            commits.work(lambda connection: connection.execute("CREATE TABLE done (a)") and None),
            commits.work(broken),
            commits.work(lambda connection: connection.execute("SELECT name FROM sqlite_schema").fetchall()),
            return_exceptions=True,
        )
    assert statements.count("BEGIN IMMEDIATE") == 4
    tables = {name for (name,) in answers[3]}
    assert "done" in tables
    assert "half_done" not in tables
    assert isinstance(answers[2], ValueError)


async def test_what_was_answered_is_committed(tmp_path: Path, bench: Bench) -> None:
    engine = SqliteEngine(open_writer(tmp_path), START)
    engine.turn([SaveQueue("q", QueueConfig(), False, START)])
    draft = bench.draft()
    async with group_commit(engine) as commits:
        await commits.submit(bench.publishing([draft]))
        with closing(sqlite3.connect(tmp_path / DATABASE)) as other:
            assert other.execute("SELECT id FROM message").fetchall() == [(draft.id,)]
