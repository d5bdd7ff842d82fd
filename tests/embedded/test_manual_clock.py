"""Time that passes only when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from streambroker import Broker
from streambroker.client import errors
from streambroker.embedded import ManualClock

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker(clock=ManualClock(START)) as opened:
        yield opened


async def test_a_delayed_message_comes_when_its_time_has_come_and_not_before(broker: Broker) -> None:
    await broker.publish("q", 1, delay_ms=60_000)
    await broker.advance(59.999)
    assert await broker.receive("q") is None
    await broker.advance(0.001)
    assert await broker.receive("q") is not None


async def test_a_lease_ends_on_the_clock(broker: Broker) -> None:
    await broker.queues.create("q", lease_ms=30_000)
    await broker.publish("q", 1)
    message = await broker.receive("q")
    assert message is not None and message.lease_expires_at == START + timedelta(seconds=30)
    await broker.advance(29)
    await message.extend(30_000)
    await broker.advance(29)
    assert await broker.receive("q") is None
    await broker.advance(1)
    again = await broker.receive("q")
    assert again is not None and again.attempt == 2
    with pytest.raises(errors.LeaseLost):
        await message.ack()


async def test_a_message_that_outlives_its_time_fails(broker: Broker) -> None:
    published = await broker.publish("q", 1, ttl_ms=5_000)
    await broker.advance(5)
    info = await broker.messages.get(published.message_id)
    assert (info.status, info.error) == ("failed", "expired")


async def test_a_processed_message_is_gone_after_its_retention(broker: Broker) -> None:
    await broker.queues.create("q", retention_ms=60_000)
    published = await broker.publish("q", 1)
    message = await broker.receive("q")
    assert message is not None
    await message.ack()
    await broker.advance(59)
    assert (await broker.messages.get(published.message_id)).status == "processed"
    await broker.advance(1)
    with pytest.raises(errors.NotFound):
        await broker.messages.get(published.message_id)


async def test_retries_take_the_whole_backoff_each_time_and_then_it_has_failed(broker: Broker) -> None:
    await broker.queues.create("q", max_attempts=3, backoff={"base_ms": 1_000, "factor": 10})
    published = await broker.publish("q", 1)
    for wait in (1, 10, None):
        message = await broker.receive("q")
        assert message is not None
        await message.nack(reason="again")
        if wait is not None:
            await broker.advance(wait - 0.001)
            assert await broker.receive("q") is None
            await broker.advance(0.001)
    assert (await broker.messages.get(published.message_id)).status == "failed"


async def test_each_thing_happens_at_its_own_time_on_a_long_way(broker: Broker) -> None:
    # The lease ends three times on the way, each time at its own end, so that the third failure is the last.
    await broker.queues.create("q", lease_ms=10_000, max_attempts=3, dead_letter_queue="dead")
    await broker.publish("q", 1)

    async def take_and_forget() -> None:
        async with aclosing(broker.consume("q", lease_mode="fixed")) as messages:
            async for _ in messages:
                pass

    forgetting = asyncio.create_task(take_and_forget())
    while not (await broker.queues.get("q")).counts.processing:
        await asyncio.sleep(0)
    await broker.advance(3_600)
    letter = await broker.receive("dead")
    assert letter is not None and letter.dead_letter is not None
    assert letter.dead_letter.attempts == 3
    assert letter.dead_letter.at == START + timedelta(seconds=30)
    forgetting.cancel()


async def test_a_wait_ends_when_its_time_has_passed_on_the_clock(broker: Broker) -> None:
    waiting = asyncio.create_task(broker.receive("q", wait_ms=60_000))
    while broker._heart.clock is None or broker._heart.clock.next_alarm() is None:
        await asyncio.sleep(0)
    await broker.advance(59)
    assert not waiting.done()
    await broker.advance(1)
    assert await waiting is None


async def test_a_wait_on_a_clock_that_stands_still_does_not_last_for_ever(broker: Broker) -> None:
    assert await broker.receive("q", wait_ms=1) is None


async def test_what_falls_due_wakes_who_waits_for_it(broker: Broker) -> None:
    await broker.publish("q", "late", delay_ms=30_000)
    waiting = asyncio.create_task(broker.receive("q", wait_ms=60_000))
    while broker._heart.clock is None or broker._heart.clock.next_alarm() is None:
        await asyncio.sleep(0)
    await broker.advance(60)
    message = await waiting
    assert message is not None and message.content == "late"
    assert message.info.updated_at == START + timedelta(seconds=30)


async def test_a_dedup_id_is_free_again_after_its_window(broker: Broker) -> None:
    await broker.queues.create("q", dedup_window_ms=60_000)
    await broker.publish("q", 1, dedup_id="d")
    await broker.advance(59)
    assert (await broker.publish("q", 1, dedup_id="d")).duplicate
    await broker.advance(60)
    assert not (await broker.publish("q", 1, dedup_id="d")).duplicate


async def test_the_clock_shows_its_time_and_goes_forward_only(broker: Broker) -> None:
    await broker.advance(1.5)
    assert broker.now == START + timedelta(seconds=1.5)
    with pytest.raises(ValueError, match="forward"):
        await broker.advance(-1)


async def test_without_a_manual_clock_time_cannot_be_moved() -> None:
    async with Broker() as broker:
        with pytest.raises(RuntimeError, match="ManualClock"):
            await broker.advance(1)
        with pytest.raises(RuntimeError, match="ManualClock"):
            _ = broker.now
