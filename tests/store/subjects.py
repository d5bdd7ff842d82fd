"""The stores under test, all behind one face, and a bench with a clock to work them from."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from streambroker.core.errors import BrokerError
from streambroker.core.lifecycle import Event, LeaseTerms, Settlement
from streambroker.core.message import Draft, Message, State, Status, weight
from streambroker.core.names import IdSequence
from streambroker.core.policy import Backoff, QueueConfig
from streambroker.core.timeline import Record
from streambroker.store.contract import (
    Claim,
    Command,
    Depth,
    Overdue,
    Publish,
    Published,
    Queue,
    SaveQueue,
    Settle,
    Settled,
    Store,
)
from streambroker.store.memory import MemoryEngine
from streambroker.store.sql.sqlite import SqliteStore

START = 1_700_000_000_000
STEADY = Backoff(base_ms=100, jitter=False)
T = TypeVar("T")


class Subject(Protocol):
    """A store under test: its reads, and turns of commands that share one transaction."""

    async def turn(self, commands: Sequence[Command]) -> list[Any]:
        """Apply the commands in one turn; a refused one has its error in its place."""
        ...

    async def restart(self, now: int) -> None:
        """Close the store and open it again; what lives in no file stays, as after a restart."""
        ...

    @property
    def store(self) -> Reads:
        """Where to read."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Reads(Protocol):
    """The reading half of `contract.Store`."""

    async def get(self, message_id: int) -> Message | None: ...

    async def timeline(self, message_id: int) -> tuple[Message, list[Record]] | None: ...

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]: ...

    async def queues(self) -> list[Queue]: ...

    async def depth(self, queue: str) -> Depth: ...

    async def oldest_ready(self, queue: str) -> int | None: ...

    async def leases(self) -> list[tuple[str, str, int]]: ...


class SpecificationSubject:
    """The executable specification."""

    def __init__(self, owner_quota: int = 0) -> None:
        self._engine = MemoryEngine(owner_quota)

    @classmethod
    async def open(cls, directory: Path, now: int, owner_quota: int = 0) -> SpecificationSubject:
        return cls(owner_quota)

    async def turn(self, commands: Sequence[Command]) -> list[Any]:
        return self._engine.turn(commands)

    async def restart(self, now: int) -> None:
        self._engine.recover(now)

    @property
    def store(self) -> Reads:
        return self

    async def get(self, message_id: int) -> Message | None:
        return self._engine.get(message_id)

    async def timeline(self, message_id: int) -> tuple[Message, list[Record]] | None:
        return self._engine.timeline(message_id)

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        return self._engine.browse(queue, status, key, contains, limit, cursor)

    async def queues(self) -> list[Queue]:
        return self._engine.queues()

    async def depth(self, queue: str) -> Depth:
        return self._engine.depth(queue)

    async def oldest_ready(self, queue: str) -> int | None:
        return self._engine.oldest_ready(queue)

    async def leases(self) -> list[tuple[str, str, int]]:
        return self._engine.leases()

    async def close(self) -> None:
        pass


class StoreSubject:
    """A whole `contract.Store`. `reopen` opens it anew on the same data."""

    def __init__(self, store: Store, reopen: Callable[[int], Awaitable[Store]]) -> None:
        self.store: Store = store
        self._reopen = reopen

    @classmethod
    async def open_sqlite(cls, directory: Path, now: int, owner_quota: int = 0) -> StoreSubject:
        def failed(error: Exception) -> None:
            raise AssertionError(f"the storage failed: {error}")

        async def reopen(now: int) -> Store:
            return await SqliteStore.open(directory, now, failed, max_stored_bytes_per_user=owner_quota)

        return cls(await reopen(now), reopen)

    async def turn(self, commands: Sequence[Command]) -> list[Any]:
        # What is submitted in one turn of the loop is one group, and so one transaction.
        return await asyncio.gather(*[self.store.submit(command) for command in commands], return_exceptions=True)

    async def restart(self, now: int) -> None:
        await self.store.close()
        self.store = await self._reopen(now)

    async def close(self) -> None:
        await self.store.close()


ENGINES: dict[str, Callable[[Path, int], Awaitable[Subject]]] = {
    "memory": SpecificationSubject.open,
    "sqlite": StoreSubject.open_sqlite,
}
"""Every engine there is; another one is another line."""
OWNER_QUOTA = 4_000
QUOTA_ENGINES: dict[str, Callable[[Path, int], Awaitable[Subject]]] = {
    "memory": partial(SpecificationSubject.open, owner_quota=OWNER_QUOTA),
    "sqlite": partial(StoreSubject.open_sqlite, owner_quota=OWNER_QUOTA),
}
"""The same, where an owner may store `OWNER_QUOTA` bytes."""


