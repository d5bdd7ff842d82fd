"""One task does what is due, and sleeps until the next thing is (as beanstalkd's main loop does)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from streambroker.broker.clock import Clock
from streambroker.core.errors import BrokerError

log = logging.getLogger(__name__)

GRAIN_MS = 20
"""Things due closer together than this are done together."""
_AT_MOST_MS = 60_000
_AFTER_ERROR_MS = 1_000


class Tick:
    """Owns the time of the next thing due; `due()` moves it forward, the task does it."""

    def __init__(self, clock: Clock, do_overdue: Callable[[int], Awaitable[int | None]]) -> None:
        self.stopped = False
        self._clock = clock
        self._do_overdue = do_overdue
        self._next = 0
        self._sooner = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; what became due while the broker was down is done at once."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; a command on its way is not undone."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def due(self, at: int) -> None:
        """Something will be due at that time, in milliseconds since 1970."""
        if at < self._next:
            self._next = at
            self._sooner.set()

    async def _run(self) -> None:
        while True:
            now = self._clock()
            if now >= self._next:
                # What is due from here on, and made known while we work, must not be overwritten afterwards.
                self._next = now + _AT_MOST_MS
                try:
                    following = await self._do_overdue(now)
                except BrokerError as error:
                    log.warning("what is due has to wait: %s", error.detail)
                    following = now + _AFTER_ERROR_MS
                if following is not None:
                    self._next = min(self._next, following)
            self._sooner.clear()
            # Never a wait from the past: at least the grain, so a steady stream of ends cannot make this a busy loop.
            wait_ms = max(self._next - self._clock(), GRAIN_MS)
            try:
                async with asyncio.timeout(wait_ms / 1_000):
                    await self._sooner.wait()
            except TimeoutError:
                continue
            # Somebody named an earlier time: keep to the grain, then look again.
            await asyncio.sleep(GRAIN_MS / 1_000)
