"""`Client`: everything that a program does with a broker, over one WebSocket and one pool of HTTP connections."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Unpack

import httpx

from streambroker.client.connection import Reconnecting
from streambroker.client.consuming import Consumption, LeaseMode
from streambroker.client.encoding import encoded
from streambroker.client.errors import StreambrokerError
from streambroker.client.http import DEFAULT_TIMEOUT_S
from streambroker.client.messages import Message
from streambroker.client.models import Draft, Published, PublishedBatch, Tokens
from streambroker.client.options import PublishOptions
from streambroker.client.rest import Rest
from streambroker.client.retrying import RetryPolicy
from streambroker.client.traffic import Traffic

log = logging.getLogger("streambroker.client")

PUBLISH_TIMEOUT_S = 10.0
SETTLE_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0
BATCH = 1_000


class Client(Rest):
    """A client of one broker, for one event loop.

        async with Client("http://127.0.0.1:8000", token="…") as client:
            await client.publish("orders", {"id": 1})
            async for message in client.consume("orders"):
                await message.ack()

    Who is asking is said as in `Rest`. Nothing is connected before it is needed; what is lost comes back by itself,
    with growing waits, until `close()`. Many tasks may share a client, and should: what they publish and settle at a
    time goes out together. `timeout` is that of REST calls; `settle_timeout` how long an ack that is not confirmed is
    tried again; both in seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        settle_timeout: float = SETTLE_TIMEOUT_S,
        close_timeout: float = CLOSE_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        reconnecting: Reconnecting | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__(
            url,
            token=token,
            username=username,
            password=password,
            timeout=timeout,
            retry=retry,
            verify=verify,
            transport=transport,
            environment=environment,
        )
        self._close_timeout = close_timeout
        self._traffic = Traffic(self.http, self.messages, settle_timeout, reconnecting or Reconnecting(), verify)
        self._publisher = self._traffic.publisher
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def publish(
        self, queue: str, content: Any, *, timeout: float | None = PUBLISH_TIMEOUT_S, **options: Unpack[PublishOptions]
    ) -> Published:
        """Publish a message: any value that is JSON, or `bytes`, which stay bytes. Returns once it is durable.

        Without a `dedup_id` one is made, so that a repeat after a lost connection stores nothing twice. Raises
        `StreambrokerTimeout` after `timeout` seconds (None: never), after which nobody knows whether it was stored;
        publish again with a `dedup_id` of your own to be sure. Raises `QueueFull`, `NotFound`, `Forbidden`, `Invalid`,
        … where the broker refused; then it was not stored. `TypeError` for what JSON in UTF-8 cannot say: an object of
        a kind that it does not know, half of a surrogate pair, NaN or an infinite number; it says where that is.
        """
        publisher = self._publisher
        if publisher.full:
            await publisher.room(timeout)
        self._check_open()
        draft = Draft(content=content, **options)
        published: Published = await publisher.post(queue, [encoded(draft)], True, timeout)
        return published

    async def publish_many(
        self, queue: str, drafts: Sequence[Draft], *, timeout: float | None = PUBLISH_TIMEOUT_S
    ) -> PublishedBatch:
        """Publish 1 to 1,000 messages, all or none; ids in the order of the drafts. As `publish` otherwise."""
        if not 1 <= len(drafts) <= BATCH:
            raise ValueError(f"a batch has 1 to {BATCH:,} messages, not {len(drafts):,}")
        publisher = self._publisher
        if publisher.full:
            await publisher.room(timeout)
        self._check_open()
        published: PublishedBatch = await publisher.post(queue, [encoded(draft) for draft in drafts], False, timeout)
        return published

    # -- consuming -----------------------------------------------------------------------------------------------------

    async def consume(
        self, queue: str, *, credit: int = 100, lease_mode: LeaseMode = "session", lease_ms: int | None = None
    ) -> AsyncGenerator[Message, None]:
        """The messages of a queue, as they come, for as long as you listen; reconnects by itself.

        At most `credit` (1 to 10,000) are in your hands unsettled. `lease_mode` `session`: a message is yours for as
        long as the connection lives, however long the work takes; `fixed`: for `lease_ms`, moved by `extend`. When you
        stop listening (`break`, `aclose()`, cancellation) what is not settled is given back, and counts no failure.
        Raises what ends it for good: `Unauthenticated`, `Forbidden`, `NotFound` (also when the queue is deleted).
        """
        self._check_open()
        consumption = self._traffic.consumptions.begin(queue, credit, lease_mode, lease_ms)
        take, take_now = consumption.take, consumption.take_now
        try:
            while True:
                yield take_now() or await take()
        finally:
            await consumption.close()

    def subscribe(
        self, queue: str, *, credit: int = 100, lease_mode: LeaseMode = "session", lease_ms: int | None = None
    ) -> Consumption:
        """The same for several takers: each `await take()` gets the next message; end it with `close()`."""
        self._check_open()
        return self._traffic.consumptions.begin(queue, credit, lease_mode, lease_ms)

    async def receive(
        self, queue: str, *, wait_ms: int = 0, lease_ms: int | None = None, timeout: float | None = None
    ) -> Message | None:
        """One message over REST; None when none came within `wait_ms` (at most 60,000). Its lease has an end."""
        self._check_open()
        info = await self.receiving.receive(queue, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout)
        return None if info is None else Message(info, self._traffic.settler.settle, None)

    async def receive_many(
        self,
        queues: str | Sequence[str],
        *,
        most: int = 100,
        wait_ms: int = 0,
        lease_ms: int | None = None,
        timeout: float | None = None,
    ) -> list[Message]:
        """Up to `most` (1,000) messages over REST, of a queue or of the first of several that has some."""
        self._check_open()
        infos = await self.receiving.receive_many(
            queues, most=most, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout
        )
        return [Message(info, self._traffic.settler.settle, None) for info in infos]

    # -- its life ------------------------------------------------------------------------------------------------------

    async def login(self, username: str, password: str, *, timeout: float | None = None) -> Tokens:
        """Begin a session; the client goes on as that user, its connection too."""
        pair = await super().login(username, password, timeout=timeout)
        await self._traffic.connection.renew()
        return pair

    async def close(self) -> None:
        """Give back what is not settled, wait up to `close_timeout` seconds for settles to be confirmed, disconnect.

        Publishes that are not confirmed fail with `ConnectionLost`.
        """
        if self._closed:
            return
        self._closed = True
        try:
            await self._traffic.close(self._close_timeout)
        finally:
            await super().close()

    def _check_open(self) -> None:
        if self._closed:
            raise StreambrokerError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:  # what is awaited there would never be told here
            raise RuntimeError("a Client is for one event loop; make another one here, or use SyncClient among threads")