class Bench:
    """A subject with a clock that only tests move, fresh ids and fresh tokens."""

    def __init__(self, subject: Subject, now: int = START) -> None:
        self.subject = subject
        self.now = now
        self._ids = IdSequence()
        self._tokens = itertools.count(1)

    @property
    def store(self) -> Reads:
        return self.subject.store

    # -- commands ------------------------------------------------------------------------------------------------------

    def draft(self, content: bytes = b"{}", **options: Any) -> Draft:
        """A message with a fresh id."""
        return Draft(self._ids.take(1, self.now)[0], content, **options)

    def drafts(self, count: int, **options: Any) -> list[Draft]:
        return [self.draft(**options) for _ in range(count)]

    def terms(self, holder: str = "ann", lease_ms: int | None = 30_000) -> LeaseTerms:
        """A fresh token; `lease_ms` None is a session's lease."""
        return LeaseTerms(f"token-{next(self._tokens)}", holder, None if lease_ms is None else self.now + lease_ms)

    def claim(
        self,
        queue: str = "q",
        limit: int = 1,
        *,
        max_bytes: int = 2**30,
        holder: str = "ann",
        lease_ms: int | None = 30_000,
    ) -> Claim:
        return Claim(queue, limit, max_bytes, self.terms(holder, lease_ms), self.now)

    def publishing(self, drafts: Sequence[Draft], queue: str = "q", **options: Any) -> Publish:
        return Publish(
            queue, drafts, self.now, size=sum(weight(draft.content, draft.attributes) for draft in drafts), **options
        )

    def settling(self, *items: Settlement) -> Settle:
        return Settle(items, self.now)

    # -- one command a turn --------------------------------------------------------------------------------------------

    async def turn(self, *commands: Command) -> list[Any]:
        return await self.subject.turn(commands)

    async def apply(self, command: Command) -> Any:
        """The answer to one command; its refusal is raised."""
        answer = (await self.turn(command))[0]
        if isinstance(answer, BrokerError):
            raise answer
        return answer

    async def queue(self, name: str = "q", **config: Any) -> Queue:
        """A queue; its backoff is 100 ms, doubled each time, without jitter, unless given."""
        config = {"backoff": STEADY, **config}
        return expect(Queue, await self.apply(SaveQueue(name, QueueConfig(**config), False, self.now)))

    async def publish(self, *drafts: Draft, queue: str = "q", **options: Any) -> Published:
        return plain(expect(Published, await self.apply(self.publishing(drafts, queue, **options))))

    async def take(self, limit: int = 1, queue: str = "q", **options: Any) -> list[Message]:
        """Claim from the table."""
        got: list[Message] = await self.apply(self.claim(queue, limit, **options))
        return got

    async def take_one(self, queue: str = "q", **options: Any) -> Message:
        (message,) = await self.take(1, queue, **options)
        return message

    async def settle(self, message: Message, event: Event, **options: Any) -> Settled:
        """Settle with the token of the message as it was delivered."""
        (answer,) = await self.apply(self.settling(wish(message, event, **options)))
        return expect(Settled, answer)

    async def ack(self, message: Message) -> Settled:
        return await self.settle(message, Event.ACK)

    async def tick(self, limit: int = 1_000) -> Any:
        return await self.apply(Overdue(self.now, limit))

    async def failed(self, count: int = 1, queue: str = "q", **options: Any) -> list[Message]:
        """Messages that were published, taken and rejected: failed, or dead-lettered."""
        await self.publish(*self.drafts(count, **options), queue=queue)
        messages = await self.take(count, queue)
        await self.apply(self.settling(*[wish(message, Event.REJECT, reason="bad") for message in messages]))
        return messages

    # -- looking -------------------------------------------------------------------------------------------------------

    async def stored(self, message_id: int) -> Message:
        message = await self.store.get(message_id)
        assert message is not None
        return message

    async def states(self, queue: str = "q") -> dict[int, State]:
        """Where every message of a queue stands."""
        return {message.id: message.state for message in await self.all(queue)}

    async def all(self, queue: str = "q", status: Status | None = None, **filters: Any) -> list[Message]:
        """Every page of a browse."""
        found: list[Message] = []
        cursor: str | None = None
        while True:
            page, cursor = await self.store.browse(
                queue, status, filters.get("key"), filters.get("contains"), filters.get("limit", 7), cursor
            )
            found += page
            if cursor is None:
                return found

    async def check_counts(self) -> None:
        """The counts of every queue are those of its messages."""
        for queue in await self.store.queues():
            assert await self.store.depth(queue.name) == count(await self.all(queue.name)), queue.name


def count(messages: Sequence[Message]) -> Depth:
    """A `Depth` counted by hand."""
    states = [message.state for message in messages]
    return Depth(*[states.count(state) for state in State])


def plain(answer: Any) -> Any:
    """The answer with lists for its sequences, so that answers of two engines can be compared."""
    if isinstance(answer, Published):
        lists = {"ids": [*answer.ids], "duplicates": [*answer.duplicates], "claimed": [*answer.claimed]}
        return msgspec.structs.replace(answer, **lists)
    return answer


def wish(message: Message, event: Event, **options: Any) -> Settlement:
    """A settle of a message by the token that it was delivered with."""
    return msgspec.structs.replace(Settlement(message.id, event, message.lease), **options)


def ids(messages: Sequence[Message | Draft | Settled]) -> list[int]:
    return [message.id for message in messages]


def expect(kind: type[T], answer: Any) -> T:
    assert isinstance(answer, kind), answer
    return answer
