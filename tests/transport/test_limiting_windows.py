"""The sliding window counter of this process, on a clock that the test sets."""

from __future__ import annotations

import limits
from hypothesis import given
from hypothesis import strategies as st
from limits.strategies import SlidingWindowCounterRateLimiter

from streambroker.transport.limiting.memory import MemoryStorage
from streambroker.transport.limiting.windows import Window

MINUTE = 60_000
START = 30_000_000 * MINUTE
TEN = limits.parse("10/minute")


class Clock:
    def __init__(self) -> None:
        self.ms = START

    def __call__(self) -> int:
        return self.ms


def look(storage: MemoryStorage, item: limits.RateLimitItem = TEN) -> Window:
    return Window(*storage.get_sliding_window(item.key_for("me"), item.get_expiry()))


def taken(clock: Clock, limiter: SlidingWindowCounterRateLimiter, at: int) -> int:
    """How many of a hundred tries at this moment get through."""
    clock.ms = START + at
    return sum(limiter.hit(TEN, "me") for _ in range(100))


def test_no_more_than_the_limit_is_taken_in_a_window() -> None:
    clock = Clock()
    storage = MemoryStorage(clock)
    assert taken(clock, SlidingWindowCounterRateLimiter(storage), 0) == 10


def test_two_windows_worth_cannot_be_taken_at_their_edge() -> None:
    clock = Clock()
    storage = MemoryStorage(clock)
    limiter = SlidingWindowCounterRateLimiter(storage)
    assert taken(clock, limiter, MINUTE - 1) == 10
    assert taken(clock, limiter, MINUTE) == 0
    assert taken(clock, limiter, MINUTE + 1) <= 1


def test_what_was_taken_stops_to_count_bit_by_bit() -> None:
    clock = Clock()
    storage = MemoryStorage(clock)
    limiter = SlidingWindowCounterRateLimiter(storage)
    assert taken(clock, limiter, 0) == 10
    assert taken(clock, limiter, 3 * MINUTE // 2) == 5
    assert taken(clock, limiter, 4 * MINUTE) == 10


def test_one_client_takes_nothing_from_another() -> None:
    storage = MemoryStorage(Clock())
    limiter = SlidingWindowCounterRateLimiter(storage)
    assert limiter.hit(TEN, "me", cost=10)
    assert limiter.hit(TEN, "you", cost=10)
    assert not limiter.hit(TEN, "me")


def test_a_clock_that_jumps_back_bars_nobody() -> None:
    clock = Clock()
    storage = MemoryStorage(clock)
    limiter = SlidingWindowCounterRateLimiter(storage)
    assert taken(clock, limiter, 0) == 10
    assert taken(clock, limiter, -1_440 * MINUTE) == 10


def test_two_windows_later_nothing_is_remembered() -> None:
    clock = Clock()
    storage = MemoryStorage(clock)
    limiter = SlidingWindowCounterRateLimiter(storage)
    for client in range(1_000):
        limiter.hit(TEN, str(client))
    clock.ms += 2 * MINUTE
    limiter.hit(TEN, "me")
    assert storage.reset() == 1


hits = st.lists(st.tuples(st.integers(0, 70_000), st.integers(1, 10)), max_size=30)


@given(hits, st.integers(1, 10))
def test_what_cannot_be_taken_now_can_be_when_it_says_and_not_much_sooner(
    history: list[tuple[int, int]], cost: int
) -> None:
    clock = Clock()
    storage = MemoryStorage(clock)
    limiter = SlidingWindowCounterRateLimiter(storage)
    for wait, amount in history:
        clock.ms += wait
        limiter.hit(TEN, "me", cost=amount)
    window = look(storage)
    if window.free(TEN) < cost:
        retry_ms = window.retry_ms(TEN, cost)
        clock.ms += retry_ms - 2
        assert look(storage).free(TEN) < cost
        clock.ms += 2
        assert limiter.hit(TEN, "me", cost=cost)


@given(hits)
def test_what_is_free_can_be_taken_and_no_more(history: list[tuple[int, int]]) -> None:
    clock = Clock()
    storage = MemoryStorage(clock)
    limiter = SlidingWindowCounterRateLimiter(storage)
    for wait, amount in history:
        clock.ms += wait
        limiter.hit(TEN, "me", cost=amount)
    free = look(storage).free(TEN)
    assert not limiter.hit(TEN, "me", cost=free + 1)
    assert free == 0 or limiter.hit(TEN, "me", cost=free)
