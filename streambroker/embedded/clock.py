"""A clock for tests: it stands still, and leaps where the test says so."""

from __future__ import annotations

import asyncio
import heapq
import time
from datetime import UTC, datetime
from itertools import count


class ManualClock:
    """Milliseconds since 1970 that pass only in `advance_to`. Begins at `start` (an aware time), now where it is None.

    Used on the loop of the broker whose clock it is.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = time.time_ns() // 1_000_000 if start is None else int(start.timestamp() * 1_000)
        self._order = count()
        self._alarms: list[tuple[int, int, asyncio.Future[None]]] = []

    def __call__(self) -> int:
        return self._now

    @property
    def now(self) -> datetime:
        """The time that it shows, in UTC."""
        return datetime.fromtimestamp(self._now / 1_000, UTC)

    def alarm(self, at: int) -> asyncio.Future[None]:
        """Resolves when that time has come. Cancel it when nobody waits for it any more."""
        rings: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._alarms, (at, next(self._order), rings))
        return rings

    def next_alarm(self) -> int | None:
        """When the next one rings that somebody waits for."""
        while self._alarms and self._alarms[0][2].done():
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def advance_to(self, at: int) -> None:
        """Leap to that time, never back. Alarms ring at `ring()`, after what else is due."""
        self._now = max(self._now, at)

    def ring(self) -> None:
        """Ring the alarms whose time has come."""
        while (at := self.next_alarm()) is not None and at <= self._now:
            heapq.heappop(self._alarms)[2].set_result(None)
