"""Clients that hang: ``python -m bench.hung JOB`` keeps them up against one server until its standard input ends.

A third of the sockets say nothing, a third half a head, a third half a body; one that the server closes is replaced at
once. WebSockets subscribe to a backlog and read nothing; they are replaced when the server should have cut them off.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import msgspec
import uvloop

from bench.wire import Connection

BACKLOG_QUEUE = "hung"
_CUT_OFF_S = 12
_AT_ONCE = 50


class HungJob(msgspec.Struct, kw_only=True):
    """How many of each kind."""

    port: int
    token: str
    sockets: int
    websockets: int


class Hung(asyncio.Protocol):
    """One socket that says a little and waits to be closed."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._said)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


class Hanging:
    """All of them."""

    def __init__(self, job: HungJob) -> None:
        self._job = job
        head = f"POST /queues/bench/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {job.token}\r\n"
        body = 'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"content":"'
        self._kinds = [b"", head.encode(), (head + body).encode()]
        self._up = 0
        self.all_up = asyncio.Event()

    async def socket(self, number: int) -> None:
        """Keep one socket up."""
        loop = asyncio.get_running_loop()
        said = self._kinds[number % len(self._kinds)]
        while True:
            _, hung = await loop.create_connection(lambda: Hung(said), "127.0.0.1", self._job.port)
            self._count()
            await hung.closed

    async def websocket(self) -> None:
        """Keep one WebSocket up that asks for much and reads nothing."""
        loop = asyncio.get_running_loop()
        while True:
            transport, connection = await loop.create_connection(
                lambda: Connection("127.0.0.1", self._job.token), "127.0.0.1", self._job.port
            )
            await connection.welcome
            await connection.request("subscribe", queue=BACKLOG_QUEUE, credit=1_000)
            transport.pause_reading()
            self._count()
            await asyncio.sleep(_CUT_OFF_S)
            transport.abort()

    def _count(self) -> None:
        self._up += 1
        if self._up == self._job.sockets + self._job.websockets:
            self.all_up.set()


async def main(job: HungJob) -> None:
    """Bring them up, say so, stay until nobody needs them."""
    hanging = Hanging(job)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(job.sockets):
            tasks.append(group.create_task(hanging.socket(number)))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0.01)
        tasks += [group.create_task(hanging.websocket()) for _ in range(job.websockets)]
        await hanging.all_up.wait()
        print("up", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    uvloop.run(main(msgspec.json.decode(sys.argv[1], type=HungJob)))
