"""Rate limits in memory, taken in shares, on a clock that the test sets (D34)."""

from __future__ import annotations

import re
import sys
import tracemalloc

import limits
import pytest

from streambroker.core.errors import ConfigError, RateLimited, problem
from streambroker.transport.limiting import Kind, RateLimits, Standing
from streambroker.transport.limiting.shares import MOST_STRANGERS

MINUTE = 60_000
START = 30_000_000 * MINUTE
ME, YOU = "u:me", "u:you"


class Clock:
    def __init__(self) -> None:
        self.ms = START

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limited(clock: Clock, rate: str, kind: Kind = Kind.DEFAULT) -> RateLimits:
    return RateLimits({kind: limits.parse(rate)}, clock)


async def admit(rates: RateLimits, who: str = ME, cost: int = 1, kind: Kind = Kind.DEFAULT) -> None:
    """What a door does."""
    if not rates.take(kind, who, cost):
        await rates.refill(kind, who, cost)


async def admitted(rates: RateLimits, tries: int, who: str = ME, cost: int = 1, kind: Kind = Kind.DEFAULT) -> int:
    """How many of the tries get through."""
    passed = 0
    for _ in range(tries):
        try:
            await admit(rates, who, cost, kind)
            passed += 1
        except RateLimited:
            pass
    return passed


def standing(rates: RateLimits, who: str = ME, kind: Kind = Kind.DEFAULT) -> Standing:
    found = rates.standing(kind, who)
    assert found is not None
    return found


@pytest.mark.parametrize(("rate", "limit"), [("1/minute", 1), ("10/minute", 10), ("1200/minute", 1_200), ("7/hour", 7)])
async def test_exactly_the_limit_gets_through_though_it_is_taken_in_shares(clock: Clock, rate: str, limit: int) -> None:
    assert await admitted(limited(clock, rate), 2 * limit) == limit


async def test_what_is_left_of_a_share_goes_into_the_next_one(clock: Clock) -> None:
    rates = limited(clock, "1200/minute")
    assert await admitted(rates, 300, cost=5) == 240


async def test_no_burst_of_two_windows_at_their_edge(clock: Clock) -> None:
    rates = limited(clock, "1200/minute")
    clock.ms += MINUTE - 1
    assert await admitted(rates, 2_400) == 1_200
    clock.ms += 1
    assert await admitted(rates, 2_400) <= 12


async def test_a_share_is_good_until_its_window_ends_and_no_longer(clock: Clock) -> None:
    rates = limited(clock, "1200/minute")
    await rates.refill(Kind.DEFAULT, ME)
    clock.ms += MINUTE - 1
    assert rates.take(Kind.DEFAULT, ME)
    clock.ms += 1
    assert not rates.take(Kind.DEFAULT, ME)


async def test_the_counter_is_asked_once_a_share_of_a_hundredth(clock: Clock) -> None:
    rates = limited(clock, "1200/minute")
    asked = 0
    for _ in range(120):
        if not rates.take(Kind.DEFAULT, ME):
            asked += 1
            await rates.refill(Kind.DEFAULT, ME)
    assert asked == 10


async def test_a_share_is_never_more_than_a_thousand(clock: Clock) -> None:
    rates = limited(clock, "600000/minute", Kind.MESSAGES)
    await rates.refill(Kind.MESSAGES, ME)
    assert rates.take(Kind.MESSAGES, ME, 999)
    assert not rates.take(Kind.MESSAGES, ME)


async def test_users_and_kinds_count_apart(clock: Clock) -> None:
    item = limits.parse("10/minute")
    rates = RateLimits({Kind.DEFAULT: item, Kind.MESSAGES: item}, clock)
    assert await admitted(rates, 20) == 10
    assert await admitted(rates, 20, YOU) == 10
    assert await admitted(rates, 20, kind=Kind.MESSAGES) == 10


async def test_a_rate_that_is_off_refuses_nobody(clock: Clock) -> None:
    for rates in (RateLimits(), RateLimits({Kind.DEFAULT: None}, clock)):
        assert rates.take(Kind.DEFAULT, ME, 10**9)
        await rates.refill(Kind.DEFAULT, ME, 10**9)
        assert rates.standing(Kind.DEFAULT, ME) is None


async def test_a_cost_is_taken_whole_or_not_at_all(clock: Clock) -> None:
    rates = limited(clock, "100/minute")
    await admit(rates, cost=60)
    assert await admitted(rates, 1, cost=41) == 0
    assert standing(rates).remaining == 40
    assert await admitted(rates, 1, cost=40) == 1


async def test_a_refusal_of_much_does_not_bar_little(clock: Clock) -> None:
    rates = limited(clock, "100/minute")
    await admit(rates, cost=90)
    assert await admitted(rates, 1, cost=50) == 0
    assert await admitted(rates, 20) == 10


