"""`SyncClient`: the same client for programs without an event loop. It runs one in a thread of its own.

Methods are those of the async classes, made blocking one by one, so their arguments, results and types are the same.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from streambroker.client.client import Client
from streambroker.client.consuming import LeaseMode
from streambroker.client.loopthread import EXIT_S, LoopThread
from streambroker.client.messages import Delivery, Message
from streambroker.client.messages_api import Messages
from streambroker.client.models import Queue, Webhook
from streambroker.client.overview import Consumers, Logs
from streambroker.client.queues import Queues
from streambroker.client.rest import Rest
from streambroker.client.users import ApiKeys, Users
from streambroker.client.webhooks import Webhooks

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")
P = ParamSpec("P")


class Blocking(Generic[S_co]):
    """What waits for something async."""

    def __init__(self, run: LoopThread, of: S_co) -> None:
        self._run = run
        self._of = of


def blocking(method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Blocking[S], P], T]:
    """The method, which returns when it is done."""

    @functools.wraps(method)
    def call(self: Blocking[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run.run(method(self._of, *args, **kwargs))

    return call


def iterating(
    method: Callable[Concatenate[S, P], AsyncIterator[T]],
) -> Callable[Concatenate[Blocking[S], P], Iterator[T]]:
    """The method, whose items come one by one."""

    @functools.wraps(method)
    def call(self: Blocking[S], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return _items(self._run, method(self._of, *args, **kwargs))

    return call


def _items(run: LoopThread, source: AsyncIterator[T]) -> Iterator[T]:
    items = _Items(source)
    try:
        while True:
            try:
                yield run.run(items.next())
            except StopAsyncIteration:
                return
    finally:
        if run.is_mine:
            run.leave(items.close())  # collected there as garbage: to wait would be to wait for ourselves
        elif run.is_here:
            run.run(items.close())


class _Items(Generic[T]):
    """An iterator that is asked one thing at a time: its end waits until a step that was interrupted is over."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self._one = asyncio.Lock()

    async def next(self) -> T:
        async with self._one:
            return await anext(self._source)

    async def close(self) -> None:
        async with self._one:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()


class SyncQueues(Blocking[Queues]):
    """`client.queues`."""

    get = blocking(Queues.get)
    list = iterating(Queues.list)
    page = blocking(Queues.page)
    delete = blocking(Queues.delete)
    purge = blocking(Queues.purge)
    pause = blocking(Queues.pause)
    resume = blocking(Queues.resume)
    redrive = blocking(Queues.redrive)

    def create(self, name: str, *, timeout: float | None = None, **config: Any) -> Queue:
        """See `Queues.create`."""
        return self._run.run(self._of.create(name, timeout=timeout, **config))

    def update(self, name: str, *, timeout: float | None = None, **config: Any) -> Queue:
        """See `Queues.update`."""
        return self._run.run(self._of.update(name, timeout=timeout, **config))


class SyncMessages(Blocking[Messages]):
    """`client.messages`."""

    get = blocking(Messages.get)
    browse = iterating(Messages.browse)
    page = blocking(Messages.page)
    delete = blocking(Messages.delete)
    retry = blocking(Messages.retry)
    timeline = blocking(Messages.timeline)
    ack = blocking(Messages.ack)
    nack = blocking(Messages.nack)
    extend = blocking(Messages.extend)
    settle_many = blocking(Messages.settle_many)


class SyncUsers(Blocking[Users]):
    """`client.users`."""

    me = blocking(Users.me)
    list = iterating(Users.list)
    get = blocking(Users.get)
    create = blocking(Users.create)
    update = blocking(Users.update)
    delete = blocking(Users.delete)
    change_password = blocking(Users.change_password)


class SyncApiKeys(Blocking[ApiKeys]):
    """`client.api_keys`."""

    list = iterating(ApiKeys.list)
    create = blocking(ApiKeys.create)
    delete = blocking(ApiKeys.delete)


class SyncConsumers(Blocking[Consumers]):
    """`client.consumers`."""

    list = iterating(Consumers.list)
    disconnect = blocking(Consumers.disconnect)


