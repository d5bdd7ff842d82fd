"""Rate limits: who may do how much in how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from limits import RateLimitItem

from streambroker.transport.limiting.memory import MemoryWindows
from streambroker.transport.limiting.redis import Away, RedisWindows
from streambroker.transport.limiting.shares import Kind, Rate, Standing

IN_MEMORY = "memory"


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class RateLimits:
    """How often somebody may do something, by kind. Owned by the event loop.

    `who` is ``u:`` and a user's name, else ``a:`` and a `network`; what is told apart of the latter is bounded. A kind
    without a rate is not limited and costs nothing. `clock` gives milliseconds and should not jump.

    Counts are those of a sliding window, in memory or in the Redis that `storage` names. A Redis that does not answer
    within `timeout_ms` makes no request fail: memory counts meanwhile.

    Raises `ConfigError` where `storage` cannot be used. Needs a running event loop from the first `refill` on.
    """

    def __init__(
        self,
        rates: Mapping[Kind, RateLimitItem | None] | None = None,
        clock: Callable[[], int] = _monotonic_ms,
        storage: str = IN_MEMORY,
        *,
        timeout_ms: int = 250,
    ) -> None:
        items = rates or {}
        self._clock = clock
        self._rates = [Rate(kind, item) if (item := items.get(kind)) else None for kind in Kind]
        # The same dictionaries once more: `take` is on every request's way.
        self._shares = [None if rate is None else rate.shares for rate in self._rates]
        self._memory = MemoryWindows(clock)
        self._redis = None if storage == IN_MEMORY else RedisWindows(storage, timeout_ms=timeout_ms)

    def take(self, kind: Kind, who: str, cost: int = 1) -> bool:
        """Take `cost` from the share at hand; False, and nothing taken, where that does not do: `refill` then."""
        shares = self._shares[kind]
        if shares is None:
            return True
        share = shares.get(who)
        if share is None or share.left < cost or share.until <= self._clock():
            return False
        share.left -= cost
        return True

    async def refill(self, kind: Kind, who: str, cost: int = 1) -> None:
        """Get another share and take `cost` from it.

        Raises `RateLimited`: `retry_after_ms` is when it can succeed, None where `cost` exceeds the limit itself.
        """
        rate = self._rates[kind]
        if rate is None:
            return
        key = rate.key(who, self._clock())
        while not rate.spend(key, cost, self._clock()):
            if self._redis is None or not self._redis.answering:
                await rate.draw(self._memory, key, cost, self._clock())
            else:
                await self._drawn(rate, self._redis, key, cost)

    def standing(self, kind: Kind, who: str) -> Standing | None:
        """How `who` stands, for headers. None where nothing is limited, or nothing was taken in this window."""
        rate = self._rates[kind]
        return None if rate is None else rate.standing(who, self._clock())

    async def close(self) -> None:
        """Let go of Redis."""
        drawing = [task for rate in self._rates if rate is not None for task in rate.drawing.values()]
        for task in drawing:
            task.cancel()
        if drawing:
            await asyncio.wait(drawing, timeout=1)
        if self._redis is not None:
            await self._redis.close()

    async def _drawn(self, rate: Rate, redis: RedisWindows, key: str, cost: int) -> None:
        """Wait for a share of this client: for the one that is on its way already, if there is one."""
        task = rate.drawing.get(key)
        if task is None:
            task = rate.drawing[key] = asyncio.create_task(self._draw(rate, redis, key, cost))
            task.add_done_callback(lambda _: rate.drawing.pop(key, None))
        await asyncio.shield(task)

    async def _draw(self, rate: Rate, redis: RedisWindows, key: str, cost: int) -> None:
        try:
            await rate.draw(redis, key, cost, self._clock())
        except Away:
            await rate.draw(self._memory, key, cost, self._clock())
