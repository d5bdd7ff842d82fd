"""Idle connections: ``python -m bench.idle JOB`` holds WebSocket consumers and parked long-polls against one server.

All WebSockets subscribe to one queue, all polls wait on another; so one publish must wake exactly one of thousands.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import httpx
import msgspec
import psutil
import uvloop

from bench.loads import content
from bench.wire import Connection, Delivered, connect

_AT_ONCE = 100
_WARM_UP = 50


class IdleJob(msgspec.Struct, kw_only=True):
    """``connections`` of each kind; idle CPU is taken over ``seconds``."""

    port: int
    token: str
    server_pid: int
    connections: int
    seconds: float


class IdleResult(msgspec.Struct, kw_only=True):
    """KiB of server memory for each connection, CPU in percent of one core, and how many one publish woke."""

    websocket_kib: float
    poll_kib: float
    idle_cpu_percent: float
    websockets_woken: int
    polls_woken: int
    rss_mib: float


class Poll(asyncio.Protocol):
    """One parked long-poll on a connection of its own; ``answer`` is what came back."""

    __slots__ = ("answer", "request", "transport")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.answer += data


async def _lots(count: int, open_one: Callable[[], Awaitable[None]]) -> None:
    """Run ``open_one`` ``count`` times, ``_AT_ONCE`` at a time."""
    for at in range(0, count, _AT_ONCE):
        await asyncio.gather(*(open_one() for _ in range(min(_AT_ONCE, count - at))))


class Idle:
    """The connections of one run and the process they are held against."""

    def __init__(self, job: IdleJob) -> None:
        self._job = job
        self._server = psutil.Process(job.server_pid)
        self._sockets: list[Connection] = []
        self._polls: list[Poll] = []
        self._delivered = 0

    def _rss_kib(self) -> float:
        return float(self._server.memory_info().rss) / 1024

    def _cpu(self) -> float:
        times = self._server.cpu_times()
        return float(times.user + times.system)

    async def _subscribe(self) -> None:
        connection = await connect(self._job.port, self._job.token)
        connection.deliver = self._count
        self._sockets.append(connection)
        await connection.request("subscribe", queue="idle-sockets", credit=10)

    def _count(self, messages: list[Delivered]) -> None:
        self._delivered += len(messages)

    async def _park(self) -> None:
        job = self._job
        request = (
            f"GET /queues/idle-polls/messages/consume?wait_ms=60000 HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\n"
            f"Authorization: Bearer {job.token}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        _, poll = await loop.create_connection(lambda: Poll(request.encode()), "127.0.0.1", job.port)
        self._polls.append(poll)

    async def _grow(self, count: int, open_one: Callable[[], Awaitable[None]]) -> float:
        """Open a few, then ``count`` more; KiB the server grew by for each of the latter."""
        await _lots(_WARM_UP, open_one)
        await asyncio.sleep(1)
        before = self._rss_kib()
        await _lots(count, open_one)
        await asyncio.sleep(1)
        return (self._rss_kib() - before) / count

    async def _publish(self, queue: str) -> None:
        headers = {"Authorization": f"Bearer {self._job.token}"}
        async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=30) as http:
            url = f"http://127.0.0.1:{self._job.port}/queues/{queue}/messages"
            body = b'{"content":%s}' % content(64)
            reply = await http.post(url, content=body, headers={"Content-Type": "application/json"})
            reply.raise_for_status()

    async def run(self) -> IdleResult:
        """Open, measure, publish one message to each queue, count who woke."""
        job = self._job
        websocket_kib = await self._grow(job.connections, self._subscribe)
        poll_kib = await self._grow(job.connections, self._park)
        self._require_quiet()
        cpu = self._cpu()
        await asyncio.sleep(job.seconds)
        cpu = self._cpu() - cpu
        self._require_quiet()
        await self._publish("idle-sockets")
        await self._publish("idle-polls")
        await asyncio.sleep(1)
        return IdleResult(
            websocket_kib=websocket_kib,
            poll_kib=poll_kib,
            idle_cpu_percent=cpu / job.seconds * 100,
            websockets_woken=self._delivered,
            polls_woken=sum(1 for poll in self._polls if poll.answer),
            rss_mib=self._rss_kib() / 1024,
        )

    def _require_quiet(self) -> None:
        """Nothing may have been answered or closed before the publish."""
        ended = [connection.closed.result() for connection in self._sockets if connection.closed.done()]
        answered = [poll.answer[:300] for poll in self._polls if poll.answer]
        if ended or answered:
            examples = [*ended[:1], *answered[:1]]
            raise RuntimeError(f"{len(ended)} sockets closed, {len(answered)} polls answered too early: {examples}")


def main() -> None:
    """Run the job of the command line and print its result."""
    job = msgspec.json.decode(sys.argv[1], type=IdleJob)

    async def run() -> IdleResult:
        return await Idle(job).run()

    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run())))


if __name__ == "__main__":
    main()
