"""NATS JetStream from nats-py: ``publish_async`` and a push consumer with explicit acks."""

from __future__ import annotations

import asyncio

import nats
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from bench.clients.contract import Received

_FILL_CHECK = 500
"""While filling, each so-many-th message is confirmed: the server buffers at most 10,000 unconfirmed ones."""


class NatsClient:
    """One connection. Consumers of one queue share a durable push consumer through a deliver group."""

    def __init__(self, port: int, token: str, queue: str) -> None:
        self._url = f"nats://127.0.0.1:{port}"
        self._queue = queue
        self._nats: Nats | None = None
        self._jetstream: JetStreamContext | None = None
        self.settled = asyncio.Event()

    async def _open(self) -> JetStreamContext:
        if self._jetstream is None:
            self._nats = await nats.connect(self._url, pending_size=64 * 2**20)
            self._jetstream = self._nats.jetstream(timeout=60)
        return self._jetstream

    async def prepare(self) -> None:
        jetstream = await self._open()
        await jetstream.add_stream(StreamConfig(name=self._queue, subjects=[self._queue], storage=StorageType.FILE))

    async def publish(self, contents: list[bytes]) -> None:
        jetstream = self._jetstream or await self._open()
        if len(contents) == 1:
            await jetstream.publish(self._queue, contents[0])
            return
        confirmed = [await jetstream.publish_async(self._queue, content) for content in contents]
        await asyncio.gather(*confirmed)

    async def fill(self, contents: list[bytes]) -> None:
        jetstream = await self._open()
        assert self._nats is not None
        for at, content in enumerate(contents, 1):
            if at % _FILL_CHECK and at < len(contents):
                await self._nats.publish(self._queue, content)
            else:
                await jetstream.publish(self._queue, content)

    async def consume(self, received: Received, credit: int, consumers: int = 1) -> None:
        jetstream = await self._open()

        async def deliver(message: Msg) -> None:
            if received((message.data,)):
                await message.ack_sync(timeout=60)
                self.settled.set()
            else:
                await message.ack()

        config = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            max_ack_pending=credit * consumers,
            ack_wait=300,
        )
        await jetstream.subscribe(
            self._queue, queue="bench", durable="bench", cb=deliver, manual_ack=True, config=config
        )

    async def unsettled(self) -> int:
        jetstream = await self._open()
        info = await jetstream.consumer_info(self._queue, "bench")
        return int((info.num_pending or 0) + (info.num_ack_pending or 0))

    async def close(self) -> None:
        if self._nats is not None:
            await self._nats.close()
