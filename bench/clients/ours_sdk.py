"""The broker through its own Python SDK, used as a program would: `publish`, `publish_many`, `consume`, `ack`."""

from __future__ import annotations

import asyncio

import msgspec

from bench.clients.contract import Received
from streambroker.client import Client, Draft


class SdkClient:
    """One `streambroker.client.Client`. Every ack is confirmed; the consumer does not wait for each."""

    def __init__(self, port: int, token: str, queue: str) -> None:
        self._client = Client(f"http://127.0.0.1:{port}", token=token, environment={})
        self._queue = queue
        self._consuming: list[asyncio.Task[None]] = []
        self.settled = asyncio.Event()

    async def prepare(self) -> None:
        await self._client.queues.create(self._queue)

    async def publish(self, contents: list[bytes]) -> None:
        if len(contents) == 1:
            await self._client.publish(self._queue, msgspec.Raw(contents[0]), timeout=60)
        else:
            drafts = [Draft(content=msgspec.Raw(content)) for content in contents]
            await self._client.publish_many(self._queue, drafts, timeout=60)

    async def fill(self, contents: list[bytes]) -> None:
        batches = [contents[at : at + 1_000] for at in range(0, len(contents), 1_000)]
        await asyncio.gather(*(self.publish(batch) for batch in batches))

    async def consume(self, received: Received, credit: int, consumers: int = 1) -> None:
        self._consuming.append(asyncio.create_task(self._consume(received, credit)))

    async def _consume(self, received: Received, credit: int) -> None:
        async for message in self._client.consume(self._queue, credit=credit):
            confirm = received((message.body,))
            ack = message.ack()
            if confirm:
                await ack
                self.settled.set()

    async def unsettled(self) -> int:
        counts = (await self._client.queues.get(self._queue)).counts
        return counts.pending + counts.processing

    async def close(self) -> None:
        for task in self._consuming:
            task.cancel()
        await asyncio.gather(*self._consuming, return_exceptions=True)
        await self._client.close()
