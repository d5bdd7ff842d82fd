"""Random turns of commands, on an engine and on the executable specification: every answer is the same, and so is
everything that is stored at the end.

The commands are drawn as plain numbers first, and name queues, messages and tokens by their place among those that are
known when they are applied. So a failing sequence shrinks well, and can be read.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streambroker.core.errors import BrokerError
from streambroker.core.lifecycle import Event, Fate, LeaseTerms, Settlement
from streambroker.core.message import Draft, Message, State, Status, weight
from streambroker.core.names import IdSequence
from streambroker.core.policy import Backoff, QueueConfig
from streambroker.core.timeline import Record
from streambroker.store.contract import (
    Acked,
    Claim,
    Command,
    Delete,
    Depth,
    DropQueue,
    Lapsed,
    Overdue,
    Publish,
    Published,
    Purge,
    Redrive,
    Retry,
    SaveQueue,
    Settle,
    Sweep,
)
from streambroker.store.memory import MemoryEngine
from streambroker.store.sql import timeline
from streambroker.store.sql.connection import DATABASE, open_writer
from streambroker.store.sql.engine import SqliteEngine
from streambroker.store.sql.reads import Reader
from streambroker.store.sql.statements import MESSAGE_COLUMNS, message
from tests.store.subjects import START, plain

RUNS = int(os.environ.get("SBTEST_MODEL_RUNS", "300"))
STEPS = (20, 60)

QUEUES = ("a", "b", "dead")
OWNERS = {"a": "ann", "b": "", "dead": "ann"}
QUOTA = 100
# Small numbers everywhere, so that limits are reached and times come within a sequence.
CONFIGS = (
    QueueConfig(backoff=Backoff(base_ms=5), overflow="drop_oldest"),
    QueueConfig(max_attempts=2, dead_letter_queue="dead", backoff=Backoff("fixed", 0), retention_ms=0),
    QueueConfig(max_attempts=1, dead_letter_queue="b", message_ttl_ms=30, durability="memory"),
    QueueConfig(max_messages=4, dead_letter_queue="dead", dedup_window_ms=20),
    QueueConfig(max_messages=5, overflow="drop_oldest", max_attempts=0, dedup_window_ms=0),
)
PURGES = (
    (State.READY, State.DELAYED),
    (State.FAILED,),
    (State.PROCESSED,),
    (State.READY, State.PROCESSED, State.FAILED),
)
SETTLES = (
    Event.ACK,
    Event.ACK,
    Event.ACK,
    Event.REQUEUE,
    Event.REQUEUE,
    Event.REJECT,
    Event.RELEASE,
    Event.LOSE,
    Event.EXTEND,
)
HOLDERS = ("ann", "bob")

small = st.integers(0, 9)
queue = st.integers(0, len(QUEUES) - 1)
drafts = st.lists(
    st.tuples(small, st.sampled_from((0, 0, 0, 1, 2)), st.sampled_from((0, 0, 0, 1, 2)), small), min_size=1, max_size=5
)
wants = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=2)
settles = st.lists(st.tuples(small, st.integers(0, len(SETTLES) - 1), small), min_size=1, max_size=4)


class Publishing(NamedTuple):
    """`drafts`: priority, when it is available, when its life ends, which dedup id it has."""

    queue: int
    drafts: Sequence[tuple[int, int, int, int]]
    wants: Sequence[tuple[int, bool]]
    batch: int


class Claiming(NamedTuple):
    queue: int
    limit: int
    budget: int
    session: bool


class Settling(NamedTuple):
    """`items`: which of the messages that were delivered, what, and with which token, delay and reason."""

    items: Sequence[tuple[int, int, int]]


class Acking(NamedTuple):
    """Acks of messages of one queue, as far as a client knows, by the tokens in hand."""

    which: Sequence[int]


class Moving(NamedTuple):
    """The clock goes on, and the tick does what is due."""

    ms: int
    few: bool


class Redriving(NamedTuple):
    queue: int
    source: int
    limit: int


class Retrying(NamedTuple):
    which: int


class Purging(NamedTuple):
    queue: int
    states: int
    limit: int


class Deleting(NamedTuple):
    which: int


class Saving(NamedTuple):
    queue: int
    config: int


class Dropping(NamedTuple):
    queue: int


class Sweeping(NamedTuple):
    limit: int


class Restarting(NamedTuple):
    """The store is closed and opened again; the clock may have been set back meanwhile."""

    back: int


publishing = st.builds(Publishing, queue, drafts, wants, st.sampled_from((0, 0, 0, 1, 2)))
claiming = st.builds(Claiming, queue, st.integers(0, 4), st.sampled_from((1, 40, 10_000)), st.booleans())
settling = st.builds(Settling, settles)
acking = st.builds(Acking, st.lists(small, min_size=1, max_size=4))
moving = st.builds(Moving, st.sampled_from((1, 5, 9, 20, 40, 2_000)), st.booleans())
seldom = st.one_of(
    st.builds(Redriving, queue, st.integers(-1, len(QUEUES) - 1), st.integers(0, 4)),
    st.builds(Retrying, small),
    st.builds(Purging, queue, st.integers(0, len(PURGES) - 1), st.integers(0, 4)),
    st.builds(Deleting, small),
    st.builds(Saving, queue, st.integers(0, len(CONFIGS) - 1)),
    st.builds(Dropping, queue),
    st.builds(Sweeping, st.integers(1, 4)),
)
turn = st.lists(
    st.one_of(publishing, publishing, claiming, settling, settling, acking, moving, seldom), min_size=1, max_size=4
)
step = st.one_of(turn, turn, turn, turn, turn, turn, turn, st.builds(Restarting, st.sampled_from((0, 0, 7, 5_000))))
sequences = st.lists(step, min_size=STEPS[0], max_size=STEPS[1])


class Pair:
    """Both engines, and what a client would know: messages that were delivered, ids, the clock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.now = START
        self.specification = MemoryEngine(QUOTA)
        self.engine = self._open()
        self._ids = IdSequence()
        self._delivered: list[Message] = []
        self._known: list[int] = []
        self._tokens = 0
        self._unswept = False
        self._set_back = False
        for name in QUEUES:
            self.turn([SaveQueue(name, CONFIGS[0], False, self.now, owner=OWNERS[name])])

    def _open(self) -> SqliteEngine:
        connection = open_writer(self._directory)
        # What a commit costs is not compared here: without any fsync five times as many sequences fit into the time.
        connection.execute("PRAGMA synchronous = OFF")
        connection.set_authorizer(_no_fsync)
        return SqliteEngine(connection, self.now, None, QUOTA)

    def close(self) -> None:
        self.engine.close()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def apply(self, step: Any) -> None:
        if isinstance(step, Restarting):
            self.now -= step.back
            self._set_back |= step.back > 0
            self.engine.close()
            self.engine = self._open()
            self.specification.recover(self.now)
            self._compare_counts()
        else:
            commands = [self._command(wish) for wish in step]
            if [type(command) for command in commands].count(Settle) > 1:
                # An engine may judge acks of what is held before the other settles of their turn.
                commands = [_unheld(command) for command in commands]
            self.turn(commands)

    def turn(self, commands: Sequence[Command]) -> None:
        expected, got = self.specification.turn(commands), self.engine.turn(commands)
        for command, ours, theirs in zip(commands, expected, got, strict=True):
            self._compare(command, ours, theirs)
        self._remember(commands, got)
        self._compare_counts()

    def _compare(self, command: Command, expected: Any, got: Any) -> None:
        if isinstance(expected, BrokerError):
            assert (type(got), got.detail, got.errors) == (type(expected), expected.detail, expected.errors), command
        elif isinstance(got, Acked):
            assert isinstance(command, Settle)
            assert command.queue is not None
            granted = [(item.id, None, Fate.PROCESSED, got.due_at) for item in command.items]
            assert [(item.id, item.refusal, item.fate, item.due_at) for item in expected] == granted
        elif isinstance(command, Sweep):
            assert isinstance(got, bool)  # an engine may take several turns for what the specification does in one
        elif isinstance(command, Overdue) and self._unswept:
            # What a dropped queue left behind may be due too: that wakes the tick earlier, and is not told of.
            assert isinstance(got, Lapsed)
            assert got.items == expected.items, command
        else:
            assert plain(got) == plain(expected), command

    def _compare_counts(self) -> None:
        for name in QUEUES:
            assert self.engine.catalog.depth(name) == self.specification.depth(name), name
            assert self.engine.catalog.stored(name) == self.specification.stored(name), name

    def _remember(self, commands: Sequence[Command], answers: Sequence[Any]) -> None:
        for command, answer in zip(commands, answers, strict=True):
            match command, answer:
                case Publish(), Published():
                    self._known += answer.ids
                    for messages in answer.claimed:
                        self._delivered += messages
                case Claim(), list():
                    self._delivered += answer
                case (DropQueue(), True):
                    self._unswept = True
                case (Sweep(), False):
                    self._unswept = False
                case _:
                    pass

    # -- from numbers to commands --------------------------------------------------------------------------------------

    def _command(self, wish: Any) -> Command:
        match wish:
            case Publishing():
                return self._publish(wish)
            case Claiming(queue, limit, budget, session):
                return self._claim(queue, limit, budget, session)
            case Settling(items):
                return Settle([*map(self._settlement, items)], self.now)
            case Acking(which):
                return self._ack(which)
            case Moving(ms, few):
                self.now += ms
                # A limit counts what a dropped queue left behind, where an engine has not swept it yet.
                return Overdue(self.now, 3 if few and not self._unswept else 1_000)
            case Redriving(queue, source, limit):
                return Redrive(QUEUES[queue], None if source < 0 else QUEUES[source], limit, self.now)
            case Retrying(which):
                return Retry(self._newest(self._known, which, 0), self.now)
            case Purging(queue, states, limit):
                return Purge(QUEUES[queue], PURGES[states], limit)
            case Deleting(which):
                return Delete(self._newest(self._known, which, 0))
            case Saving(queue, config):
                name = QUEUES[queue]
                return SaveQueue(name, CONFIGS[config], False, self.now, owner=OWNERS[name])
            case Dropping(queue):
                self._unswept = True
                return DropQueue(QUEUES[queue])
            case Sweeping(limit):
                return Sweep(self.now, limit)
            case _:
                raise AssertionError(wish)

    def _publish(self, wish: Publishing) -> Publish:
        made = [self._draft(*members) for members in wish.drafts]
        return Publish(
            QUEUES[wish.queue],
            made,
            self.now,
            claims=[self._claim(wish.queue, limit, 10_000, session) for limit, session in wish.wants],
            batch_key=f"batch-{wish.batch}" if wish.batch else None,
            digest=b"%d" % len(made),
            digests=[draft.content[:1] for draft in made if draft.dedup_id],
            size=sum(weight(draft.content, draft.attributes) for draft in made),
        )

    def _draft(self, priority: int, available: int, life: int, dedup: int) -> Draft:
        (number,) = self._ids.take(1, self.now)
        return Draft(
            number,
            b"%d" % (number % 2) * (1 + number % 40),
            priority if priority > 6 else 0,
            available_at=self.now + 10 * available if available else None,
            expires_at=self.now + 15 * life if life else None,
            max_attempts=1 if priority == 5 else None,
            key="k" if priority == 4 else None,
            dedup_id=f"d{dedup}" if dedup < 3 else None,
            attributes=b"{}" if priority == 3 else None,
        )

    def _claim(self, queue: int, limit: int, budget: int, session: bool) -> Claim:
        self._tokens += 1
        terms = LeaseTerms(f"t{self._tokens}", HOLDERS[self._tokens % 2], None if session else self.now + 8)
        return Claim(QUEUES[queue], limit, budget, terms, self.now)

    def _ack(self, which: Sequence[int]) -> Settle:
        found = [self._newest(self._delivered, number, None) for number in which]
        if found[0] is None:
            return Settle([], self.now)
        queue = found[0].queue
        newest = {message.id: message for message in self._delivered}  # a consumer acks by the token it got last
        found = list({message.id: newest[message.id] for message in found}.values())
        items = [Settlement(message.id, Event.ACK, message.lease) for message in found if message.queue == queue]
        return Settle(items, self.now, queue=queue)

    def _settlement(self, item: tuple[int, int, int]) -> Settlement:
        which, event, option = item
        message = self._newest(self._delivered, which, None)
        return Settlement(
            message.id if message else which,
            SETTLES[event],
            None if option == 9 or message is None else message.lease,
            HOLDERS[0] if option == 9 else None,
            delay_ms=(None, 0, 12)[option % 3],
            reason=(None, "no")[option % 2],
            until=None if option == 8 else self.now + 10,
            unseen=option == 7,
            chance=option / 10,
        )

    @staticmethod
    def _newest(known: Sequence[Any], which: int, otherwise: Any) -> Any:
        """The newest of what is known, or one a little older."""
        return known[-1 - which % min(len(known), 8)] if known else otherwise

    # -- everything at the end -----------------------------------------------------------------------------------------

    def compare_all(self) -> None:
        """Every stored message and every count."""
        assert self.engine.work(_queue_names) == [queue.name for queue in self.specification.queues()]
        for name in QUEUES:
            stored = self.engine.work(partial(_messages, queue=name))
            assert stored == self.specification.browse(name, None, None, None, 10_000, None)[0]
            states = [message.state for message in stored]
            assert self.engine.catalog.depth(name) == Depth(*[states.count(state) for state in State])
        told = {number: found for number in self._known if (found := self.specification.timeline(number))}
        records = self.engine.work(partial(_records, numbers=self._known))
        assert {number: kept for number, kept in records.items() if number in told} == {
            number: kept for number, (_, kept) in told.items() if kept
        }
        assert self.engine.work(_records_of_nothing) == 0

    async def compare_reads(self) -> None:
        """What readers see, page by page."""
        reader = Reader(self._directory / DATABASE)
        try:
            assert await reader.queues() == self.specification.queues()
            assert await reader.leases() == self.specification.leases()
            for name in QUEUES:
                for arguments in pages(self.specification, name):
                    assert await reader.browse(*arguments) == self.specification.browse(*arguments)
                if not self._set_back:  # else the first one published need not be the one with the earliest time
                    assert await reader.oldest_ready(name) == self.specification.oldest_ready(name)
            for number in self._known[-5:]:
                assert await reader.get(number) == self.specification.get(number)
                assert await reader.timeline(number) == self.specification.timeline(number)
        finally:
            await reader.close()


