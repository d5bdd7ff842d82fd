"""What a store promises: messages are kept, handed out under leases and settled, atomically and durably.

A store is given *commands*. The decisions are taken in `core`; a store applies them, each one whole or not at all, and
answers when they are durable. Commands that overlap may share a commit. Stores never read the clock and never roll
dice: both come in with the command. `memory.MemoryEngine` is the executable specification, and one contract suite and
one model test (``tests/store``) run over every engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from streambroker.core.errors import BrokerError, StorageFull, invalid
from streambroker.core.lifecycle import Fate, LeaseTerms, Refusal, Ruling, Settlement
from streambroker.core.message import Draft, Message, Standing, State, Status
from streambroker.core.policy import QueueConfig
from streambroker.core.timeline import Record


class Queue(msgspec.Struct, frozen=True):
    """A queue as it is stored. `created_at` in milliseconds since 1970.

    `owner` is the user whose quotas it counts against, for as long as it exists; empty where it is nobody's.
    """

    name: str
    config: QueueConfig
    paused: bool
    created_at: int
    owner: str = ""


class Depth(msgspec.Struct, frozen=True):
    """How many messages of a queue stand where."""

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    processed: int = 0
    failed: int = 0


class Claim(msgspec.Struct, frozen=True, gc=False):
    """One consumer's wish: up to `limit` messages and about `max_bytes` of content (one message always fits).

    `consumer` tells consumers apart where several claims are served together; 0: by the token of the terms.
    """

    queue: str
    limit: int
    max_bytes: int
    terms: LeaseTerms
    now: int
    consumer: int = 0


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Store `drafts`, all or none, then serve `claims` on that queue, in one transaction.

    Where nothing older is ready, these drafts are all there is to deal out. Else the claims wait until the publishes of
    the turn are stored, and are served together, as claims of one turn are.

    `batch_key` makes the whole batch idempotent: used again within the queue's window it answers what it answered, or
    raises `Invalid` where `digest` differs. `size` is the weight of all drafts in bytes. `digests` holds one digest of
    content for each draft with a `dedup_id`.
    """

    queue: str
    drafts: Sequence[Draft]
    now: int
    claims: Sequence[Claim] = ()
    batch_key: str | None = None
    digest: bytes = b""
    digests: Sequence[bytes] = ()
    size: int = 0


class Published(msgspec.Struct, frozen=True, gc=False):
    """The ids in the order of the drafts (of a duplicate: the first one's), which of them were duplicates (indexes),
    what each claim got, whether messages are left ready in the queue, and how many were dropped to make room."""

    ids: Sequence[int]
    duplicates: Sequence[int]
    claimed: Sequence[list[Message]]
    ready: bool = False
    replayed: bool = False
    dropped: int = 0


class Settle(msgspec.Struct, frozen=True, gc=False):
    """Settle, release or extend, each item judged on its own. `relaxed`: all are known to be of `memory` queues.

    `queue` says that all items are acks, each by the token with which a consumer holds the message of that queue. It
    changes nothing in the answer but its form: where all are granted, it may be one `Acked`.
    """

    items: Sequence[Settlement]
    now: int
    relaxed: bool = False
    queue: str | None = None


