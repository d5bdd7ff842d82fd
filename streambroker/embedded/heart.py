"""A broker within its program: the node of `serve`, opened here, and the calls that go straight to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streambroker.client.encoding import encoded
from streambroker.client.errors import Draining, ProblemDocument, ServerError, StreambrokerTimeout
from streambroker.client.messages import Verdict
from streambroker.client.models import Draft, MessageInfo, Published, PublishedBatch
from streambroker.config import Settings
from streambroker.core.errors import BrokerError, StorageFailed, invalid
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Message
from streambroker.core.names import format_id, is_queue_name, parse_id
from streambroker.embedded import seats
from streambroker.embedded.clock import ManualClock
from streambroker.embedded.inprocess import Application
from streambroker.embedded.refusals import refused, told_as_client
from streambroker.embedded.scratch import scratch
from streambroker.node import Node
from streambroker.protocol.json import JsonDecoder
from streambroker.protocol.messages import MAX_BATCH, DraftIn, Limits, digest, draft, shown
from streambroker.store.contract import Published as Stored
from streambroker.transport.server import Server

T = TypeVar("T")
log = logging.getLogger(__name__)

MEMORY = ":memory:"
MAX_WAIT_MS = 60_000
_OFF = {f"rate_limit_{name}": "off" for name in ("default", "login", "messages")}
_A_DAY_MS = 86_400_000

_draft_in = JsonDecoder[DraftIn](DraftIn)
_info = msgspec.json.Decoder(MessageInfo).decode


class Heart:
    """Owns the open node and, for `:memory:`, the directory it lies in. Lives on one loop. Open with `open()`.

    `admin` is the user in whose name the program acts; it may do everything.
    """

    def __init__(self, settings: Settings, clock: ManualClock | None, scratch: contextlib.ExitStack) -> None:
        self.settings = settings
        self.clock = clock
        self.closing = False
        self.fronts: list[Server] = []
        self.on_close: list[Callable[[], Awaitable[None]]] = []
        self._scratch = scratch
        self._failed: StorageFailed | None = None
        self._limits = Limits(settings.max_message_bytes)
        self.node: Node
        self.admin = ""

    @classmethod
    async def open(cls, path: str | Path, clock: ManualClock | None = None, **options: Any) -> Heart:
        """Open the data at `path`, a directory as `serve --data-dir` takes it, or `:memory:`.

        `options` are settings as in the configuration file; rate limits are off unless given. With a manual clock,
        jitter is off: every backoff takes its whole time. Raises `DataDirUnusable` (another broker has it),
        `DataDamaged`, `ConfigError` and `msgspec.ValidationError` for an option that is none.
        """
        with contextlib.ExitStack() as stack:
            directory = str(path)
            if directory == MEMORY:
                directory = str(stack.enter_context(scratch()))
            given = {**_OFF, "log_dir": "off", "access_token_ms": _A_DAY_MS, **options, "data_dir": directory}
            settings = msgspec.convert(given, Settings)
            heart = cls(settings, clock, stack.pop_all())
        try:
            chance = random.random if clock is None else _longest
            heart.node = await Node.open(settings, heart._storage_failed, clock=clock, chance=chance)
            heart.admin, _ = heart.node.insider()
        except BaseException:
            heart._scratch.close()
            raise
        return heart

    @cached_property
    def application(self) -> Application:
        """The doors of `serve`, in ASGI."""
        return self.node.application(lambda: sum(front.connections() for front in self.fronts), self._cut_off)

    def _cut_off(self) -> Counter[str]:
        total = Counter[str]()
        for front in self.fronts:
            total.update(front.cut_off())
        return total

    def _storage_failed(self, error: StorageFailed) -> None:
        log.critical("the storage of the embedded broker failed; it takes nothing more: %s", error)
        self._failed = error

    async def close(self) -> None:
        """Answer who waits, give back what nobody has settled, and let go of the data. Again, it does nothing."""
        if self.closing:
            return
        await asyncio.sleep(0)  # what was asked for before, acks that nobody awaits for instance, gets on its way
        self.closing = True
        try:
            for end in reversed(self.on_close):
                await end()
            self.node.broker.drain()
            await self.node.close()
        finally:
            await asyncio.to_thread(self._scratch.close)

    def check_open(self) -> None:
        """Raises `Draining` where it is closed, `ServerError` where its storage failed."""
        if self._failed is not None:
            raise ServerError(ProblemDocument("internal", 500, detail=f"the storage failed: {self._failed}"))
        if self.closing:
            raise Draining(ProblemDocument("draining", 503, detail="the broker was closed"))

    # -- publish -------------------------------------------------------------------------------------------------------

    async def publish(self, queue: str, drafts: Sequence[Draft]) -> tuple[Stored, str]:
        """Store drafts, all or none; and the durability of their queue. Raises `ApiError`."""
        self.check_open()
        with told_as_client():
            check_queue(queue)
            broker = self.node.broker
            found = await broker.ensure_queue(queue)
            now = broker.clock()
            ids = broker.new_ids(len(drafts), now)
            made = [
                draft(_draft_in(encoded(one)), number, found.config, self._limits, now, at=f"/messages/{index}")
                for index, (one, number) in enumerate(zip(drafts, ids, strict=True))
            ]
            digests = [digest(one) for one in made if one.dedup_id is not None]
            stored = await broker.publish(queue, made, digests=digests)
        return stored, found.config.durability

    async def publish_one(self, queue: str, one: Draft) -> Published:
        """Store one message."""
        stored, durability = await self.publish(queue, [one])
        return Published(format_id(stored.ids[0]), bool(stored.duplicates), durability)

    async def publish_batch(self, queue: str, drafts: Sequence[Draft]) -> PublishedBatch:
        """Store messages, all or none. Raises `ValueError` for none, or for more than a batch holds."""
        if not 1 <= len(drafts) <= MAX_BATCH:
            raise ValueError(f"a batch has 1 to {MAX_BATCH:,} messages, not {len(drafts):,}")
        stored, durability = await self.publish(queue, drafts)
        return PublishedBatch([format_id(number) for number in stored.ids], list(stored.duplicates), durability)

    # -- consume -------------------------------------------------------------------------------------------------------

    async def receive(self, queues: Sequence[str], most: int, wait_ms: int, lease_ms: int | None) -> list[MessageInfo]:
        """Up to `most` messages; waits for the first only. Raises `ApiError`."""
        self.check_open()
        with told_as_client():
            if not 0 <= wait_ms <= MAX_WAIT_MS:
                raise invalid("/wait_ms", f"is 0 to {MAX_WAIT_MS:,}")
            for name in queues:
                check_queue(name)
                await self.node.broker.ensure_queue(name)
            messages = await self._consumed(queues, most, wait_ms, lease_ms)
            return [self.shown(message) for message in messages]

    async def _consumed(self, queues: Sequence[str], most: int, wait_ms: int, lease_ms: int | None) -> list[Message]:
        """A wait ends when its time has passed, really or on the manual clock, or when somebody disconnects it."""
        consuming = self.node.broker.consume(queues, self.admin, most, wait_ms, lease_ms)
        if not wait_ms:
            return await consuming
        waiting = asyncio.ensure_future(consuming)
        over = self._over(wait_ms)

        def dismiss() -> None:
            over.cancel()

        try:
            ends: list[asyncio.Future[Any]] = [waiting, over]
            with seats.waiting(self.node, self.admin, queues, most, dismiss):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return await _ended(waiting)
        except asyncio.CancelledError:
            with contextlib.suppress(BrokerError):
                self.node.broker.release(await _ended(waiting))
            raise
        finally:
            over.cancel()

    def _over(self, wait_ms: int) -> asyncio.Future[None]:
        """Is done when that time has passed on the manual clock; where there is none, the broker ends the wait."""
        if self.clock is None:
            return asyncio.get_running_loop().create_future()
        return self.clock.alarm(self.clock() + wait_ms)

    def shown(self, message: Message) -> MessageInfo:
        """A delivered message as every door shows it."""
        return _info(shown(message, self.node.broker.queue(message.queue).config, delivered=True))

    # -- settle --------------------------------------------------------------------------------------------------------

    def settlement(self, message_id: str, lease: str | None, verdict: Verdict) -> Settlement:
        """What to ask of the store."""
        number, broker = parse_id(message_id) or 0, self.node.broker
        if verdict.what == "extend":
            until = broker.clock() + (verdict.lease_ms or 0)
            return Settlement(number, Event.EXTEND, lease, self.admin, until=until)
        if verdict.what == "ack":
            return Settlement(number, Event.ACK, lease, self.admin)
        event = Event.REQUEUE if verdict.requeue else Event.REJECT
        delay_ms, reason = verdict.delay_ms, verdict.reason
        return Settlement(number, event, lease, self.admin, delay_ms, reason, chance=broker.chance())

    async def settle(self, message_id: str, lease: str | None, verdict: Verdict) -> None:
        """Settle a message by its lease; durable when it returns. Raises `LeaseLost`, `AlreadySettled`, `NotFound`."""
        self.check_open()
        with told_as_client():
            (settled,) = await self.node.broker.settle([self.settlement(message_id, lease, verdict)])
        if settled.refusal is not None:
            refused(settled.refusal)

    # -- time ----------------------------------------------------------------------------------------------------------

    async def advance(self, seconds: float) -> None:
        """Move the manual clock and do all that falls due on the way, each thing at its own time."""
        self.check_open()
        if (clock := self.clock) is None:
            raise RuntimeError("the broker has no manual clock; open it with clock=ManualClock()")
        if seconds < 0:
            raise ValueError("time goes forward only")
        target = clock() + round(seconds * 1_000)
        with told_as_client():
            while True:
                following = await self.node.broker.catch_up()
                clock.ring()
                await asyncio.sleep(0)  # who was rung may set another alarm
                coming = [at for at in (following, clock.next_alarm()) if at is not None]
                if clock() >= target and not any(at <= target for at in coming):
                    return
                clock.advance_to(min([target, *coming]))


def _longest() -> float:
    """The throw of the dice at which jitter leaves a backoff whole."""
    return 1.0


async def _ended(waiting: asyncio.Future[list[Message]]) -> list[Message]:
    """End a wait; what it had got by then. It takes nothing any more when this returns. Raises `BrokerError`."""
    waiting.cancel()
    await asyncio.wait([waiting])
    return [] if waiting.cancelled() else waiting.result()


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """What `work` answers. Raises `StreambrokerTimeout` after that time; what became of it is unknown then."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise StreambrokerTimeout(f"this took longer than {seconds:g} s") from None


def check_queue(name: str) -> None:
    """Raises `Invalid` for what is no queue's name."""
    if not is_queue_name(name):
        raise invalid("/queue", "is not a queue's name")
