"""A store that refuses (a full disk, a fault of its own): nothing is forgotten, and it is tried again."""

from __future__ import annotations

import asyncio

import pytest

from streambroker.core.errors import Internal, StorageFull
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import State
from streambroker.core.names import format_id
from streambroker.store.contract import Claim, Overdue, Publish, Settle
from tests.broker.virtual import in_virtual_time, turns
from tests.broker.world import Peer, World, running

ERRORS = [StorageFull("the disk has no room"), Internal("a fault")]
both = pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)


async def holding(world: World, count: int = 1, **options: object) -> tuple[Peer, list[str]]:
    """A client that holds so many messages of `q`."""
    await world.queue(max_attempts=0)
    await world.publish(*[b"%d" % n for n in range(count)])
    peer = await world.connect()
    await peer.call("subscribe", queue="q", **options)
    return peer, [message["message_id"] for message in await peer.deliveries(count)]


# -- a settle


@both
@pytest.mark.parametrize("op", ["ack", "nack"])
@in_virtual_time
async def test_what_a_refused_settle_was_for_is_still_held_and_can_be_settled(op: str, error: Exception) -> None:
    async with running() as world:
        peer, ids = await holding(world, 3)
        world.engine.refuse(Settle, error=error)  # type: ignore[arg-type]
        assert await peer.refusal(op, ids=ids) == error.code  # type: ignore[attr-defined]
        assert world.held == 3
        assert await world.states() == [State.LEASED] * 3
        answer = await peer.call("ack", ids=ids)
        assert answer["results"] == [{"message_id": i, "ok": True} for i in ids]
        assert await world.states() == [State.PROCESSED] * 3
        assert world.held == 0


@in_virtual_time
async def test_a_refused_ack_without_an_id_is_told_too() -> None:
    async with running() as world:
        peer, ids = await holding(world)
        world.engine.refuse(Settle)
        peer.send({"op": "ack", "ids": ids})
        assert (await peer.frame("error"))["problem"]["code"] == "storage_full"
        assert world.held == 1


@in_virtual_time
async def test_a_refused_extend_leaves_the_message_with_its_holder() -> None:
    async with running() as world:
        peer, ids = await holding(world, lease_mode="fixed", lease_ms=5_000)
        world.engine.refuse(Settle)
        assert await peer.refusal("extend", ids=ids, lease_ms=60_000) == "storage_full"
        assert (await peer.call("extend", ids=ids, lease_ms=60_000))["results"][0]["ok"]
        await asyncio.sleep(30)
        assert (await peer.call("ack", ids=ids))["results"][0]["ok"]


@in_virtual_time
async def test_what_a_refused_ack_was_for_comes_back_when_its_connection_ends() -> None:
    async with running() as world:
        peer, ids = await holding(world)
        world.engine.refuse(Settle)
        assert await peer.refusal("ack", ids=ids) == "storage_full"
        peer.leave()
        (again,) = await world.take(wait_ms=10_000)
        assert format_id(again.id) == ids[0]


@in_virtual_time
async def test_a_refused_ack_of_a_connection_that_ended_meanwhile_gives_the_message_back() -> None:
    async with running() as world:
        peer, ids = await holding(world)
        world.engine.refuse(Settle)
        peer.send({"op": "ack", "id": 1, "ids": ids})
        peer.leave()
        await world.ended()
        (again,) = await world.take(wait_ms=10_000)
        assert format_id(again.id) == ids[0]


@in_virtual_time
async def test_what_was_deleted_beside_a_refused_ack_does_not_cost_credit() -> None:
    async with running() as world:
        peer, ids = await holding(world, credit=1)
        world.engine.refuse(Settle)
        refused = asyncio.create_task(peer.refusal("ack", ids=ids))
        await turns()
        await world.broker.delete(int(ids[0], 16))
        assert await refused == "storage_full"
        assert world.held == 0
        await world.publish(b"2")
        await peer.deliveries(1)


@in_virtual_time
async def test_a_refused_settle_over_rest_raises_and_changes_nothing() -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1")
        (message,) = await world.take()
        world.engine.refuse(Settle)
        with pytest.raises(StorageFull):
            await world.broker.settle([Settlement(message.id, Event.ACK, message.lease)])
        (settled,) = await world.broker.settle([Settlement(message.id, Event.ACK, message.lease)])
        assert settled.refusal is None


# -- giving back