async def test_who_waits_as_told_gets_through(clock: Clock) -> None:
    rates = limited(clock, "100/minute")
    await admitted(rates, 100)
    for _ in range(20):
        with pytest.raises(RateLimited) as caught:
            await admit(rates, cost=5)
        assert caught.value.retry_after_ms is not None
        assert 0 < caught.value.retry_after_ms <= 2 * MINUTE
        clock.ms += caught.value.retry_after_ms
        await admit(rates, cost=5)


async def test_a_cost_above_the_limit_is_refused_for_good(clock: Clock) -> None:
    rates = limited(clock, "10/minute")
    with pytest.raises(RateLimited) as caught:
        await admit(rates, cost=11)
    answer = problem(caught.value)
    assert (answer.status, answer.code, answer.retryable, answer.retry_after_ms) == (429, "rate_limited", False, None)
    assert await admitted(rates, 20) == 10


async def test_the_headers_are_those_of_the_draft(clock: Clock) -> None:
    rates = limited(clock, "600000/minute", Kind.MESSAGES)
    clock.ms += 18_000
    await admit(rates, cost=100, kind=Kind.MESSAGES)
    assert standing(rates, kind=Kind.MESSAGES).headers() == (
        (b"ratelimit-policy", b'"messages";q=600000;w=60'),
        (b"ratelimit", b'"messages";r=599900;t=42'),
    )


async def test_the_headers_of_a_refusal_say_when_to_come_back(clock: Clock) -> None:
    rates = limited(clock, "10/minute")
    await admitted(rates, 10)
    clock.ms += 1_500
    with pytest.raises(RateLimited) as caught:
        await admit(rates)
    _, (_, field) = standing(rates).headers()
    found = re.fullmatch(rb'"default";r=0;t=(\d+)', field)
    assert found is not None
    assert caught.value.retry_after_ms is not None
    assert int(found[1]) == -(-caught.value.retry_after_ms // 1_000) == 59  # 58.5 s, and its first millisecond


async def test_remaining_falls_by_one_a_request_and_never_rises_in_a_window(clock: Clock) -> None:
    rates = limited(clock, "1200/minute")
    seen = []
    for _ in range(1_200):
        await admit(rates)
        seen.append(standing(rates).remaining)
    assert seen == list(range(1_199, -1, -1))


async def test_a_million_addresses_cost_less_than_50_mib(clock: Clock) -> None:
    item = limits.parse("1200/minute")
    rates = RateLimits({Kind.DEFAULT: item, Kind.LOGIN: item}, clock)
    tracemalloc.start()
    try:
        for _ in range(2):  # in two windows, for what was taken in the last one counts in this one
            for kind in (Kind.DEFAULT, Kind.LOGIN):
                for number in range(MOST_STRANGERS + 1_000):
                    await rates.refill(kind, stranger(number))
            clock.ms += MINUTE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 45 * 2**20


async def test_a_million_addresses_make_no_more_entries_than_are_told_apart(clock: Clock) -> None:
    rates = limited(clock, "1/minute")
    await admitted(rates, 1)
    for number in range(1_000_000):
        try:
            await rates.refill(Kind.DEFAULT, stranger(number))
        except RateLimited:
            pass
    assert MOST_STRANGERS < entries(rates) <= MOST_STRANGERS + 1_024 + 1


async def test_who_came_in_a_window_that_is_over_is_forgotten(clock: Clock) -> None:
    rates = limited(clock, "10/minute")
    for number in range(1_000):
        await rates.refill(Kind.DEFAULT, f"u:{number}")
    clock.ms += MINUTE
    await rates.refill(Kind.DEFAULT, ME)
    assert entries(rates) == 1


def entries(rates: RateLimits) -> int:
    return sum(len(rate.shares) for rate in rates._rates if rate is not None)


def stranger(number: int) -> str:
    return f"a:2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64"


async def test_addresses_beyond_those_told_apart_are_limited_together_and_users_are_not(clock: Clock) -> None:
    rates = limited(clock, "1/minute")
    for number in range(MOST_STRANGERS):
        await rates.refill(Kind.DEFAULT, f"a:{number}")
    passed = sum([await admitted(rates, 1, f"a:more {number}") for number in range(5_000)])
    assert 900 <= passed <= 1_024
    assert await admitted(rates, 1, "a:0") == 0
    assert await admitted(rates, 1, ME) == 1
    clock.ms += 2 * MINUTE
    assert await admitted(rates, 2, "a:more 1") == 1
    assert await admitted(rates, 2, "a:more 2") == 1


@pytest.mark.parametrize("url", ["redis://hunter2@nowhere", "redis://:hunter2@host:port", "redis://:hunter2@:1:2/x"])
async def test_an_address_of_redis_that_is_none_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="rate_limit_storage") as caught:
        RateLimits({Kind.DEFAULT: limits.parse("1/minute")}, storage=url)
    assert "hunter2" not in str(caught.value)


async def test_a_redis_without_its_client_library_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'streambroker\[redis\]'"):
        RateLimits(storage="redis://127.0.0.1:6379/0")
