"""A consumer process that takes messages and never settles them: ``python holder.py URL TOKEN QUEUE``.

It prints the id of each message it got, one a line, and holds them until it is killed or stopped.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from tests.harness import BrokerProcess
from tests.system.wire import Socket


class Holder:
    """The process as the tests see it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def held(self, count: int, timeout: float = 60) -> list[str]:
        """The ids of the next ``count`` messages that it got."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            return [(await self.process.stdout.readline()).decode().strip() for _ in range(count)]

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP: the connection stays, nobody answers."""
        self.process.send_signal(signal.SIGSTOP)


@asynccontextmanager
async def holding(broker: BrokerProcess, queue: str) -> AsyncIterator[Holder]:
    """A holder process that is subscribed to ``queue`` with a session lease; killed at the end."""
    arguments = (str(Path(__file__)), broker.ws_url, broker.token(), queue)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        yield Holder(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def hold(url: str, token: str, queue: str) -> None:
    socket = await Socket.open(url, token)
    await socket.call("subscribe", queue=queue)
    while True:
        print((await socket.deliveries.get())["message_id"], flush=True)


if __name__ == "__main__":
    asyncio.run(hold(*sys.argv[1:4]))
