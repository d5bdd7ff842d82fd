"""SIGTERM: everybody hears of it, what is under way is finished, the rest is given back, and the status is 0."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest

from tests.harness import BrokerProcess
from tests.system.conftest import StartBroker
from tests.system.wire import Cut, Json, Refused, Rest, Socket, ids, rest, socket

DRAIN_MS = 5000
SLACK = 60.0
"""Seconds that a loaded machine may add to the drain; the exit must come by itself, not by a kill."""


def sigterm(broker: BrokerProcess) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGTERM)


async def exit_status(broker: BrokerProcess) -> int:
    assert broker.process is not None
    return await asyncio.to_thread(broker.process.wait, DRAIN_MS / 1000 + SLACK)


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    return start_broker(env={"STREAMBROKER_DRAIN_TIMEOUT_MS": str(DRAIN_MS)})


async def holder(broker: BrokerProcess, queue: str) -> Socket:
    connection = await socket(broker)
    await connection.call("subscribe", queue=queue)
    return connection


async def test_parked_polls_are_answered_at_once_and_empty(broker: BrokerProcess) -> None:
    async with rest(broker) as one, rest(broker) as many, rest(broker) as both, rest(broker) as client:
        polls: list[asyncio.Task[Any]] = [
            asyncio.create_task(one.get("/queues/one/messages/consume", wait_ms=60_000)),
            asyncio.create_task(many.post("/queues/many/messages/consume", {"max": 9, "wait_ms": 60_000})),
            asyncio.create_task(both.post("/consume", {"queues": ["a", "b"], "max": 9, "wait_ms": 60_000})),
        ]
        for queue in ("one", "many", "a", "b"):
            await client.parked(queue)
        sigterm(broker)
        async with asyncio.timeout(SLACK):
            assert await asyncio.gather(*polls) == [None, {"messages": []}, {"messages": []}]
        assert await exit_status(broker) == 0


async def test_publishes_are_refused_as_draining_while_acks_are_taken(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        published = await client.publish("rest", "used", "unused")
        used, unused = await client.collect("rest", 2, lease_ms=600_000)
        connection = await holder(broker, "socket")
        published += await client.publish("socket", "acked", "held")
        acked, held = await connection.receive(2)

        sigterm(broker)
        notice = await connection.notice("draining")
        assert 0 <= notice["deadline_ms"] <= DRAIN_MS
        with pytest.raises(Refused) as by_rest:
            await client.publish("rest", "too late")
        assert (by_rest.value.status, by_rest.value.code) == (503, "draining")
        with pytest.raises(Refused) as by_socket:
            await connection.call("publish", queue="rest", messages=[{"content": "too late"}])
        assert (by_socket.value.status, by_socket.value.code) == (503, "draining")
        assert (await client.ack(used))["status"] == "processed"
        assert (await connection.call("ack", ids=[acked["message_id"]]))["results"][0]["ok"]
        assert await exit_status(broker) == 0
        assert await connection.closed == 4503

    broker.start()
    async with rest(broker) as client:
        messages = {queue: await client.browse(queue) for queue in ("rest", "socket")}
        assert sorted(ids([*messages["rest"], *messages["socket"]])) == sorted(published)
        (again,) = await client.collect("socket", 1, timeout=SLACK)
        assert (again["message_id"], again["attempt"]) == (held["message_id"], 2)
        assert await client.consume("socket") == []
        assert (await client.ack(unused))["status"] == "processed"


async def test_what_a_stop_gives_back_counts_no_failure(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", "max_attempts": 1})
        published = await client.publish("work", 1, 2)
        connection = await holder(broker, "work")
        await connection.receive(2)
        sigterm(broker)
        assert await exit_status(broker) == 0
    broker.start()
    async with rest(broker) as client:
        assert ids(await client.collect("work", 2)) == published


async def test_the_broker_stops_before_the_deadline_when_nobody_holds_anything(start_broker: StartBroker) -> None:
    broker = start_broker(env={"STREAMBROKER_DRAIN_TIMEOUT_MS": "60000"})
    connection = await holder(broker, "work")
    start = time.monotonic()
    sigterm(broker)
    assert await exit_status(broker) == 0
    assert time.monotonic() - start < 45
    assert await connection.closed == 4503


async def test_a_client_that_reads_nothing_does_not_hold_up_the_stop(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        stuck = await holder(broker, "big")
        stuck.stop_reading()
        published: list[str] = []
        for _ in range(40):
            published += await client.publish("big", *["x" * 100_000] * 5)
        sigterm(broker)
        assert await exit_status(broker) == 0
        stuck.resume_reading()
        await stuck.closed
    broker.start()
    async with rest(broker) as client:
        messages = await client.collect("big", 200)
        assert sorted(ids(messages)) == sorted(published)


async def test_an_interrupt_from_the_terminal_is_a_graceful_stop_too(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        published = await client.publish("work", 1)
    assert broker.stop(signal.SIGINT) == 0
    broker.start()
    async with rest(broker) as client:
        assert ids(await client.collect("work", 1)) == published


async def test_what_was_confirmed_during_the_stop_is_there_after_it(broker: BrokerProcess) -> None:
    """Publishes race the signal: each is either confirmed and kept, or refused and not there."""
    confirmed: list[str] = []
    enough = asyncio.Event()

    async def publish(client: Rest, name: int) -> None:
        for number in range(100_000):
            try:
                confirmed.extend(await client.publish("work", f"{name}-{number}"))
            except (Refused, Cut):
                return
            if number == 20:
                enough.set()

    async with rest(broker) as first, rest(broker) as second:
        racers = [asyncio.create_task(publish(client, name)) for name, client in enumerate((first, second))]
        await enough.wait()
        sigterm(broker)
        await asyncio.gather(*racers)
        assert await exit_status(broker) == 0
    broker.start()
    async with rest(broker) as client:
        found: list[Json] = await client.browse("work")
        assert set(confirmed) <= set(ids(found))
        assert len(found) <= len(confirmed) + 2
