"""Two who make or change a queue at the same time: neither undoes the other unseen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streambroker.core.errors import BrokerError, Conflict, Invalid, NotFound
from streambroker.core.message import State
from streambroker.core.policy import QueueConfig, QueueConfigChange
from streambroker.store.contract import Queue
from tests.broker.virtual import in_virtual_time, turns
from tests.broker.world import World, running

ODD = QueueConfig(lease_ms=1_234)


async def stored(world: World, name: str = "q") -> Queue:
    return next(queue for queue in await world.store.queues() if queue.name == name)


async def publish(world: World) -> list[int]:
    """As the doors do: the queue comes into being where it has to."""
    await world.broker.ensure_queue("q")
    return await world.publish(b"1")


@in_virtual_time
async def test_a_config_given_beside_a_publish_wins_or_is_refused() -> None:
    for order in (0, 1):
        async with running() as world:
            creating = world.broker.create_queue("q", ODD)
            both: list[Any] = [creating, publish(world)][:: 1 if order else -1]
            answers = await asyncio.gather(*both, return_exceptions=True)
            created = answers[0 if order else 1]
            if isinstance(created, Conflict):
                assert (await stored(world)).config == QueueConfig()
            else:
                assert created == (await stored(world), True)
                assert (await stored(world)).config == ODD
            assert await world.states() == [State.READY]
            assert world.broker.queue("q") == await stored(world)


@in_virtual_time
async def test_a_config_that_came_first_is_what_the_publish_beside_it_uses() -> None:
    async with running() as world:
        await asyncio.gather(world.broker.create_queue("q", ODD), publish(world))
        assert (await stored(world)).config == ODD


@in_virtual_time
async def test_of_two_who_create_a_queue_with_different_configs_one_makes_it_and_one_is_refused() -> None:
    async with running() as world:
        configs = [QueueConfig(lease_ms=1_000 + n) for n in range(5)]
        tasks = [world.broker.create_queue("q", config) for config in configs]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        made = [answer for answer in answers if isinstance(answer, tuple)]
        assert made == [(await stored(world), True)]
        assert sum(isinstance(answer, Conflict) for answer in answers) == 4
        assert world.broker.queue("q") == await stored(world)


@in_virtual_time
async def test_a_create_that_comes_during_the_commit_of_another_is_judged_by_what_is_stored() -> None:
    async with running() as world:
        first = asyncio.create_task(world.broker.create_queue("q", ODD))
        await turns()  # stored, but not answered yet
        assert not first.done()
        with pytest.raises(Conflict):
            await world.broker.create_queue("q", QueueConfig(lease_ms=9))
        assert (await first) == (await stored(world), True)
        assert await world.broker.create_queue("q", ODD) == (await stored(world), False)


@in_virtual_time
async def test_changes_of_different_members_and_a_pause_at_the_same_time_are_all_kept() -> None:
    async with running() as world:
        await world.queue()
        created_at = (await stored(world)).created_at
        await asyncio.gather(
            world.broker.change_queue("q", QueueConfigChange(lease_ms=7)),
            world.broker.change_queue("q", QueueConfigChange(max_attempts=8)),
            world.broker.pause("q", True),
            world.broker.change_queue("q", QueueConfigChange(retention_ms=9)),
        )
        expected = Queue("q", QueueConfig(lease_ms=7, max_attempts=8, retention_ms=9), True, created_at)
        assert await stored(world) == expected
        assert world.broker.queue("q") == expected


@in_virtual_time
async def test_a_change_beside_a_delete_does_not_bring_the_queue_back() -> None:
    for order in (1, -1):
        async with running() as world:
            await world.queue()
            both: list[Any] = [
                world.broker.change_queue("q", QueueConfigChange(lease_ms=7)),
                world.broker.drop_queue("q"),
            ]
            answers = await asyncio.gather(*both[::order], return_exceptions=True)
            assert all(isinstance(a, NotFound) for a in answers if isinstance(a, BrokerError))
            assert await world.store.queues() == []
            assert not world.broker.knows("q")


@in_virtual_time
async def test_a_queue_is_not_redriven_from_itself() -> None:
    async with running() as world:
        await world.queue()
        with pytest.raises(Invalid) as refused:
            await world.broker.redrive("q", "q", None)
        assert [error.pointer for error in refused.value.errors] == ["/from"]


@in_virtual_time
async def test_a_parked_poll_of_a_queue_that_is_deleted_is_answered_at_once() -> None:
    async with running() as world:
        await world.queue()
        await world.queue("other")
        loop = asyncio.get_running_loop()
        polls = [
            asyncio.create_task(world.take(wait_ms=60_000)),
            asyncio.create_task(world.broker.consume(["other", "q"], "ann", 5, 60_000, None)),
        ]
        await turns()
        assert world.broker.consumers("q") == 2
        began = loop.time()
        await world.broker.drop_queue("q")
        assert await asyncio.gather(*polls) == [[], []]
        assert loop.time() - began < 0.1
        assert world.broker.consumers("other") == 0


@in_virtual_time
async def test_a_poll_of_a_queue_that_is_deleted_while_it_looks_does_not_wait_for_nothing() -> None:
    async with running() as world:
        await world.queue()
        await world.queue("busy")
        await world.publish(b"1", queue="busy")
        loop = asyncio.get_running_loop()
        began = loop.time()
        dropping = asyncio.create_task(world.broker.drop_queue("q"))
        await turns()  # deleted, but not answered yet
        # Both see the message; one of them gets it, the other has to wait, and by then one of its queues is gone.
        consume = world.broker.consume
        got = await asyncio.gather(*[consume(["busy", "q"], name, 1, 60_000, 90_000) for name in ("ann", "bob")])
        assert sorted(len(messages) for messages in got) == [0, 1]
        assert loop.time() - began < 1
        await dropping
