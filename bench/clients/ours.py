"""The broker over its own WebSocket protocol."""

from __future__ import annotations

import asyncio
import sys

import httpx

from bench.clients.contract import Received
from bench.wire import Connection, Delivered, connect


class OursClient:
    """One WebSocket. Acks of one deliver frame go out as one operation, unconfirmed, as NATS' acks are."""

    def __init__(self, port: int, token: str, queue: str) -> None:
        self._port = port
        self._token = token
        self._queue = queue
        self._connection: Connection | None = None
        self._closing = False
        self._last: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()

    async def _open(self) -> Connection:
        if self._connection is None:
            self._connection = await connect(self._port, self._token)
            self._connection.closed.add_done_callback(self._report)
        return self._connection

    def _report(self, closed: asyncio.Future[str]) -> None:
        if not self._closing:
            print(f"the server ended a connection: {closed.result()}", file=sys.stderr)

    async def prepare(self) -> None:
        async with self._http() as http:
            reply = await http.post("/queues", json={"name": self._queue})
            reply.raise_for_status()
        await self._open()

    async def publish(self, contents: list[bytes]) -> None:
        connection = self._connection or await self._open()
        await connection.publish(self._queue, contents)

    async def fill(self, contents: list[bytes]) -> None:
        connection = await self._open()
        batches = [contents[at : at + 1_000] for at in range(0, len(contents), 1_000)]
        await asyncio.gather(*(connection.publish(self._queue, batch) for batch in batches))

    async def consume(self, received: Received, credit: int, consumers: int = 1) -> None:
        connection = await self._open()

        def deliver(messages: list[Delivered]) -> None:
            confirm = received([bytes(message.content) for message in messages])
            ids = [message.message_id for message in messages]
            if confirm:
                self._last = asyncio.get_running_loop().create_task(self._settle_last(connection, ids))
            else:
                connection.ack(ids)

        connection.deliver = deliver
        await connection.request("subscribe", queue=self._queue, sub="bench", credit=credit)

    async def _settle_last(self, connection: Connection, ids: list[str]) -> None:
        await connection.ack_confirmed(ids)
        self.settled.set()

    async def unsettled(self) -> int:
        async with self._http() as http:
            counts = (await http.get(f"/queues/{self._queue}")).raise_for_status().json()["counts"]
        return int(counts["pending"] + counts["processing"])

    def _http(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._port}", headers=headers, trust_env=False, timeout=60
        )

    async def close(self) -> None:
        self._closing = True
        if self._connection is not None:
            self._connection.close()
