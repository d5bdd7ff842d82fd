"""How late the event loop is: what every connection and every timer has to wait while it is busy."""

from __future__ import annotations

import asyncio

from streambroker.core.histogram import Histogram

TICK_S = 1.0


class LoopLag:
    """`run` is its one task: it sleeps for a second at a time, and counts by how much it overslept, in seconds."""

    def __init__(self) -> None:
        self.seconds = Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.seconds.add(max(loop.time() - due, 0))
