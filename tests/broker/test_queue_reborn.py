"""A queue that is deleted and made again while what was asked of the old one is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streambroker.broker.quotas import Quotas
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Message, State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import Command, DropQueue
from tests.broker.stores import MemoryStore
from tests.broker.virtual import in_virtual_time, turns
from tests.broker.world import World, running

ONE, TWO = Quotas(max_in_flight_per_user=1), Quotas(max_in_flight_per_user=2)


class Held(MemoryStore):
    """A store whose answers wait until a test lets them go, in the order in which they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.dropping = asyncio.Event()
        self._held: list[tuple[list[tuple[Command, Callable[[Any], None]]], list[Any]]] | None = None

    def hold(self) -> None:
        self._held = []

    def let_go(self) -> None:
        held, self._held = self._held or [], None
        for group, answers in held:
            super()._answer(group, answers)

    def post(self, command: Command, told: Callable[[Any], None], lazy: bool = False) -> None:
        super().post(command, told, lazy)
        if isinstance(command, DropQueue):
            self.dropping.set()

    def _answer(self, group: list[tuple[Command, Callable[[Any], None]]], answers: list[Any]) -> None:  # type: ignore[override]
        if self._held is None:
            super()._answer(group, answers)
        else:
            self._held.append((group, answers))


async def settled(world: World, message: Message, event: Event) -> str | None:
    (answer,) = await world.broker.settle([Settlement(message.id, event, message.lease)])
    return answer.refusal


async def taken_of(world: World, queue: str) -> int:
    """How many messages the quota lets mia have of a queue that has three."""
    await world.queue(queue)
    await world.publish(b"1", b"2", b"3", queue=queue)
    return len(await world.take(queue, limit=3, user="mia"))


@in_virtual_time
async def test_a_claim_for_a_deleted_queue_that_its_successor_answers_takes_nothing_off_the_quota() -> None:
    store = Held()
    async with running(store=store, quotas=TWO) as world:
        await world.queue("source", dead_letter_queue="q")
        await world.publish(b"1", queue="source")
        (doomed,) = await world.take("source", user="bob")
        store.hold()
        dropping = asyncio.create_task(world.broker.drop_queue("q"))
        await turns()
        # The store knows no `q` now. A dead letter makes it anew, and the old queue's dispatcher asks for that.
        rejecting = asyncio.create_task(settled(world, doomed, Event.REJECT))
        await turns()
        polling = asyncio.create_task(world.take("q", user="mia"))
        await turns()
        store.let_go()
        await asyncio.gather(dropping, rejecting)
        got = await polling
        await turns()
        for message in got:
            await settled(world, message, Event.ACK)
        await asyncio.sleep(1)
        assert await taken_of(world, "other") == 2
        assert (await world.states("q")) == [State.READY]
        assert [message.id for message in await world.take("q", user="bob")] == [doomed.id]


@in_virtual_time
async def test_a_settle_beside_a_deletion_and_a_new_queue_of_that_name_is_not_counted_for_the_new_one() -> None:
    async with running(quotas=ONE) as world:
        await world.queue()
        await world.publish(b"1")
        (message,) = await world.take(user="mia")
        await asyncio.gather(
            world.broker.drop_queue("q"),
            world.broker.create_queue("q", QueueConfig()),
            settled(world, message, Event.ACK),
        )
        assert await taken_of(world, "other") == 1


@pytest.mark.parametrize("first", ["drop", "reject"])
@in_virtual_time
async def test_a_dead_letter_beside_the_deletion_of_its_queue_leaves_no_queue_that_the_store_does_not_have(
    first: str,
) -> None:
    async with running() as world:
        await world.queue("source", dead_letter_queue="q")
        await world.publish(b"1", queue="source")
        (doomed,) = await world.take("source")
        both = [world.broker.drop_queue("q"), settled(world, doomed, Event.REJECT)]
        await asyncio.gather(*both[:: 1 if first == "drop" else -1])
        await asyncio.sleep(1)
        assert [queue.name for queue in world.broker.queues()] == [q.name for q in await world.store.queues()]
        await world.broker.ensure_queue("q")
        await world.publish(b"2", queue="q")


@in_virtual_time
async def test_a_queue_is_made_anew_after_a_deletion_whose_caller_left() -> None:
    async with running() as world:
        await world.queue()
        dropping = asyncio.create_task(world.broker.drop_queue("q"))
        await turns()
        dropping.cancel()
        _, new = await asyncio.wait_for(world.broker.create_queue("q", QueueConfig(lease_ms=9)), 5)
        assert new
        assert world.broker.queue("q") == (await world.store.queues())[0]
        assert world.broker.queue("q").config.lease_ms == 9
