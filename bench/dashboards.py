"""Open dashboards: ``python -m bench.dashboards JOB`` watches a broker at light work through any number of feeds."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import msgspec
import psutil
import uvloop
import websockets

from bench.loads import content
from bench.wire import connect

_WARM_UP_S = 2.0
_EVERY_S = 0.02


class DashboardsJob(msgspec.Struct, kw_only=True):
    """``dashboards`` watch ``queues`` queues, into which a message goes every 20 ms, for ``seconds``."""

    port: int
    token: str
    server_pid: int
    dashboards: int
    queues: int
    seconds: float


class DashboardsResult(msgspec.Struct, kw_only=True):
    """CPU of the server in percent of one core, and how many frames each dashboard was sent."""

    cpu_percent: float
    frames_each: float


async def run(job: DashboardsJob) -> DashboardsResult:
    """Make the queues, open the dashboards, let them run warm, measure."""
    server = psutil.Process(job.server_pid)
    frames = 0
    async with AsyncExitStack() as stack:
        producer = await connect(job.port, job.token)
        stack.callback(producer.close)
        for number in range(job.queues):
            await producer.publish(f"queue-{number}", [content(64)])

        async def watch() -> None:
            nonlocal frames
            socket = await stack.enter_async_context(
                websockets.connect(
                    f"ws://127.0.0.1:{job.port}/dashboard/ws",
                    additional_headers={"Authorization": f"Bearer {job.token}"},
                    proxy=None,
                    compression=None,
                    max_size=None,
                )
            )
            await socket.send('{"op":"watch","topics":["queues","consumers"],"events":"queue-0"}')

            async def read() -> None:
                nonlocal frames
                async for _ in socket:
                    frames += 1

            reader = asyncio.create_task(read())
            stack.callback(reader.cancel)

        for _ in range(job.dashboards):
            await watch()
        loop = asyncio.get_running_loop()

        async def work(seconds: float) -> None:
            end, number = loop.time() + seconds, 0
            while loop.time() < end:
                await producer.publish(f"queue-{number % job.queues}", [content(64)])
                number += 1
                await asyncio.sleep(_EVERY_S)

        await work(_WARM_UP_S)
        frames, before, began = 0, _cpu(server), loop.time()
        await work(job.seconds)
        percent = (_cpu(server) - before) / (loop.time() - began) * 100
        return DashboardsResult(cpu_percent=percent, frames_each=frames / max(job.dashboards, 1))


def _cpu(server: psutil.Process) -> float:
    times = server.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Run the job of the command line and print its result."""
    job = msgspec.json.decode(sys.argv[1], type=DashboardsJob)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(job))))


if __name__ == "__main__":
    main()
