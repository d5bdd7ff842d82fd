"""The tick, in a time that only the test moves: early enough, never a busy loop, and not to be stopped by an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from streambroker.broker.tick import GRAIN_MS, Tick
from streambroker.core.errors import StorageFull
from tests.broker.virtual import clock, in_virtual_time
from tests.store.subjects import START

HOUR_MS = 3_600_000


class Work:
    """Notes when it was called (milliseconds since the start), and answers what a test says."""

    def __init__(self, following: Callable[[int], int | None]) -> None:
        self.calls: list[int] = []
        self._following = following

    async def __call__(self, now: int) -> int | None:
        self.calls.append(now - START)
        return self._following(now)


@asynccontextmanager
async def ticking(following: Callable[[int], int | None] = lambda now: None) -> AsyncIterator[tuple[Tick, Work]]:
    work = Work(following)
    tick = Tick(clock, work)
    tick.start()
    try:
        yield tick, work
    finally:
        await tick.stop()


async def until(ms: int) -> None:
    await asyncio.sleep((START + ms - clock()) / 1_000)


@in_virtual_time
async def test_what_became_due_while_nobody_looked_is_done_at_once() -> None:
    async with ticking() as (_, work):
        await until(1)
        assert work.calls == [0]


@in_virtual_time
async def test_without_anything_due_it_looks_once_a_minute() -> None:
    async with ticking() as (_, work):
        await until(HOUR_MS)
        assert 59 <= len(work.calls) <= 62


@in_virtual_time
async def test_what_is_due_is_done_then_and_not_before() -> None:
    async with ticking() as (tick, work):
        await until(5)
        tick.due(START + 1_234)
        await until(2_000)
        first, second = work.calls
        assert first == 0
        assert 1_234 <= second <= 1_234 + 2 * GRAIN_MS


@in_virtual_time
async def test_an_earlier_time_overtakes_a_later_one_and_a_later_one_changes_nothing() -> None:
    async with ticking() as (tick, work):
        await until(5)
        tick.due(START + 10_000)
        tick.due(START + 500)
        tick.due(START + 9_000)
        await until(1_000)
        assert len(work.calls) == 2
        assert 500 <= work.calls[1] <= 500 + 2 * GRAIN_MS


@in_virtual_time
async def test_the_answer_of_the_work_says_when_to_come_back() -> None:
    async with ticking(lambda now: now + 700 if now < START + 2_000 else None) as (_, work):
        await until(10_000)
        assert len(work.calls) == 4
        assert all(700 <= after - before <= 700 + GRAIN_MS for before, after in pairwise(work.calls))


@in_virtual_time
async def test_a_time_that_is_always_over_already_is_no_busy_loop() -> None:
    async with ticking(lambda now: now - 5_000) as (_, work):
        await until(10_000)
        assert len(work.calls) <= 10_000 // GRAIN_MS + 1
        assert len(work.calls) > 100


@pytest.mark.parametrize("ahead_ms", [-1, 0, 1, 5])
@in_virtual_time
async def test_a_steady_stream_of_ends_is_no_busy_loop(ahead_ms: int) -> None:
    async with ticking() as (tick, work):
        for _ in range(2_000):
            tick.due(clock() + ahead_ms)
            await asyncio.sleep(0.001)
        assert len(work.calls) <= 2_000 // GRAIN_MS + 2


@in_virtual_time
async def test_what_is_named_while_the_work_is_on_its_way_is_not_forgotten() -> None:
    tick: Tick

    async def work(now: int) -> int | None:
        calls.append(now - START)
        if len(calls) == 1:
            tick.due(START + 300)
            await asyncio.sleep(0.1)
        return None

    calls: list[int] = []
    tick = Tick(clock, work)
    tick.start()
    await until(1_000)
    await tick.stop()
    assert len(calls) == 2
    assert 300 <= calls[1] <= 300 + 2 * GRAIN_MS


@in_virtual_time
async def test_after_a_refusal_it_waits_a_second_and_goes_on() -> None:
    def refuse(now: int) -> int | None:
        if now < START + 3_500:
            raise StorageFull("the disk has no room")
        return None

    async with ticking(refuse) as (_, work):
        await until(10_000)
        assert len(work.calls) == 5
        assert all(1_000 <= after - before <= 1_000 + GRAIN_MS for before, after in pairwise(work.calls))


@in_virtual_time
async def test_it_can_be_stopped_also_before_it_began() -> None:
    await Tick(clock, Work(lambda now: None)).stop()
    async with ticking() as (tick, work):
        await until(100)
    tick.due(START + 200)
    await until(HOUR_MS)
    assert len(work.calls) == 1
