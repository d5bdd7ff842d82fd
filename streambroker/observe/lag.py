"""How late the event loop is: what every connection and every timer has to wait while it is busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from streambroker.core.histogram import Histogram

TICK_S = 1.0


class LoopLag:
    """`run` is its one task: it sleeps for a second at a time, and counts by how much it overslept, in seconds.

    `clock` is in seconds; the loop's own need not be finer than a millisecond.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds = Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            due = self._clock() + TICK_S
            await asyncio.sleep(TICK_S)
            self.seconds.add(max(self._clock() - due, 0))
