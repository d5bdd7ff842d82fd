"""Each thing that happens to a message is counted once, where metrics look for it."""

from __future__ import annotations

import asyncio

from streambroker.broker.rates import Meter
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Draft, Message
from streambroker.core.policy import QueueConfig
from streambroker.protocol.messages import digest
from tests.broker.virtual import clock, in_virtual_time, turns
from tests.broker.world import World, running

COUNTED = (
    "published", "deduplicated", "dropped", "delivered", "redelivered", "settled", "requeued", "rejected", "released",
    "lost", "lapsed", "expired", "dead_lettered", "failed",
)  # fmt: skip


def counts(world: World, queue: str = "q") -> dict[str, int]:
    """What is not nothing."""
    meter: Meter = world.broker.traffic()[queue].meter
    return {name: count for name in COUNTED if (count := getattr(meter, name))}


async def settle(world: World, message: Message, event: Event, **options: object) -> None:
    asked = Settlement(message.id, event, message.lease, **options)  # type: ignore[arg-type]
    (settled,) = await world.broker.settle([asked])
    assert settled.refusal is None


@in_virtual_time
async def test_an_acked_message_is_published_delivered_and_settled() -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1")
        (message,) = await world.take()
        await settle(world, message, Event.ACK)
        assert counts(world) == {"published": 1, "delivered": 1, "settled": 1}
        await settle(world, message, Event.ACK)  # the same once more is no other
        assert counts(world) == {"published": 1, "delivered": 1, "settled": 1}


@in_virtual_time
async def test_nacks_are_counted_by_their_kind_and_what_comes_back_is_a_redelivery() -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1")
        (message,) = await world.take()
        await settle(world, message, Event.REQUEUE, delay_ms=0)
        (again,) = await world.take()
        await settle(world, again, Event.REJECT)
        assert counts(world) == {
            "published": 1, "delivered": 2, "redelivered": 1, "settled": 2, "requeued": 1, "rejected": 1, "failed": 1
        }  # fmt: skip


@in_virtual_time
async def test_a_dead_letter_is_counted_where_it_came_from() -> None:
    async with running() as world:
        await world.queue("dead")
        await world.queue("q", dead_letter_queue="dead")
        await world.publish(b"1")
        (message,) = await world.take()
        await settle(world, message, Event.REJECT)
        assert counts(world) == {"published": 1, "delivered": 1, "settled": 1, "rejected": 1, "dead_lettered": 1}
        assert counts(world, "dead") == {}


@in_virtual_time
async def test_a_lease_that_ends_has_lapsed() -> None:
    async with running() as world:
        await world.queue(lease_ms=1_000)
        await world.publish(b"1")
        await world.take()
        await asyncio.sleep(2)
        assert counts(world) == {"published": 1, "delivered": 1, "lapsed": 1}


@in_virtual_time
async def test_attempts_used_up_by_leases_are_lapses_and_one_failure() -> None:
    async with running() as world:
        await world.queue(lease_ms=1_000, max_attempts=2)
        await world.publish(b"1")
        for _ in range(2):
            assert await world.take()
            await asyncio.sleep(2)
        assert counts(world) == {"published": 1, "delivered": 2, "redelivered": 1, "lapsed": 2, "failed": 1}


@in_virtual_time
async def test_a_message_whose_time_is_over_has_expired_and_failed() -> None:
    async with running() as world:
        await world.queue()
        (number,) = world.broker.new_ids(1, clock())
        await world.broker.publish("q", [Draft(number, b"1", expires_at=clock() + 1_000)])
        await asyncio.sleep(2)
        assert counts(world) == {"published": 1, "expired": 1, "failed": 1}


@in_virtual_time
async def test_a_delay_that_is_over_counts_for_nothing_and_the_wait_begins_there() -> None:
    async with running() as world:
        await world.queue()
        (number,) = world.broker.new_ids(1, clock())
        await world.broker.publish("q", [Draft(number, b"1", available_at=clock() + 60_000)])
        await asyncio.sleep(61)
        assert counts(world) == {"published": 1}
        await world.take()
        waits = world.broker.waits.delivery
        assert sum(waits.counts) == 1
        assert waits.total < 2_000


@in_virtual_time
async def test_what_a_clean_close_gives_back_is_released_and_a_cut_connection_loses_it() -> None:
    async with running() as world:
        await world.queue()
        for code, outcome in ((1000, "released"), (1006, "lost")):
            peer = await world.connect()
            await peer.call("subscribe", queue="q")
            await world.publish(b"1")
            await peer.frame("deliver")
            peer.leave(code)
            await world.ended()
            await turns()
            (message,) = await world.take()
            await settle(world, message, Event.ACK)
            assert counts(world)[outcome] == 1
        assert counts(world) == {
            "published": 2, "delivered": 4, "redelivered": 2, "settled": 2, "released": 1, "lost": 1
        }  # fmt: skip


@in_virtual_time
async def test_the_same_message_again_is_deduplicated() -> None:
    async with running() as world:
        await world.queue()
        for _ in range(2):
            drafts = [Draft(number, b"1", dedup_id="d") for number in world.broker.new_ids(1, clock())]
            await world.broker.publish("q", drafts, digests=[digest(drafts[0])])
        for _ in range(2):
            drafts = [Draft(number, b"2") for number in world.broker.new_ids(3, clock())]
            await world.broker.publish("q", drafts, batch_key="k", digest=b"same")
        assert counts(world) == {"published": 4, "deduplicated": 4}


@in_virtual_time
async def test_what_makes_room_is_dropped() -> None:
    async with running() as world:
        await world.broker.create_queue("q", QueueConfig(max_messages=2, overflow="drop_oldest"))
        await world.publish(b"1", b"2")
        await world.publish(b"3")
        assert counts(world) == {"published": 3, "dropped": 1}


@in_virtual_time
async def test_a_publish_is_timed_once_it_is_durable_and_not_when_it_is_refused() -> None:
    async with running() as world:
        await world.queue(max_messages=1)
        await world.publish(b"1")
        await asyncio.gather(world.publish(b"2"), return_exceptions=True)
        assert sum(world.broker.waits.confirm.counts) == 1
