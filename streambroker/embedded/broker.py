"""`streambroker.Broker`: the whole broker within a program, called like the SDK's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self, Unpack

from streambroker.client.consuming import LeaseMode
from streambroker.client.messages import Message, Settle, Verdict
from streambroker.client.messages_api import Messages
from streambroker.client.models import Draft, Published, PublishedBatch, QueueEvent, Stats
from streambroker.client.options import PublishOptions
from streambroker.client.overview import Consumers
from streambroker.client.queues import Queues
from streambroker.client.rest import Rest
from streambroker.client.users import ApiKeys, Users
from streambroker.client.webhooks import Webhooks
from streambroker.embedded.clock import ManualClock
from streambroker.embedded.consuming import Consumer
from streambroker.embedded.heart import MEMORY, Heart, within
from streambroker.embedded.hosting import Host, SameLoop
from streambroker.embedded.inprocess import BASE_URL, InProcess
from streambroker.embedded.serving import Listener, Served


class Broker:
    """A broker within the program, without a server: `async with Broker("data") as broker`.

    `path` is a data directory, which one broker has at a time, as durable as `serve` makes it; or `:memory:`, which is
    gone with the broker. Further `settings` are those of the configuration file; rate limits are off unless given. The
    methods are those of `client.Client` and raise the same errors, so that a program can take either.

    With `clock=ManualClock()` the time of messages stands still, and `advance` moves it.
    """

    def __init__(self, path: str | Path = MEMORY, *, clock: ManualClock | None = None, **settings: Any) -> None:
        self._path = path
        self._clock = clock
        self._settings = settings
        self._host: Host = SameLoop()
        self._opened: Heart | None = None
        self._calls: Rest | None = None

    @classmethod
    def _attached(cls, heart: Heart, host: Host) -> Broker:
        """A broker that is open elsewhere, as seen from here; whoever opened it closes it."""
        broker = cls(clock=heart.clock)
        broker._opened, broker._host = heart, host
        return broker

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open and recover the data; `async with` does it.

        Raises `core.errors.DataDirUnusable` (73: another broker has it), `DataDamaged`, `ConfigError`.
        """
        if self._opened is not None:
            raise RuntimeError("the broker is open, or was; make another one")
        self._opened = await Heart.open(self._path, self._clock, **self._settings)

    async def close(self) -> None:
        """Give back what nobody has settled, and let go of the data; `async with` does it. Again, it does nothing."""
        if self._calls is not None:
            await self._calls.close()
        if self._opened is not None and isinstance(self._host, SameLoop):
            await self._opened.close()

    @property
    def _heart(self) -> Heart:
        if self._opened is None:
            raise RuntimeError("the broker is not open; use `async with Broker(…) as broker`")
        return self._opened

    @property
    def _rest(self) -> Rest:
        """What is not in a hurry goes through the same calls and the same doors as over the network."""
        if self._calls is None:
            heart = self._heart
            _, token = heart.node.insider()
            transport = InProcess(lambda: heart.application, self._host)
            self._calls = Rest(BASE_URL, token=token, transport=transport)
        return self._calls

    # -- publish -------------------------------------------------------------------------------------------------------

    async def publish(
        self, queue: str, content: Any, *, timeout: float | None = None, **options: Unpack[PublishOptions]
    ) -> Published:
        """Publish a message: any JSON value, or bytes. Durable when it returns, as the queue's `durability` says.

        Raises `Invalid`, `TooLarge`, `QueueFull`, `StorageFull`, `StreambrokerTimeout`.
        """
        draft = Draft(content=content, **options)
        return await within(timeout, self._host.call(self._heart.publish_one(queue, draft)))

    async def publish_many(
        self, queue: str, drafts: Sequence[Draft], *, timeout: float | None = None
    ) -> PublishedBatch:
        """Publish 1 to 1,000 messages, all or none; ids in the order of the drafts. Raises as `publish`."""
        return await within(timeout, self._host.call(self._heart.publish_batch(queue, drafts)))

    # -- consume -------------------------------------------------------------------------------------------------------

    async def consume(
        self, queue: str, *, credit: int = 100, lease_ms: int | None = None, lease_mode: LeaseMode = "session"
    ) -> AsyncGenerator[Message, None]:
        """Messages as they come, at most `credit` unsettled at a time; ends when the broker is closed.

        When you stop (`break`, `aclose`, cancellation) what you have not settled is given back, and counts no failure.
        With `lease_mode="fixed"` what you had in hand is yours until `lease_ms` after its delivery.
        """
        host, loop = self._host, asyncio.get_running_loop()
        consumer = await host.call(Consumer.open(self._heart, queue, credit, lease_ms, lease_mode))
        in_hand: dict[str, Message] = {}  # unsettled, and so no more than the credit

        def lost(message_id: str) -> None:
            if (message := in_hand.pop(message_id, None)) is not None:
                message.lose()

        def settled(message_id: str) -> None:
            in_hand.pop(message_id, None)

        settle = _settler(host, consumer)
        consumer.lost_message = lambda message_id: _told(loop, lost, message_id)
        try:
            while (info := await host.call(consumer.next())) is not None:
                message = in_hand[info.message_id] = Message(info, settle, None, settled)
                yield message
        finally:
            await host.call(consumer.close())

    async def receive(
        self, queue: str, *, wait_ms: int = 0, lease_ms: int | None = None, timeout: float | None = None
    ) -> Message | None:
        """One message; None when none came within `wait_ms` (at most 60,000)."""
        messages = await self.receive_many(queue, most=1, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout)
        return messages[0] if messages else None

    async def receive_many(
        self,
        queues: str | Sequence[str],
        *,
        most: int = 100,
        wait_ms: int = 0,
        lease_ms: int | None = None,
        timeout: float | None = None,
    ) -> list[Message]:
        """Up to `most` messages of a queue, or of the first of several that has some; waits for the first only."""
        names = [queues] if isinstance(queues, str) else list(queues)
        heart = self._heart
        infos = await within(timeout, self._host.call(heart.receive(names, most, wait_ms, lease_ms)))
        settle = _settler(self._host, heart)
        return [Message(info, settle, None) for info in infos]

    # -- everything else -----------------------------------------------------------------------------------------------

    @property
    def queues(self) -> Queues:
        """Create, look, change, purge, pause, resume, redrive, delete."""
        return self._rest.queues

    @property
    def messages(self) -> Messages:
        """By id: get, browse, delete, retry, timeline, ack, nack, extend."""
        return self._rest.messages

    @property
    def users(self) -> Users:
        """Users and their rights, for when the data is served."""
        return self._rest.users

    @property
    def api_keys(self) -> ApiKeys:
        """API keys, likewise."""
        return self._rest.api_keys

    @property
    def consumers(self) -> Consumers:
        """Who consumes: this program, and others while the broker is served."""
        return self._rest.consumers

    @property
    def webhooks(self) -> Webhooks:
        """Queues that are pushed to a URL."""
        return self._rest.webhooks

    async def stats(self, *, timeout: float | None = None) -> Stats:
        """What the broker does."""
        return await self._rest.stats(timeout=timeout)

    def events(
        self, queue: str, *, kinds: Sequence[str] = (), last_event_id: str = ""
    ) -> AsyncGenerator[QueueEvent, None]:
        """What happens in a queue, live."""
        return self._rest.events(queue, kinds=kinds, last_event_id=last_event_id)

    # -- tests ---------------------------------------------------------------------------------------------------------

    async def advance(self, seconds: float) -> None:
        """Move the manual clock, and do all that falls due on the way: delays, leases, lives, retries, retention.

        Each thing happens at its own time, and what becomes ready has been handed to those who wait for it when this
        returns. Raises `RuntimeError` without a manual clock.
        """
        await self._host.call(self._heart.advance(seconds))

    @property
    def now(self) -> datetime:
        """The time that the manual clock shows. Raises `RuntimeError` without one."""
        if self._heart.clock is None:
            raise RuntimeError("the broker has no manual clock; open it with clock=ManualClock()")
        return self._heart.clock.now

    @asynccontextmanager
    async def serve(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[Served]:
        """Serve this broker over HTTP and WebSocket, on loopback: `async with broker.serve() as served`.

        Port 0 takes a free one. Raises `OSError` where it cannot listen, `ConfigError` beyond loopback.
        """
        listener = await self._host.call(Listener.open(self._heart, host, port))
        try:
            yield listener.served
        finally:
            await self._host.call(listener.close())


class _Source(Protocol):
    """Whoever messages came from, on the broker's loop."""

    async def settle(self, message_id: str, lease: str | None, verdict: Verdict) -> None: ...


def _settler(host: Host, source: _Source) -> Settle:
    """How a message is settled: asked for at once, whether it is awaited or not."""
    return lambda message, verdict: host.start(source.settle(message.message_id, message.lease, verdict))


def _told(loop: asyncio.AbstractEventLoop, lost: Any, message_id: str) -> None:
    """Tell somebody who may be on another loop, or gone."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(lost, message_id)
