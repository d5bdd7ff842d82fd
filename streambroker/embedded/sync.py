"""`streambroker.SyncBroker`: the broker within a program that has no event loop."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Self, TypeVar

from streambroker.client.consuming import LeaseMode
from streambroker.client.messages import Message
from streambroker.client.models import Draft, MessageInfo, Published, QueueEvent, Scalar, Stats
from streambroker.embedded.broker import Broker
from streambroker.embedded.clock import ManualClock
from streambroker.embedded.heart import MEMORY, Heart
from streambroker.embedded.hosting import LoopThread, SameLoop
from streambroker.embedded.serving import Served

T = TypeVar("T")
_END = object()


class SyncMessage:
    """A delivered message, as `client.Message`; `ack`, `nack` and `extend` return once they are durable."""

    __slots__ = ("_message", "_thread")

    def __init__(self, message: Message, thread: LoopThread) -> None:
        self._message = message
        self._thread = thread

    def __repr__(self) -> str:
        return repr(self._message)

    @property
    def info(self) -> MessageInfo:
        """Everything that the broker told of it; what is not a property here is there."""
        return self._message.info

    @property
    def message_id(self) -> str:
        """Its id."""
        return self._message.message_id

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self._message.queue

    @property
    def content(self) -> Any:
        """The content's value: what the JSON says, or `bytes` where raw bytes were sent."""
        return self._message.content

    @property
    def body(self) -> bytes:
        """The content's bytes as they were published."""
        return self._message.body

    @property
    def content_type(self) -> str:
        """Its media type."""
        return self._message.content_type

    @property
    def headers(self) -> dict[str, Scalar]:
        """The headers that it was published with."""
        return self._message.headers

    @property
    def attempt(self) -> int:
        """Which delivery this is, from 1."""
        return self._message.attempt

    @property
    def priority(self) -> int:
        """0 to 9."""
        return self._message.priority

    @property
    def key(self) -> str | None:
        """The publisher's key."""
        return self._message.key

    @property
    def correlation_id(self) -> str | None:
        """What it belongs to, as its publisher said."""
        return self._message.correlation_id

    @property
    def reply_to(self) -> str | None:
        """The queue that an answer should go to."""
        return self._message.reply_to

    @property
    def lease(self) -> str | None:
        """The fencing token of this delivery."""
        return self._message.lease

    @property
    def is_lost(self) -> bool:
        """Whether somebody else has it, or it is gone."""
        return self._message.is_lost

    def ack(self) -> None:
        """It is done. Raises `LeaseLost` where that came too late."""
        self._thread.wait(_awaited(lambda: self._message.ack()))

    def nack(self, *, requeue: bool = True, delay_ms: int | None = None, reason: str | None = None) -> None:
        """It failed: to be tried again after `delay_ms` (None: the queue's backoff), or given up."""
        self._thread.wait(_awaited(lambda: self._message.nack(requeue=requeue, delay_ms=delay_ms, reason=reason)))

    def extend(self, lease_ms: int) -> None:
        """The lease ends `lease_ms` from now."""
        self._thread.wait(_awaited(lambda: self._message.extend(lease_ms)))


