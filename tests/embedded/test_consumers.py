"""The program's own consumers, as everybody is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streambroker import Broker
from streambroker.client import Forbidden
from streambroker.client.models import Consumer
from streambroker.client.rest import Rest
from streambroker.embedded import ManualClock


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as opened:
        yield opened


async def consumers(broker: Broker) -> list[Consumer]:
    return [one async for one in broker.consumers.list()]


async def until_there_is_one(broker: Broker) -> Consumer:
    while not (found := await consumers(broker)):
        await asyncio.sleep(0)
    return found[0]


async def test_a_consumer_is_told_of_while_it_consumes(broker: Broker) -> None:
    await broker.publish("q", 1)
    messages = broker.consume("q", credit=7)
    message = await anext(messages)
    (one,) = await consumers(broker)
    assert (one.kind, one.queue, one.sub, one.credit, one.in_flight) == ("embedded", "q", "q", 7, 1)
    assert (one.lease_mode, one.address, one.paused) == ("session", "", False)
    await message.ack()
    assert (await consumers(broker))[0].in_flight == 0
    await messages.aclose()
    assert await consumers(broker) == []


async def test_it_is_told_of_to_others_too_while_the_broker_is_served(broker: Broker) -> None:
    await broker.publish("q", 1)
    messages = broker.consume("q", lease_mode="fixed")
    await anext(messages)
    async with broker.serve() as served, Rest(served.url, token=served.token) as client:
        (one,) = [one async for one in client.consumers.list()]
        assert (one.kind, one.user, one.lease_mode) == ("embedded", served.username, "fixed")
    await messages.aclose()


async def test_a_receive_is_told_of_while_it_waits_once_for_each_queue(broker: Broker) -> None:
    waiting = asyncio.ensure_future(broker.receive_many(["a", "b"], most=3, wait_ms=60_000))
    await until_there_is_one(broker)
    found = await consumers(broker)
    assert [(one.kind, one.queue, one.sub, one.credit) for one in found] == [
        ("embedded", "a", None, 3),
        ("embedded", "b", None, 3),
    ]
    await broker.publish("b", 1)
    assert len(await waiting) == 1
    assert await consumers(broker) == []


async def test_a_consumer_that_is_disconnected_gives_back_what_it_holds_without_a_failure(broker: Broker) -> None:
    await broker.queues.create("q", max_attempts=1)
    await broker.publish("q", 1)
    messages = broker.consume("q")
    await anext(messages)
    (one,) = await consumers(broker)
    await broker.consumers.disconnect(one.id)
    again = await broker.receive("q", wait_ms=5_000)
    assert again is not None and again.attempt == 2
    with pytest.raises(Forbidden):
        await anext(messages)
    assert await consumers(broker) == []


@pytest.mark.parametrize("clock", [None, ManualClock()])
async def test_a_receive_that_is_disconnected_is_answered_with_nothing(clock: ManualClock | None) -> None:
    async with Broker(clock=clock) as broker:
        waiting = asyncio.ensure_future(broker.receive("q", wait_ms=60_000))
        one = await until_there_is_one(broker)
        await broker.consumers.disconnect(one.id)
        assert await waiting is None
        await broker.publish("q", 1)
        assert (await broker.messages.page("q")).items[0].status == "pending"


async def test_a_consumer_ends_with_its_queue_in_the_list_too(broker: Broker) -> None:
    await broker.publish("q", 1)
    messages = broker.consume("q")
    await anext(messages)
    await broker.queues.delete("q")
    assert await consumers(broker) == []
    await messages.aclose()