class Acked(msgspec.Struct, frozen=True):
    """All items of a `Settle` were acked; `due_at` is when they may be purged."""

    due_at: int


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What became of one item. `queue` is where the message was, `now_in` where it is, `lease` its newest token.

    `holder` is who had that lease, `leased` whether it still ran before, `delivered` how often the message had been
    delivered by then; `attempt` begins anew where it moved to another queue.
    """

    id: int
    refusal: Refusal | None
    queue: str = ""
    now_in: str = ""
    state: State = State.READY
    fate: Fate | None = None
    already: bool = False
    attempt: int = 0
    due_at: int | None = None
    lease: str | None = None
    available_at: int = 0
    holder: str | None = None
    leased: bool = False
    delivered: int = 0


def settled(before: Standing, ruling: Ruling) -> Settled:
    """What to tell of a ruling."""
    after = ruling.standing or before
    return Settled(
        before.id,
        ruling.refusal,
        before.queue,
        after.queue,
        after.state,
        ruling.fate,
        ruling.already,
        after.attempt,
        after.due_at,
        before.lease,
        after.available_at,
        before.holder,
        before.state is State.LEASED,
        before.attempt,
    )


def other_content(dedup_id: str) -> BrokerError:
    """The refusal of a dedup id that stood for other content."""
    return invalid("/dedup_id", f"{dedup_id!r} was used for other content within the dedup window")


def over_quota(owner: str, quota: int) -> BrokerError:
    """The refusal of a publish that the owner of the queue has no room for."""
    return StorageFull(
        f"{owner}, whose queue this is, stores max_stored_bytes_per_user ({quota}) already; nothing was stored. Room "
        "comes back as messages are deleted: when their retention ends, or at a purge",
        retry_after_ms=60_000,
    )


class Overdue(msgspec.Struct, frozen=True):
    """Do what is due by `now` for up to `limit` messages. Answers `Lapsed`."""

    now: int
    limit: int


class Lapsed(msgspec.Struct, frozen=True):
    """What the tick did, and when the next thing is due (milliseconds since 1970; None: nothing is)."""

    items: Sequence[Settled]
    next_due: int | None


class Redrive(msgspec.Struct, frozen=True):
    """Up to `limit` failed messages of `queue`, or dead letters that `source` holds of it, ready again.

    Answers a list of `Settled` (fate READY).
    """

    queue: str
    source: str | None
    limit: int
    now: int


class Retry(msgspec.Struct, frozen=True):
    """One failed message ready again in its queue.

    Answers a `Settled` (fate READY, or refusal ``not_found``, or ``not_failed`` with what it is in `state`).
    """

    id: int
    now: int


class Purge(msgspec.Struct, frozen=True):
    """Delete up to `limit` messages of `queue` that stand in `states`. Answers how many."""

    queue: str
    states: Sequence[State]
    limit: int


class Delete(msgspec.Struct, frozen=True):
    """Delete one message from any state. Answers a `Settled` (fate GONE, or refusal ``not_found``)."""

    id: int


class SaveQueue(msgspec.Struct, frozen=True):
    """Create a queue or overwrite its configuration, and create the dead-letter queue it names.

    Answers the `Queue` as it is then. With `replacing` it is saved only where that is what stands there (None: nothing
    does), so that of two who change a queue at the same time neither undoes the other unseen. `owner` is whose a new
    queue is; that of a queue stays what it was, and a dead-letter queue is whoever's the queue is that names it.
    """

    name: str
    config: QueueConfig
    paused: bool
    now: int
    replacing: Queue | msgspec.UnsetType | None = msgspec.UNSET
    owner: str = ""


class DropQueue(msgspec.Struct, frozen=True):
    """Remove a queue at once; nobody sees its messages any more, `Sweep` deletes them. Answers whether it was there."""

    name: str


class Sweep(msgspec.Struct, frozen=True):
    """Delete up to `limit` of what dropped queues left and of old dedup records. Answers whether more is left."""

    now: int
    limit: int


Command = Publish | Claim | Settle | Overdue | Redrive | Retry | Purge | Delete | SaveQueue | DropQueue | Sweep


class Engine(Protocol):
    """The synchronous heart of a store: what happens in one turn of the group commit."""

    def turn(self, commands: Sequence[Command]) -> list[Any]:
        """Apply the commands in one transaction, durable on return: publishes first, then settles, then claims, then
        the rest in order. The claims of all publishes are served together.

        The answers stand in the order of the commands; a command that was refused has its `BrokerError` there. Raises
        `StorageFailed` when nothing is known any more.
        """
        ...


class Store(Protocol):
    """What the broker is given: an `Engine` behind a group commit, and reads beside it."""

    def post(self, command: Command, told: Callable[[Any], None], lazy: bool = False) -> None:
        """Apply one command; once it is durable, call `told` on the loop with its answer, or with its `BrokerError`.

        `lazy`: nobody waits for the answer, so it may wait a few milliseconds for company.
        """
        ...

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """As `post`, for somebody who awaits. The caller's cancellation does not undo it."""
        ...

    async def get(self, message_id: int) -> Message | None:
        """One message, whole."""
        ...

    async def timeline(self, message_id: int) -> tuple[Message, list[Record]] | None:
        """One message, and what is kept of its past, the oldest first, both of one moment.

        A record is kept with the change it tells of, in one transaction, of what `core.timeline` says, the newest
        `MOST_RECORDS` of a message; it goes where the message goes, and with it. Only where room on the disk or within
        the quota is short none is added: a settle that makes room is worth more.
        """
        ...

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        """Messages of a queue, nothing leased; and the cursor of the next page. A page may be short where a filter had
        to look at many messages, or where they are large: the cursor then goes on. Raises `Invalid` for a cursor that
        is none."""
        ...

    async def queues(self) -> list[Queue]:
        """All queues by name."""
        ...

    async def depth(self, queue: str) -> Depth:
        """How many messages stand where, as of the last commit."""
        ...

    async def oldest_ready(self, queue: str) -> int | None:
        """When the oldest message that waits to be delivered was published, in milliseconds since 1970."""
        ...

    async def leases(self) -> list[tuple[str, str, int]]:
        """How many messages are leased, by queue and holder."""
        ...

    async def close(self) -> None:
        """Finish what was submitted, then let go of the data."""
        ...