class SyncBroker:
    """A broker within the program: `with SyncBroker("data") as broker`. See `Broker`, whose methods it has, blocking.

    It lives on a thread of its own, and may be called from any other. Lists are iterators, groups such as `queues` have
    the same methods as those of `Broker`.
    """

    def __init__(self, path: str | Path = MEMORY, *, clock: ManualClock | None = None, **settings: Any) -> None:
        self._broker = Broker(path, clock=clock, **settings)
        self._thread: LoopThread | None = None
        self._owns = True

    @classmethod
    def _attached(cls, heart: Heart, thread: LoopThread) -> SyncBroker:
        """A broker that is open on that thread; whoever opened it closes it."""
        broker = cls()
        broker._broker, broker._thread, broker._owns = Broker._attached(heart, SameLoop()), thread, False
        return broker

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open and recover the data; raises as `Broker.open`."""
        if self._thread is not None:
            raise RuntimeError("the broker is open, or was; make another one")
        self._thread = LoopThread()
        try:
            self._thread.wait(self._broker.open())
        except BaseException:
            self._thread.stop()
            raise

    def close(self) -> None:
        """Give back what nobody has settled, and let go of the data. Again, it does nothing."""
        if self._owns and self._thread is not None and self._thread.running:
            self._thread.wait(self._broker.close())
            self._thread.stop()

    @property
    def _on(self) -> LoopThread:
        if self._thread is None:
            raise RuntimeError("the broker is not open; use `with SyncBroker(…) as broker`")
        return self._thread

    # -- publish and consume -------------------------------------------------------------------------------------------

    def publish(self, queue: str, content: Any, **options: Any) -> Published:
        """Publish a message; options and errors as of `Broker.publish`."""
        return self._on.wait(self._broker.publish(queue, content, **options))

    def publish_many(self, queue: str, drafts: Sequence[Draft], *, timeout: float | None = None) -> list[str]:
        """Publish 1 to 1,000 messages, all or none; their ids."""
        return self._on.wait(self._broker.publish_many(queue, drafts, timeout=timeout))

    def consume(
        self, queue: str, *, credit: int = 100, lease_ms: int | None = None, lease_mode: LeaseMode = "session"
    ) -> Iterator[SyncMessage]:
        """Messages as they come; blocks while there is none. See `Broker.consume`."""
        messages = self._broker.consume(queue, credit=credit, lease_ms=lease_ms, lease_mode=lease_mode)
        for message in self._each(messages):
            yield SyncMessage(message, self._on)

    def receive(
        self, queue: str, *, wait_ms: int = 0, lease_ms: int | None = None, timeout: float | None = None
    ) -> SyncMessage | None:
        """One message; None when none came within `wait_ms`."""
        message = self._on.wait(self._broker.receive(queue, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout))
        return None if message is None else SyncMessage(message, self._on)

    def receive_many(
        self,
        queues: str | Sequence[str],
        *,
        most: int = 100,
        wait_ms: int = 0,
        lease_ms: int | None = None,
        timeout: float | None = None,
    ) -> list[SyncMessage]:
        """Up to `most` messages; waits for the first only."""
        work = self._broker.receive_many(queues, most=most, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout)
        return [SyncMessage(message, self._on) for message in self._on.wait(work)]

    # -- everything else -----------------------------------------------------------------------------------------------

    @property
    def queues(self) -> Any:
        """See `Broker.queues`, blocking."""
        return _Blocking(self, "queues")

    @property
    def messages(self) -> Any:
        """See `Broker.messages`, blocking."""
        return _Blocking(self, "messages")

    @property
    def users(self) -> Any:
        """See `Broker.users`, blocking."""
        return _Blocking(self, "users")

    @property
    def api_keys(self) -> Any:
        """See `Broker.api_keys`, blocking."""
        return _Blocking(self, "api_keys")

    @property
    def consumers(self) -> Any:
        """See `Broker.consumers`, blocking."""
        return _Blocking(self, "consumers")

    @property
    def webhooks(self) -> Any:
        """See `Broker.webhooks`, blocking."""
        return _Blocking(self, "webhooks")

    def stats(self, *, timeout: float | None = None) -> Stats:
        """What the broker does."""
        return self._on.wait(self._broker.stats(timeout=timeout))

    def events(self, queue: str, *, kinds: Sequence[str] = (), last_event_id: str = "") -> Iterator[QueueEvent]:
        """What happens in a queue, live; blocks while nothing does."""
        return self._each(self._broker.events(queue, kinds=kinds, last_event_id=last_event_id))

    # -- tests ---------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """See `Broker.advance`."""
        self._on.wait(self._broker.advance(seconds))

    @property
    def now(self) -> datetime:
        """See `Broker.now`."""
        return self._broker.now

    @contextmanager
    def serve(self, port: int = 0, host: str = "127.0.0.1") -> Iterator[Served]:
        """See `Broker.serve`: `with broker.serve() as served`."""
        serving = self._broker.serve(port, host)
        served = self._on.wait(_awaited(serving.__aenter__))
        try:
            yield served
        finally:
            self._on.wait(_awaited(lambda: serving.__aexit__(None, None, None)))

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous iterator, which is closed when nobody wants more of them."""
        try:
            while (item := self._on.wait(_next(items))) is not _END:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and self._on.running:
                self._on.wait(_awaited(close))


class _Blocking:
    """A group of calls, each of which blocks until it is done."""

    def __init__(self, broker: SyncBroker, group: str) -> None:
        self._sync = broker
        self._group = group

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(getattr(self._sync._broker, self._group), name)

        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            answer = method(*args, **options)
            if inspect.iscoroutine(answer):
                return self._sync._on.wait(answer)
            return self._sync._each(answer)

        return call


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


async def _awaited(begin: Callable[[], Any]) -> Any:
    """Begun on the broker's loop, where what it makes belongs."""
    return await begin()
