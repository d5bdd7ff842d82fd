"""Who holds what, when a queue goes: told in order, and not brought back by a queue of the same name."""

from __future__ import annotations

import asyncio

from streambroker.broker.broker import Broker
from streambroker.core.message import Message
from streambroker.protocol.session import Subscription
from streambroker.store.contract import Depth
from tests.broker.stores import MemoryStore
from tests.broker.subscriptions import Basket
from tests.broker.virtual import in_virtual_time
from tests.broker.world import World, running


class Hand(Basket):
    """An owner that holds what it is handed, as a connection does, and notes what it hears in order."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.arrived = asyncio.Event()
        self.heard: list[str] = []
        self._broker = broker

    def deliverable(self, subscription: Subscription, messages: list[Message]) -> None:
        super().deliverable(subscription, messages)
        self._broker.hold(subscription, messages)
        self.arrived.set()

    def lost(self, subscription: Subscription, message_id: int, reason: str) -> None:
        self.heard.append(reason)

    def queue_dropped(self, subscription: Subscription) -> None:
        self.heard.append("ended")


async def holding(world: World, queue: str) -> tuple[Hand, Subscription, int]:
    """A subscription that holds the one message of a new queue."""
    await world.queue(queue)
    hand = Hand(world.broker)
    subscription = Subscription(hand, "s", queue, 10, None, True, "ann")
    world.broker.subscribe(subscription)
    (number,) = await world.publish(b"1", queue=queue)
    await asyncio.wait_for(hand.arrived.wait(), 5)
    assert world.broker.holder_of(number) is subscription
    return hand, subscription, number


@in_virtual_time
async def test_what_is_held_of_a_deleted_queue_is_lost_before_its_subscription_ends() -> None:
    async with running() as world:
        hand, subscription, number = await holding(world, "q")
        other, kept, another = await holding(world, "other")
        await world.broker.drop_queue("q")
        assert hand.heard == ["deleted", "ended"]
        assert (subscription.held, world.broker.holder_of(number)) == ({}, None)
        assert (other.heard, world.broker.holder_of(another)) == ([], kept)


@in_virtual_time
async def test_a_queue_made_anew_does_not_bring_back_who_held_messages_of_the_old_one() -> None:
    async with running() as world:
        _, subscription, number = await holding(world, "q")
        token = world.broker.let_go(subscription, number)
        assert token is not None
        await world.broker.drop_queue("q")
        await world.queue("q")
        world.broker.hold_again([(subscription, number, token)])
        assert (subscription.held, world.broker.holder_of(number)) == ({}, None)
        assert world.broker.consumers("q") == 0


@in_virtual_time
async def test_a_refused_settle_is_held_again_by_who_is_still_there() -> None:
    async with running() as world:
        _, subscription, number = await holding(world, "q")
        token = world.broker.let_go(subscription, number)
        assert token is not None
        assert world.broker.holder_of(number) is None
        world.broker.hold_again([(subscription, number, token)])
        assert (subscription.held, world.broker.holder_of(number)) == ({number: token}, subscription)


class Slow(MemoryStore):
    """A store that has to look before it says how much stands where."""

    def __init__(self) -> None:
        super().__init__()
        self.looking, self.seen = asyncio.Event(), asyncio.Event()

    async def depth(self, queue: str) -> Depth:
        self.looking.set()
        await self.seen.wait()
        return await super().depth(queue)


@in_virtual_time
async def test_a_queue_that_goes_while_all_are_counted_does_not_end_the_count() -> None:
    store = Slow()
    async with running(store=store) as world:
        await holding(world, "a")
        await holding(world, "b")
        counting = asyncio.create_task(world.broker.processing())
        await store.looking.wait()
        await world.broker.drop_queue("b")
        store.seen.set()
        assert await counting == 1
