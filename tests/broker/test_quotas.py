"""How many queues there may be, and how many messages a user may hold: refused at the quota, and counted everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from streambroker.broker.quotas import Quotas
from streambroker.core.errors import BrokerError, RateLimited, StorageFull
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Message, State
from streambroker.core.policy import QueueConfig, QueueConfigChange
from streambroker.store.contract import Claim, SaveQueue
from tests.broker.virtual import in_virtual_time
from tests.broker.world import World, running

PLAIN = QueueConfig()


async def refusal(awaitable: Awaitable[object]) -> BrokerError:
    with pytest.raises(RateLimited) as refused:
        await awaitable
    return refused.value


# -- queues ------------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_one_queue_too_many_is_refused_with_the_quota_and_not_created() -> None:
    async with running(quotas=Quotas(max_queues=2)) as world:
        await world.broker.create_queue("a", PLAIN)
        await world.broker.ensure_queue("b")
        for creating in (world.broker.create_queue("c", PLAIN), world.broker.ensure_queue("c", "mia")):
            refused = await refusal(creating)
            assert "max_queues (2)" in refused.detail
            assert refused.retry_after_ms == 60_000
        assert [queue.name for queue in world.broker.queues()] == ["a", "b"]
        assert [queue.name for queue in await world.store.queues()] == ["a", "b"]


@in_virtual_time
async def test_a_queue_that_exists_is_not_created_again_and_so_never_one_too_many() -> None:
    async with running(quotas=Quotas(max_queues=1, max_queues_per_user=1)) as world:
        await world.broker.create_queue("a", PLAIN, "mia")
        assert (await world.broker.create_queue("a", PLAIN, "mia"))[1] is False
        assert (await world.broker.ensure_queue("a", "bob")).owner == "mia"
        await world.broker.pause("a", True)
        await world.broker.change_queue("a", QueueConfigChange(lease_ms=7))


@in_virtual_time
async def test_a_queue_that_is_deleted_makes_room_for_another() -> None:
    async with running(quotas=Quotas(max_queues_per_user=1)) as world:
        await world.broker.create_queue("a", PLAIN, "mia")
        await refusal(world.broker.create_queue("b", PLAIN, "mia"))
        await world.broker.drop_queue("a")
        await world.broker.create_queue("b", PLAIN, "mia")
        await refusal(world.broker.create_queue("c", PLAIN, "mia"))


@in_virtual_time
async def test_the_quota_of_a_user_binds_that_user_alone_and_nobody_whom_quotas_do_not_bind() -> None:
    async with running(quotas=Quotas(max_queues_per_user=1)) as world:
        await world.broker.ensure_queue("a", "mia")
        refused = await refusal(world.broker.ensure_queue("b", "mia"))
        assert "mia has max_queues_per_user (1)" in refused.detail
        await world.broker.ensure_queue("b", "bob")
        for name in ("c", "d"):
            assert (await world.broker.create_queue(name, PLAIN, ""))[0].owner == ""


@in_virtual_time
async def test_those_who_create_at_the_same_moment_cannot_exceed_the_quota_together() -> None:
    async with running(quotas=Quotas(max_queues=5, max_queues_per_user=3)) as world:
        asked = [world.broker.ensure_queue(f"q{number}", "mia") for number in range(4)]
        asked += [world.broker.ensure_queue("q0", "mia")]  # the same as the first: no queue more
        asked += [world.broker.ensure_queue(f"r{number}", "bob") for number in range(3)]
        got = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(one, RateLimited) for one in got] == [False] * 3 + [True] + [False] * 3 + [True]
        assert len(world.broker.queues()) == 5


@in_virtual_time
async def test_a_dead_letter_queue_that_comes_into_being_counts_and_is_its_queues_owners() -> None:
    async with running(quotas=Quotas(max_queues_per_user=2)) as world:
        config = QueueConfig(dead_letter_queue="dead")
        asked = [world.broker.create_queue(name, config, "mia") for name in ("a", "b")]
        _, refused = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(refused, RateLimited)
        assert {q.name: q.owner for q in world.broker.queues()} == {"a": "mia", "dead": "mia"}
        await refusal(world.broker.change_queue("a", QueueConfigChange(dead_letter_queue="other")))
        assert world.broker.queue("a").config.dead_letter_queue == "dead"
        await world.broker.drop_queue("dead")
        await world.broker.change_queue("a", QueueConfigChange(dead_letter_queue="other"))
        assert world.broker.queue("other").owner == "mia"


@in_virtual_time
async def test_a_queue_that_the_store_could_not_create_does_not_count() -> None:
    async with running(quotas=Quotas(max_queues=1)) as world:
        world.engine.refuse(SaveQueue)
        with pytest.raises(StorageFull):
            await world.broker.ensure_queue("a")
        await world.broker.ensure_queue("b")


@in_virtual_time
async def test_a_queue_whose_creator_left_meanwhile_counts() -> None:
    async with running(quotas=Quotas(max_queues=1)) as world:
        creating = asyncio.ensure_future(world.broker.ensure_queue("a"))
        await asyncio.sleep(0)
        creating.cancel()
        await asyncio.wait([creating])
        await refusal(world.broker.ensure_queue("b"))


# -- leases ------------------------------------------------------------------------------------------------------------


async def filled(world: World, count: int = 10, name: str = "q", **config: object) -> None:
    await world.queue(name, **config)
    await world.publish(*[b"1"] * count, queue=name)


async def settle(world: World, message: Message, event: Event = Event.ACK, **options: object) -> None:
    (settled,) = await world.broker.settle([Settlement(message.id, event, message.lease, **options)])  # type: ignore[arg-type]
    assert settled.refusal is None


@in_virtual_time
async def test_a_user_gets_no_more_than_its_quota_and_then_hears_which() -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=3)) as world:
        await filled(world)
        first, *others = await world.take(limit=10, user="mia")
        assert len(others) == 2
        refused = await refusal(world.take(user="mia"))
        assert "mia holds max_in_flight_per_user (3)" in refused.detail
        assert refused.retry_after_ms
        assert len(await world.take(limit=2, user="bob")) == 2
        await settle(world, first)
        assert len(await world.take(limit=10, user="mia")) == 1


@in_virtual_time
async def test_whom_the_quota_does_not_bind_gets_what_there_is() -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=3), exempt=lambda user: user == "admin") as world:
        await filled(world)
        assert len(await world.take(limit=10)) == 10


@pytest.mark.parametrize("ending", ["ack", "reject", "requeue", "release", "expire", "delete", "drop"])
@in_virtual_time
async def test_a_lease_that_ends_makes_room_however_it_ends(ending: str) -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=2)) as world:
        await filled(world, lease_ms=1_000)
        await world.queue("other")
        await world.publish(b"1", b"2", b"3", queue="other")
        held = await world.take(limit=2, user="mia")
        for message in held:
            match ending:
                case "ack" | "reject" | "requeue" | "release":
                    await settle(world, message, Event[ending.upper()])
                case "delete":
                    await world.broker.delete(message.id)
        if ending == "expire":
            await asyncio.sleep(2)
        if ending == "drop":
            await world.broker.drop_queue("q")
        assert len(await world.take("other", limit=3, user="mia")) == 2
        await refusal(world.take("other", user="mia"))


@in_virtual_time
async def test_a_settle_that_ends_no_lease_changes_nothing() -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=2)) as world:
        await filled(world, lease_ms=1_000)
        first, second = await world.take(limit=2, user="mia")
        for _ in range(2):
            await settle(world, first)
            await settle(world, second, Event.EXTEND, until=world.broker.clock() + 500)
        assert len(await world.take(limit=10, user="mia")) == 1
        await asyncio.sleep(3)  # both leases that are left are over now, and then an ack comes late
        await settle(world, second)
        assert len(await world.take(limit=10, user="mia")) == 2


@in_virtual_time
async def test_a_lease_that_was_over_and_goes_on_counts_again() -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=1)) as world:
        await filled(world, count=2, lease_ms=1_000)
        (message,) = await world.take(user="mia")
        await asyncio.sleep(2)
        await settle(world, message, Event.EXTEND, until=world.broker.clock() + 60_000)
        await refusal(world.take(user="mia"))


@in_virtual_time
async def test_a_poll_that_waits_is_served_once_its_user_has_room() -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=2)) as world:
        await world.queue()
        polls = [asyncio.create_task(world.take(limit=2, wait_ms=60_000, user="mia")) for _ in range(2)]
        await asyncio.sleep(0.1)
        await world.publish(b"1", b"2", b"3", b"4")
        done, _ = await asyncio.wait(polls, timeout=10)
        (first,) = done
        assert len(first.result()) == 2
        await settle(world, first.result()[0])
        (second,) = set(polls) - done
        assert len(await second) == 1


@in_virtual_time
async def test_a_subscription_is_given_no_more_than_its_user_may_hold_and_the_rest_as_it_acks() -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=3)) as world:
        await filled(world, count=7)
        peer = await world.connect(user="admin")
        await peer.call("subscribe", queue="q", credit=100)
        got = await peer.deliveries(3)
        for _ in range(4):
            await asyncio.sleep(1)
            assert not [frame for frame in peer.inbox if frame["op"] == "deliver"]
            await peer.call("ack", ids=[got.pop(0)["message_id"]])
            got += await peer.deliveries(1)
        assert world.held == 3


@in_virtual_time
async def test_a_claim_that_failed_takes_nothing_of_the_quota() -> None:
    async with running(quotas=Quotas(max_in_flight_per_user=2)) as world:
        await filled(world)
        world.engine.refuse(Claim)
        assert await world.take(limit=2, user="mia") == []
        assert len(await world.take(limit=10, user="mia")) == 2


@in_virtual_time
async def test_leases_from_before_a_restart_count() -> None:
    async with running() as world:
        await filled(world)
        held = await world.take(limit=2, user="mia")
        again = World(store=world.store, quotas=Quotas(max_in_flight_per_user=3))
        await again.broker.start()
        assert len(await again.take(limit=10, user="mia")) == 1
        await settle(again, held[0])
        assert len(await again.take(limit=10, user="mia")) == 1
        await again.broker.stop()
        assert (await world.states()).count(State.LEASED) == 3