class SyncWebhooks(Blocking[Webhooks]):
    """`client.webhooks`."""

    list = iterating(Webhooks.list)
    every = iterating(Webhooks.every)
    get = blocking(Webhooks.get)
    delete = blocking(Webhooks.delete)
    deliveries = iterating(Webhooks.deliveries)
    redeliver = blocking(Webhooks.redeliver)
    test = blocking(Webhooks.test)

    def create(
        self, queue: str, url: str, *, secret: str | None = None, timeout: float | None = None, **options: Any
    ) -> Webhook:
        """See `Webhooks.create`."""
        return self._run.run(self._of.create(queue, url, secret=secret, timeout=timeout, **options))

    def update(self, queue: str, webhook_id: str, *, timeout: float | None = None, **changes: Any) -> Webhook:
        """See `Webhooks.update`."""
        return self._run.run(self._of.update(queue, webhook_id, timeout=timeout, **changes))


class SyncLogs(Blocking[Logs]):
    """`client.logs`."""

    list = iterating(Logs.list)
    read = blocking(Logs.read)


class SyncMessage(Delivery):
    """A delivered message; see `Message`. Settling blocks until it is durable."""

    __slots__ = ("_message", "_run")

    def __init__(self, message: Message, run: LoopThread) -> None:
        super().__init__(message.info)
        self._message = message
        self._run = run

    @property
    def settled(self) -> bool:
        """See `Message.settled`."""
        return self._message.settled

    @property
    def is_lost(self) -> bool:
        """See `Message.is_lost`."""
        return self._message.is_lost

    def ack(self, *, timeout: float | None = None) -> None:
        """See `Message.ack`."""

        async def ack() -> None:
            await self._message.ack(timeout=timeout)

        self._run.run(ack())

    def nack(
        self,
        *,
        requeue: bool = True,
        delay_ms: int | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """See `Message.nack`."""

        async def nack() -> None:
            await self._message.nack(requeue=requeue, delay_ms=delay_ms, reason=reason, timeout=timeout)

        self._run.run(nack())

    def extend(self, lease_ms: int, *, timeout: float | None = None) -> None:
        """See `Message.extend`."""

        async def extend() -> None:
            await self._message.extend(lease_ms, timeout=timeout)

        self._run.run(extend())


class SyncClient(Blocking[Client]):
    """A client for programs without an event loop; threads may share it.

        with SyncClient("http://127.0.0.1:8000", token="…") as client:
            client.publish("orders", {"id": 1})
            for message in client.consume("orders"):
                message.ack()

    Arguments are those of `Client`. One that was not closed is closed when the process ends, or before, when neither it
    nor a message of it is in use any more. After a fork, make another one in the child.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        thread = LoopThread()
        try:
            super().__init__(thread, thread.run(_construct(url, options)))
        except BaseException:
            thread.stop()
            raise
        thread.when_dropped(self._of.close)
        self.queues = SyncQueues(self._run, self._of.queues)
        self.messages = SyncMessages(self._run, self._of.messages)
        self.users = SyncUsers(self._run, self._of.users)
        self.api_keys = SyncApiKeys(self._run, self._of.api_keys)
        self.consumers = SyncConsumers(self._run, self._of.consumers)
        self.webhooks = SyncWebhooks(self._run, self._of.webhooks)
        self.logs = SyncLogs(self._run, self._of.logs)
        _open.add(self)

    publish = blocking(Client.publish)
    publish_many = blocking(Client.publish_many)
    login = blocking(Client.login)
    logout = blocking(Rest.logout)
    stats = blocking(Rest.stats)
    ready = blocking(Rest.ready)
    events = iterating(Rest.events)

    def consume(
        self, queue: str, *, credit: int = 100, lease_mode: LeaseMode = "session", lease_ms: int | None = None
    ) -> Iterator[SyncMessage]:
        """See `Client.consume`."""
        source = self._of.consume(queue, credit=credit, lease_mode=lease_mode, lease_ms=lease_ms)
        for message in _items(self._run, source):
            yield SyncMessage(message, self._run)

    def receive(
        self, queue: str, *, wait_ms: int = 0, lease_ms: int | None = None, timeout: float | None = None
    ) -> SyncMessage | None:
        """See `Client.receive`."""
        received = self._of.receive(queue, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout)
        message = self._run.run(received)
        return None if message is None else SyncMessage(message, self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, timeout: float | None = None) -> None:
        """See `Client.close`. In a child after a fork there is nothing to close."""
        _open.discard(self)
        if not self._run.is_here:
            return
        try:
            self._run.run(self._of.close(), timeout)
        finally:
            self._run.stop()


async def _construct(url: str | None, options: dict[str, Any]) -> Client:
    """On the loop, where its parts belong."""
    return Client(url, **options)


_open: weakref.WeakSet[SyncClient] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for client in list(_open):
        try:
            client.close(EXIT_S)
        except Exception:  # noqa: S110 - the process ends, and nobody is left to hear of it
            pass
