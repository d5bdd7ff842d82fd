"""Rate limits that several brokers share, in a Redis of the test's own that comes and goes."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import limits
import pytest
import redis

from streambroker.core.errors import RateLimited
from streambroker.transport.limiting import Kind, RateLimits
from tests.redis_server import RedisServer

PATIENT_MS = 20_000
NOW = 1_800_000_000_000
ME = "u:me"
LOGGER = "streambroker.transport.limiting.redis"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


Open = Callable[..., RateLimits]


@pytest.fixture
async def broker() -> AsyncIterator[Open]:
    """Makes the rate limits of brokers, which are closed after the test."""
    async with AsyncExitStack() as stack:

        def make(url: str, rate: str = "10/minute", timeout_ms: int = PATIENT_MS) -> RateLimits:
            item = limits.parse(rate)
            # A clock that stands still, so that no window of this broker's ends in the middle of a test.
            rates = RateLimits(
                {Kind.DEFAULT: item, Kind.MESSAGES: item}, lambda: NOW, storage=url, timeout_ms=timeout_ms
            )
            stack.push_async_callback(rates.close)
            return rates

        yield make


class Heard(logging.Handler):
    """What the log was told, and when it was told something."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.DEBUG:
            self.lines.append((record.levelno, record.getMessage()))
            self._news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.lines) < count:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    handler, logger = Heard(), logging.getLogger(LOGGER)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


async def admitted(rates: RateLimits, tries: int, who: str = ME, cost: int = 1, kind: Kind = Kind.DEFAULT) -> int:
    passed = 0
    for _ in range(tries):
        try:
            if not rates.take(kind, who, cost):
                await rates.refill(kind, who, cost)
            passed += 1
        except RateLimited:
            pass
    return passed


async def test_brokers_that_share_a_redis_share_the_limit(server: RedisServer, broker: Open) -> None:
    one, other = broker(server.url), broker(server.url)
    assert await admitted(one, 6) == 6
    assert await admitted(other, 10) == 4
    assert await admitted(one, 10) == 0
    assert await admitted(one, 10, "u:you") == 10
    assert await admitted(one, 10, kind=Kind.MESSAGES) == 10


async def test_a_refusal_by_redis_says_when_and_how_much_is_left(server: RedisServer, broker: Open) -> None:
    rates = broker(server.url)
    assert await admitted(rates, 10) == 10
    with pytest.raises(RateLimited) as caught:
        await rates.refill(Kind.DEFAULT, ME)
    assert caught.value.retry_after_ms is not None
    assert 0 < caught.value.retry_after_ms <= 60_001
    standing = rates.standing(Kind.DEFAULT, ME)
    assert standing is not None
    assert standing.remaining == 0
    assert 0 < standing.reset_s <= 61


async def test_redis_is_asked_twice_a_share_and_not_a_message(server: RedisServer, broker: Open) -> None:
    rates = broker(server.url, "600000/minute")
    assert await admitted(rates, 5_000, kind=Kind.MESSAGES) == 5_000
    assert server.scripts_run() == 10


async def test_many_who_need_a_share_at_once_get_it_from_one_draw(server: RedisServer, broker: Open) -> None:
    rates = broker(server.url, "600000/minute")
    await asyncio.gather(*(rates.refill(Kind.MESSAGES, ME) for _ in range(500)))
    assert server.scripts_run() == 2
    standing = rates.standing(Kind.MESSAGES, ME)
    assert standing is not None
    assert standing.remaining == 599_500


async def test_who_is_refused_does_not_ask_redis_again_before_it_can_help(server: RedisServer, broker: Open) -> None:
    rates = broker(server.url)
    assert await admitted(rates, 11) == 10
    before = server.scripts_run()
    assert await admitted(rates, 100) == 0
    assert server.scripts_run() == before


async def test_a_client_that_hangs_up_does_not_take_the_share_from_the_others(
    server: RedisServer, broker: Open
) -> None:
    rates = broker(server.url, "600000/minute")
    gone = asyncio.create_task(rates.refill(Kind.MESSAGES, ME))
    stays = asyncio.create_task(rates.refill(Kind.MESSAGES, ME))
    await asyncio.sleep(0)
    gone.cancel()
    async with asyncio.timeout(60):
        await stays
    assert gone.cancelled()
    assert server.scripts_run() == 2


async def test_memory_counts_while_redis_is_away_and_redis_again_when_it_is_back(
    server: RedisServer, broker: Open, heard: Heard
) -> None:
    rates, other = broker(server.url), broker(server.url)
    assert await admitted(rates, 3) == 3
    server.stop()
    assert await admitted(rates, 20, "u:you") == 10
    assert await admitted(rates, 20) == 10  # what Redis knew is gone with it
    assert [level for level, _ in heard.lines] == [logging.WARNING]
    server.start()
    await heard.until(2)
    assert heard.lines[1] == (logging.INFO, "Redis answers again; rate limits are counted there")
    assert await admitted(rates, 6, "u:third") == 6
    assert await admitted(other, 20, "u:third") == 4


async def test_a_redis_that_hangs_delays_one_request_and_fails_none(
    server: RedisServer, broker: Open, heard: Heard
) -> None:
    rates = broker(server.url, timeout_ms=250)
    server.send(signal.SIGSTOP)
    try:
        first = asyncio.create_task(rates.refill(Kind.DEFAULT, ME))
        await asyncio.sleep(0)
        assert not first.done()  # it waits, and the loop does not
        async with asyncio.timeout(60):
            await first
        assert "no answer within 250 ms" in heard.lines[0][1]
        # From now on nothing is awaited that could not be there at once.
        unhindered = rates.refill(Kind.DEFAULT, ME)
        with pytest.raises(StopIteration):
            unhindered.send(None)
    finally:
        server.send(signal.SIGCONT)
    await heard.until(2)
    assert [level for level, _ in heard.lines] == [logging.WARNING, logging.INFO]


async def test_a_broker_starts_without_its_redis_and_tells_nobody_the_password(broker: Open, heard: Heard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    rates = broker(f"redis://:hunter2@127.0.0.1:{port}/0")
    assert await admitted(rates, 20) == 10
    assert [level for level, _ in heard.lines] == [logging.WARNING]
    assert "hunter2" not in heard.lines[0][1]


async def test_a_redis_that_refuses_to_count_is_as_good_as_none(
    server: RedisServer, broker: Open, heard: Heard
) -> None:
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "another")
    rates = broker(server.url)
    assert await admitted(rates, 20) == 10
    assert [level for level, _ in heard.lines] == [logging.WARNING]
    with redis.Redis(port=server.port, password="another") as client:
        client.config_set("requirepass", "")
    await heard.until(2)
    assert await admitted(rates, 3, "u:you") == 3
    assert server.scripts_run() > 0