@both
@in_virtual_time
async def test_giving_back_is_tried_until_the_store_takes_it(error: Exception) -> None:
    async with running() as world:
        peer, ids = await holding(world, 2)
        world.engine.refuse(Settle, 3, error)  # type: ignore[arg-type]
        peer.leave()
        await world.ended()
        assert await world.states() == [State.LEASED] * 2
        back = await world.take(limit=2, wait_ms=30_000)
        assert sorted(format_id(message.id) for message in back) == sorted(ids)
        assert world.engine.refusals_left == 0


@in_virtual_time
async def test_an_unsubscribe_is_confirmed_when_the_store_has_taken_it() -> None:
    async with running() as world:
        peer, ids = await holding(world)
        world.engine.refuse(Settle, 2)
        answer = asyncio.create_task(peer.call("unsubscribe", sub="q"))
        await asyncio.sleep(0.5)
        assert not answer.done()
        assert (await answer)["op"] == "ok"
        assert await world.states() == [State.READY]
        assert [format_id(message.id) for message in await world.take()] == ids


@in_virtual_time
async def test_what_nobody_saw_is_given_back_until_the_store_takes_it_and_is_no_delivery() -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1")
        poll = asyncio.create_task(world.take(wait_ms=60_000))
        await asyncio.sleep(0)  # its claim is on its way
        world.engine.refuse(Settle, 2)
        await asyncio.sleep(0)
        poll.cancel()
        (message,) = await world.take(wait_ms=30_000)
        assert message.attempt == 1


@in_virtual_time
async def test_a_broker_that_has_stopped_does_not_go_on_trying() -> None:
    async with running() as world:
        peer, _ = await holding(world)
        world.engine.refuse(Settle, 1_000)
        peer.leave()
        await world.ended()
        await world.broker.stop()
        await asyncio.sleep(5)
        seen = len(world.engine.seen)
        await asyncio.sleep(60)
        assert len(world.engine.seen) == seen


# -- claims


@both
@in_virtual_time
async def test_a_refused_claim_is_tried_again_and_the_waiting_poll_gets_its_message(error: Exception) -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1")
        world.engine.refuse(Claim, 3, error)  # type: ignore[arg-type]
        (message,) = await world.take(wait_ms=30_000)
        assert message.content == b"1"
        assert asyncio.get_running_loop().time() < 5


@both
@in_virtual_time
async def test_a_refused_claim_is_tried_again_and_the_subscription_gets_its_messages(error: Exception) -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1", b"2", b"3")
        world.engine.refuse(Claim, 2, error)  # type: ignore[arg-type]
        peer = await world.connect()
        await peer.call("subscribe", queue="q", credit=2)
        first = await peer.deliveries(2)
        await peer.call("ack", ids=[message["message_id"] for message in first])
        await peer.deliveries(1)


@in_virtual_time
async def test_one_refused_claim_of_many_does_not_mix_up_who_gets_what() -> None:
    async with running() as world:
        await world.queue()
        peers = [await world.connect() for _ in range(3)]
        await world.broker.pause("q", True)
        for peer in peers:
            await peer.call("subscribe", queue="q", credit=10)
        await world.publish(*[b"%d" % n for n in range(30)])
        world.engine.refuse(Claim)
        await world.broker.pause("q", False)
        for peer in peers:
            for message in await peer.deliveries(10):
                holder = world.broker.holder_of(int(message["message_id"], 16))
                assert holder is not None
                assert holder.held[int(message["message_id"], 16)] == message["lease"]
        assert await world.states() == [State.LEASED] * 30


@in_virtual_time
async def test_a_refused_publish_gives_the_reserved_credit_back() -> None:
    async with running() as world:
        await world.queue()
        peer = await world.connect()
        await peer.call("subscribe", queue="q", credit=1)
        world.engine.refuse(Publish)
        with pytest.raises(StorageFull):
            await world.publish(b"1")
        await world.publish(b"2")
        assert [message["content"] for message in await peer.deliveries(1)] == [2]


@in_virtual_time
async def test_a_refused_tick_is_done_a_little_later() -> None:
    async with running() as world:
        await world.queue(max_attempts=0)
        await world.publish(b"1")
        await world.broker.consume(["q"], "ann", 1, 0, 100)
        world.engine.refuse(Overdue, 2)
        (message,) = await world.take(wait_ms=10_000)
        assert message.attempt == 2