def _unheld(command: Command) -> Command:
    return Settle(command.items, command.now) if isinstance(command, Settle) else command


def _queue_names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM queue WHERE name IS NOT NULL ORDER BY name")]


def _messages(connection: sqlite3.Connection, queue: str) -> list[Message]:
    rows = connection.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM message WHERE queue_id = (SELECT id FROM queue WHERE name = ?) "
        "ORDER BY state, priority DESC, id",
        (queue,),
    )
    return [message(row, queue) for row in rows]


def _records(connection: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, list[Record]]:
    found = {n: [*map(timeline.record, connection.execute(timeline.SELECT, {"id": n}))] for n in numbers}
    return {number: kept for number, kept in found.items() if kept}


def _records_of_nothing(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM timeline WHERE message_id NOT IN (SELECT id FROM message)")
    return int(count[0])


def _no_fsync(action: int, name: str | None, value: str | None, *_: Any) -> int:
    synchronous = action == sqlite3.SQLITE_PRAGMA and name == "synchronous" and value is not None
    return sqlite3.SQLITE_IGNORE if synchronous else sqlite3.SQLITE_OK


def pages(specification: MemoryEngine, queue: str) -> Iterator[tuple[str, Status | None, None, None, int, str | None]]:
    """The arguments of each page of a browse."""
    cursor: str | None = None
    while True:
        yield queue, None, None, None, 20, cursor
        _, cursor = specification.browse(queue, None, None, None, 20, cursor)
        if cursor is None:
            return


def replay(sequence: Sequence[Any]) -> None:
    """Apply a sequence to both engines and compare."""
    with tempfile.TemporaryDirectory() as directory, closing(Pair(Path(directory))) as pair:
        for step in sequence:
            pair.apply(step)
        pair.compare_all()
        if len(sequence) % 8 == 0:  # they take as long as the whole sequence
            asyncio.run(pair.compare_reads())


@pytest.mark.timeout(600)  # a failure is made small first, and that takes its time
@settings(
    max_examples=RUNS,
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(sequences)
def test_sqlite_answers_as_the_specification_does(sequence: Sequence[Any]) -> None:
    replay(sequence)
