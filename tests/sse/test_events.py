"""What a stream tells of messages: which events, with which attempt, after which the client can go on."""

from __future__ import annotations

import asyncio

from streambroker.core.lifecycle import Event
from streambroker.core.message import State
from streambroker.protocol.times import rfc3339
from tests.broker.virtual import clock, in_virtual_time, turns
from tests.sse.watching import running


@in_virtual_time
async def test_a_message_that_is_published_and_acked_is_told_of_twice() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        (number,) = await theatre.publish(b"1")
        published = clock()
        await theatre.settle(await theatre.take_one(), Event.ACK)
        await turns()
        assert watcher.told() == [("new_message", "pending", 0), ("message_processed", "processed", 1)]
        assert watcher.data(0) == {
            "message_id": f"{number:016x}",
            "queue": "q",
            "status": "pending",
            "attempt": 0,
            "at": rfc3339(published),
        }


@in_virtual_time
async def test_what_goes_wrong_is_told_with_the_delivery_it_went_wrong_at() -> None:
    async with running() as theatre:
        await theatre.queue("few", max_attempts=2, lease_ms=1_000)
        watcher = await theatre.watch(queue="few")
        await theatre.publish(b"1", queue="few")
        await theatre.settle(await theatre.take_one("few"), Event.REQUEUE, delay_ms=0)
        await theatre.take_one("few")
        await asyncio.sleep(2)  # its lease ends, and that was the last attempt
        assert watcher.told()[1:] == [("message_requeued", "pending", 1), ("message_failed", "failed", 2)]


@in_virtual_time
async def test_an_expired_lease_is_a_requeue() -> None:
    async with running() as theatre:
        await theatre.queue("short", lease_ms=1_000)
        watcher = await theatre.watch("events=message_requeued", queue="short")
        await theatre.publish(b"1", queue="short")
        await theatre.take_one("short")
        await asyncio.sleep(2)
        assert watcher.told() == [("message_requeued", "pending", 1)]


@in_virtual_time
async def test_a_dead_letter_failed_at_its_last_attempt_and_is_new_where_it_goes() -> None:
    async with running() as theatre:
        await theatre.queue("home", max_attempts=2, dead_letter_queue="dead")
        watcher, dead = await theatre.watch(queue="home"), await theatre.watch(queue="dead")
        await theatre.publish(b"1", queue="home")
        for _ in range(2):
            await theatre.settle(await theatre.take_one("home"), Event.REQUEUE, delay_ms=0)
        await turns()
        assert watcher.told()[-1] == ("message_failed", "failed", 2)
        assert dead.told() == [("new_message", "pending", 0)]


@in_virtual_time
async def test_a_dead_letter_whose_lease_or_life_was_over_failed_at_its_last_attempt() -> None:
    async with running() as theatre:
        await theatre.queue("home", max_attempts=1, lease_ms=1_000, dead_letter_queue="dead")
        watcher = await theatre.watch("events=message_failed", queue="home")
        await theatre.publish(b"leased", queue="home")
        await theatre.take_one("home")
        await asyncio.sleep(2)
        assert watcher.told() == [("message_failed", "failed", 1)]
        await theatre.queue("ends", dead_letter_queue="dead")
        ending = await theatre.watch("events=message_failed", queue="ends")
        await theatre.publish(b"tried once", b"never", queue="ends", ttl_ms=1_000)
        await theatre.settle(await theatre.take_one("ends"), Event.REQUEUE, delay_ms=0)
        await asyncio.sleep(2)
        assert sorted(ending.told()) == [("message_failed", "failed", 0), ("message_failed", "failed", 1)]


@in_virtual_time
async def test_what_is_redriven_or_retried_is_told_with_the_attempts_it_had() -> None:
    async with running() as theatre:
        await theatre.queue("home", max_attempts=1)
        await theatre.publish(b"1", b"2", queue="home")
        first, second = await theatre.take("home", limit=2)
        for message in (first, second):
            await theatre.settle(message, Event.REJECT)
        watcher = await theatre.watch(queue="home")
        await theatre.broker.retry(first.id)
        await theatre.broker.redrive("home", None, None)
        await turns()
        assert watcher.told() == [("message_requeued", "pending", 1)] * 2


@in_virtual_time
async def test_a_dead_letter_comes_home_as_a_new_message() -> None:
    async with running() as theatre:
        await theatre.queue("home", max_attempts=1, dead_letter_queue="dead")
        await theatre.publish(b"1", queue="home")
        await theatre.settle(await theatre.take_one("home"), Event.REJECT)
        watcher = await theatre.watch(queue="home")
        assert await theatre.broker.redrive("home", "dead", None) == 1
        await turns()
        assert watcher.told() == [("new_message", "pending", 0)]


@in_virtual_time
async def test_deliveries_purges_and_duplicates_are_no_events() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        await theatre.publish(b"1", b"2")
        await theatre.take_one()
        await theatre.broker.purge("q", [State.READY])
        await turns()
        assert watcher.kinds() == ["new_message"] * 2


@in_virtual_time
async def test_only_the_kinds_that_were_asked_for_are_told() -> None:
    async with running() as theatre:
        watcher = await theatre.watch("events=message_failed,message_processed")
        await theatre.publish(b"1", b"2")
        await theatre.settle(await theatre.take_one(), Event.ACK)
        await theatre.settle(await theatre.take_one(), Event.REJECT)
        await turns()
        assert watcher.kinds() == ["message_processed", "message_failed"]


@in_virtual_time
async def test_each_of_many_watchers_is_told_everything_in_order() -> None:
    async with running() as theatre:
        watchers = [await theatre.watch() for _ in range(3)]
        ids = await theatre.publish(*[b"x"] * 200)
        await turns()
        for watcher in watchers:
            told = [watcher.data(index)["message_id"] for index in range(len(watcher.events()))]
            assert told == [f"{number:016x}" for number in ids]
        texts = {watcher.text for watcher in watchers}
        assert len(texts) == 1


@in_virtual_time
async def test_who_watches_nothing_costs_nothing() -> None:
    async with running() as theatre:
        assert not theatre.broker.events.watched
        watcher = await theatre.watch()
        assert list(theatre.broker.events.watched) == ["q"]
        watcher.leave()
        await asyncio.sleep(121)
        assert not theatre.broker.events.watched
