"""Leases and the connections that hold them: how long they last and when their messages come back."""

from __future__ import annotations

import asyncio
import time

from tests.system.conftest import StartBroker
from tests.system.history import to_monotonic
from tests.system.holder import holding
from tests.system.wire import Rest, ids, rest, socket

SOON = 15.0
"""Seconds; the contract says one, a loaded machine may take longer; far below the heartbeat where that matters."""


async def back_after(client: Rest, queue: str, expected: list[str]) -> float:
    """Take back exactly these messages; how many seconds that took."""
    start = time.monotonic()
    messages = await client.collect(queue, len(expected))
    assert sorted(ids(messages)) == sorted(expected)
    assert {message["attempt"] for message in messages} == {2}
    return time.monotonic() - start


async def test_messages_of_a_killed_client_are_back_at_once(start_broker: StartBroker) -> None:
    broker = start_broker(env={"STREAMBROKER_HEARTBEAT_MS": "30000"})
    async with rest(broker) as client, holding(broker, "work") as holder:
        published = await client.publish("work", 1, 2, 3)
        assert await holder.held(3) == published
        holder.kill()
        assert await back_after(client, "work", published) < SOON


async def test_messages_of_a_silent_client_are_back_after_two_heartbeats(start_broker: StartBroker) -> None:
    broker = start_broker(env={"STREAMBROKER_HEARTBEAT_MS": "1500"})
    async with rest(broker) as client, holding(broker, "work") as holder:
        published = await client.publish("work", 1, 2, 3)
        assert await holder.held(3) == published
        holder.freeze()
        assert await back_after(client, "work", published) < 2 * 1.5 + SOON


async def test_a_client_that_answers_pings_is_left_alone(start_broker: StartBroker) -> None:
    # Two of these are what a client has to answer in, which the scheduler may keep from running for seconds.
    broker = start_broker(env={"STREAMBROKER_HEARTBEAT_MS": "2500"})
    async with rest(broker) as client, holding(broker, "work") as holder:
        published = await client.publish("work", 1)
        assert await holder.held(1) == published
        assert await client.consume("work", wait_ms=8000) == []


async def test_a_session_lease_is_kept_while_the_work_takes_20_times_its_length(start_broker: StartBroker) -> None:
    broker = start_broker()
    async with rest(broker) as client:
        worker = await socket(broker)
        await worker.call("subscribe", queue="work", lease_ms=200)
        published = await client.publish("work", "long work")
        assert ids(await worker.receive()) == published
        assert await client.consume("work", wait_ms=20 * 200) == []
        reply = await worker.call("ack", ids=published)
        assert reply["results"] == [{"message_id": published[0], "ok": True}]
        await worker.close()


async def test_a_connection_that_dies_counts_a_failure(start_broker: StartBroker) -> None:
    broker = start_broker()
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", "max_attempts": 1, "dead_letter_queue": "dead"})
        worker = await socket(broker)
        await worker.call("subscribe", queue="work")
        published = await client.publish("work", 1)
        await worker.receive()
        await worker.abort()
        (letter,) = await client.collect("dead", 1)
        assert [letter["message_id"]] == published
        assert letter["dead_letter"]["queue"] == "work"
        assert letter["dead_letter"]["reason"] == "attempts"


async def test_a_clean_close_gives_the_messages_back_and_counts_no_failure(start_broker: StartBroker) -> None:
    broker = start_broker()
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", "max_attempts": 1})
        worker = await socket(broker)
        await worker.call("subscribe", queue="work")
        published = await client.publish("work", 1, 2)
        await worker.receive(2)
        await worker.close()
        assert await back_after(client, "work", published) < SOON


async def test_an_unsubscribe_gives_the_messages_back_and_counts_no_failure(start_broker: StartBroker) -> None:
    broker = start_broker()
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", "max_attempts": 1})
        worker = await socket(broker)
        await worker.call("subscribe", queue="work", sub="s")
        published = await client.publish("work", 1, 2)
        await worker.receive(2)
        await worker.call("unsubscribe", sub="s")
        assert await back_after(client, "work", published) < SOON
        await worker.close()


async def test_a_fixed_lease_ends_in_time_and_never_early(start_broker: StartBroker) -> None:
    broker = start_broker()
    async with rest(broker) as client:
        await client.publish("work", 1)
        (first,) = await client.collect("work", 1, lease_ms=500)
        (second,) = await client.collect("work", 1)
        late = time.monotonic() - to_monotonic(first["lease_expires_at"])
        assert -0.005 <= late < SOON
        assert (second["message_id"], second["attempt"]) == (first["message_id"], 2)


async def test_a_long_poll_client_that_leaves_takes_no_message_with_it(start_broker: StartBroker) -> None:
    broker = start_broker()
    async with rest(broker) as client, rest(broker) as leaver:
        parked = asyncio.create_task(leaver.consume("work", wait_ms=60_000, lease_ms=60_000))
        await client.parked("work")
        parked.cancel()
        await asyncio.wait({parked})
        await leaver.close()
        published = await client.publish("work", 1)
        assert ids(await client.collect("work", 1, timeout=SOON)) == published
