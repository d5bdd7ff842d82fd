"""Counts in Redis, which several brokers share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError

from streambroker.core.errors import ConfigError
from streambroker.transport.limiting.windows import Window

T = TypeVar("T")
_log = logging.getLogger(__name__)

_KEY_PREFIX = "streambroker"
_AT_ONCE = 16
"""Calls on their way at the same time, each on a connection of its own; the next one waits for its turn."""


class Away(Exception):
    """Redis does not answer; count elsewhere."""


class RedisWindows:
    """Counts in the Redis at `url`.

    Promises: a call takes at most `timeout_ms` once it is its turn, and then raises `Away`, whatever was wrong. From
    then on `answering` is false and calls raise at once, while a task of its own asks Redis every `retry_ms` until it
    answers again. One line in the log says that it went away, and one that it is back.

    Raises `ConfigError` where the client library is missing or `url` is not one.
    """

    def __init__(self, url: str, *, timeout_ms: int = 250, retry_ms: int = 2_000) -> None:
        self.answering = True
        self._timeout_s = timeout_ms / 1_000
        self._retry_s = retry_ms / 1_000
        try:
            self._storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix=_KEY_PREFIX)
        except ConfigurationError as error:
            raise ConfigError(_why_not(str(error))) from None
        except ValueError as error:
            raise ConfigError(f"rate_limit_storage is not an address of a Redis: {error}") from None
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._asking: asyncio.Task[None] | None = None

    async def look(self, item: RateLimitItem, *names: str) -> Window:
        """The counts of one client, as of all brokers. Raises `Away`."""
        key, expiry = item.key_for(*names), item.get_expiry()
        return Window(*await self._answer(lambda: self._storage.get_sliding_window(key, expiry)))

    async def hit(self, item: RateLimitItem, *names: str, cost: int) -> bool:
        """Take `cost`; False, and nothing taken, where less is free. Raises `Away`; it may have been taken then."""
        return await self._answer(lambda: self._limiter.hit(item, *names, cost=cost))

    async def close(self) -> None:
        """Ask no more, and close the connections."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking], timeout=1)
        bridge = self._storage.bridge
        assert isinstance(bridge, RedispyBridge)
        await bridge.storage.aclose()

    async def _answer(self, call: Callable[[], Awaitable[T]]) -> T:
        async with self._turn:
            if not self.answering:
                raise Away
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await call()
            except TimeoutError as error:
                self._lost(f"no answer within {self._timeout_s * 1_000:.0f} ms")
                raise Away from error
            except Exception as error:  # refused, loading, out of memory, read-only, a script that fails: all the same
                self._lost(str(error) or type(error).__name__)
                raise Away from error

    def _lost(self, reason: str) -> None:
        if self.answering:
            self.answering = False
            _log.warning(
                "Redis fails (%s); until it answers, rate limits are counted by each broker for itself", reason
            )
            self._asking = asyncio.create_task(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        while not self.answering:
            await asyncio.sleep(self._retry_s)
            try:
                async with asyncio.timeout(self._timeout_s):
                    # What will be asked of it again: a Redis that is read-only or full answers a PING too.
                    await self._storage.acquire_sliding_window_entry("probe", 1, 1)
            except Exception as error:
                _log.debug("Redis does not answer yet: %s", error)
            else:
                self.answering = True
                _log.info("Redis answers again; rate limits are counted there")


def _why_not(reason: str) -> str:
    # The library's text about an address holds the address, and that may hold a password.
    if "not available" in reason or "minimum version" in reason:
        return "rate_limit_storage names a Redis, and its client is missing: pip install 'streambroker[redis]'"
    return "rate_limit_storage is not an address of a Redis such as redis://host:6379/0; host and port are both needed"
