"""Counts in this process: a storage for the `limits` library.

The library's own reads the wall clock, and starts a thread that walks over all counts whenever one is changed. This one
has two dictionaries for each length of window, and forgets a window by dropping one.
"""

from __future__ import annotations

from collections.abc import Callable

from limits import RateLimitItem
from limits.storage import SlidingWindowCounterSupport, Storage
from limits.strategies import SlidingWindowCounterRateLimiter

from streambroker.transport.limiting.windows import Window


class _Counts:
    """The counts of this window and of the one before; windows are numbered from the clock's zero."""

    __slots__ = ("current", "number", "previous")

    def __init__(self) -> None:
        self.number = -1
        self.current: dict[str, int] = {}
        self.previous: dict[str, int] = {}

    def move_to(self, number: int) -> None:
        if number != self.number:
            self.previous = self.current if number == self.number + 1 else {}
            self.current = {}
            self.number = number


class MemoryStorage(Storage, SlidingWindowCounterSupport):
    """Sliding windows in dictionaries, for one thread. `clock` gives milliseconds."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__()
        self._clock = clock
        self._counts: dict[int, _Counts] = {}

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        counts, left_ms = self._now(expiry)
        current = counts.current.get(key, 0) + amount
        if counts.previous.get(key, 0) * left_ms // (expiry * 1_000) + current > limit:
            return False
        counts.current[key] = current
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        counts, left_ms = self._now(expiry)
        left = left_ms / 1_000
        return counts.previous.get(key, 0), left, counts.current.get(key, 0), left + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        counts, _ = self._now(expiry)
        counts.previous.pop(key, None)
        counts.current.pop(key, None)

    def _now(self, expiry: int) -> tuple[_Counts, int]:
        """The counts of windows of `expiry` seconds, and the milliseconds that the current one has left."""
        number, passed = divmod(self._clock(), expiry * 1_000)
        counts = self._counts.get(expiry)
        if counts is None:
            counts = self._counts[expiry] = _Counts()
        counts.move_to(number)
        return counts, expiry * 1_000 - passed

    # -- what the library asks of every storage ------------------------------------------------------------------------

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        known = sum(len(counts.current) + len(counts.previous) for counts in self._counts.values())
        self._counts.clear()
        return known

    def clear(self, key: str) -> None:
        for expiry in self._counts:
            self.clear_sliding_window(key, expiry)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("only sliding windows are counted here")

    def get(self, key: str) -> int:
        raise NotImplementedError("only sliding windows are counted here")

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError("only sliding windows are counted here")


class MemoryWindows:
    """Counts of this broker alone. Its coroutines never suspend."""

    def __init__(self, clock: Callable[[], int]) -> None:
        # Kept here, because the library's strategies hold their storage by a weak reference.
        self._storage = MemoryStorage(clock)
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    async def look(self, item: RateLimitItem, *names: str) -> Window:
        return Window(*self._storage.get_sliding_window(item.key_for(*names), item.get_expiry()))

    async def hit(self, item: RateLimitItem, *names: str, cost: int) -> bool:
        return self._limiter.hit(item, *names, cost=cost)
