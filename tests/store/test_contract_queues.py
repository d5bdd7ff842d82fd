"""Every engine: queues are made, changed, purged and dropped, and messages deleted."""

from __future__ import annotations

import pytest

from streambroker.core.errors import NotFound
from streambroker.core.lifecycle import Event, Fate
from streambroker.core.message import State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import Delete, Depth, DropQueue, Purge, Queue, SaveQueue, Sweep
from tests.store.subjects import START, Bench, ids

PENDING = (State.READY, State.DELAYED)
NOT_PROCESSING = (State.READY, State.DELAYED, State.PROCESSED, State.FAILED)


async def sweep(bench: Bench, limit: int = 100) -> int:
    """Sweep until nothing is left; how many times it took."""
    turns = 1
    while await bench.apply(Sweep(bench.now, limit)):
        turns += 1
    return turns


async def everywhere(bench: Bench) -> list[int]:
    """One message in each state: ready, delayed, leased, processed, failed."""
    (failed,) = await bench.failed()
    await bench.publish(*bench.drafts(2))
    processed, leased = await bench.take(2)
    await bench.ack(processed)
    ready, delayed = bench.draft(), bench.draft(available_at=START + 50)
    await bench.publish(ready, delayed)
    return [ready.id, delayed.id, leased.id, processed.id, failed.id]


# -- making and changing -----------------------------------------------------------------------------------------------


async def test_a_queue_is_stored_as_it_was_asked_for(bench: Bench) -> None:
    config = QueueConfig(lease_ms=7, max_attempts=0, overflow="drop_oldest", durability="memory", dead_letter_queue="q")
    saved = await bench.apply(SaveQueue("new", config, True, START + 5))
    assert saved == Queue("new", config, True, START + 5)
    await bench.subject.restart(bench.now)
    assert saved in await bench.store.queues()


async def test_queues_are_listed_by_name(bench: Bench) -> None:
    for name in ("b", "a", "Z", "a.b"):
        await bench.queue(name)
    names = [queue.name for queue in await bench.store.queues()]
    assert names == sorted(names) == ["Z", "a", "a.b", "b", "q"]


async def test_saving_again_changes_the_configuration_and_nothing_else(bench: Bench) -> None:
    await bench.publish(bench.draft())
    bench.now += 70
    changed = await bench.apply(SaveQueue("q", QueueConfig(lease_ms=9), True, bench.now))
    assert changed == Queue("q", QueueConfig(lease_ms=9), True, START)
    assert await bench.store.queues() == [changed]
    assert (await bench.store.depth("q")).ready == 1


async def test_a_changed_configuration_counts_from_the_next_decision_on(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    await bench.queue(max_attempts=1)
    assert (await bench.settle(message, Event.REQUEUE)).fate is Fate.FAILED


async def test_a_dead_letter_queue_that_exists_keeps_its_configuration(bench: Bench) -> None:
    await bench.queue("dead", lease_ms=9)
    await bench.queue(dead_letter_queue="dead")
    assert [queue.config.lease_ms for queue in await bench.store.queues()] == [9, 30_000]


async def test_depth_of_an_unknown_queue_is_zero(bench: Bench) -> None:
    assert await bench.store.depth("unknown") == Depth()


async def test_the_oldest_ready_message_is_found_in_any_priority(bench: Bench) -> None:
    assert await bench.store.oldest_ready("q") is None
    await bench.publish(bench.draft(available_at=START + 9_000))
    assert await bench.store.oldest_ready("q") is None
    bench.now += 10
    await bench.publish(bench.draft(priority=3))
    bench.now += 10
    await bench.publish(bench.draft(priority=9))
    assert await bench.store.oldest_ready("q") == START + 10
    assert await bench.store.oldest_ready("unknown") is None


# -- purging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "left"),
    [(PENDING, [2, 3, 4]), ((State.FAILED,), [0, 1, 2, 3]), ((State.PROCESSED,), [0, 1, 2, 4]), (NOT_PROCESSING, [2])],
)
async def test_a_purge_deletes_what_stands_in_its_states(
    bench: Bench, states: tuple[State, ...], left: list[int]
) -> None:
    messages = await everywhere(bench)
    assert await bench.apply(Purge("q", states, 100)) == 5 - len(left)
    assert sorted(await bench.states()) == sorted(messages[index] for index in left)


async def test_a_purge_deletes_as_many_as_it_may(bench: Bench) -> None:
    await bench.publish(*bench.drafts(3), bench.draft(available_at=START + 50), bench.draft(available_at=START + 60))
    assert [await bench.apply(Purge("q", PENDING, limit)) for limit in (0, 2, 2, 2)] == [0, 2, 2, 1]


async def test_a_purge_touches_no_other_queue(bench: Bench) -> None:
    await bench.queue("other")
    await bench.publish(bench.draft(), queue="other")
    assert await bench.apply(Purge("q", NOT_PROCESSING, 100)) == 0
    assert (await bench.store.depth("other")).ready == 1


async def test_a_purge_of_an_unknown_queue_is_refused(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.apply(Purge("unknown", PENDING, 1))


async def test_claims_of_a_turn_go_before_its_purges_and_deletes(bench: Bench) -> None:
    first, second = bench.drafts(2)
    await bench.publish(first, second)
    purged, deleted, got = await bench.turn(Purge("q", PENDING, 100), Delete(first.id), bench.claim())
    assert (ids(got), purged, deleted.state) == ([first.id], 1, State.LEASED)
    assert await bench.all() == []


# -- deleting ----------------------------------------------------------------------------------------------------------


async def test_a_message_is_deleted_from_any_state(bench: Bench) -> None:
    for number, state in zip(await everywhere(bench), State, strict=True):
        lease = (await bench.stored(number)).lease
        answer = await bench.apply(Delete(number))
        assert (answer.refusal, answer.queue, answer.fate, answer.state) == (None, "q", Fate.GONE, state)
        assert answer.lease == lease
        assert await bench.store.get(number) is None
    assert await bench.store.depth("q") == Depth()


async def test_a_message_cannot_be_deleted_twice(bench: Bench) -> None:
    draft = bench.draft()
    await bench.publish(draft)
    first, second = await bench.turn(Delete(draft.id), Delete(draft.id))
    assert (first.refusal, second.refusal) == (None, "not_found")


async def test_who_holds_a_deleted_message_cannot_settle_it(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    await bench.apply(Delete(message.id))
    assert (await bench.ack(message)).refusal == "not_found"


# -- dropping ----------------------------------------------------------------------------------------------------------


async def test_a_dropped_queue_is_gone_at_once_with_all_in_it(bench: Bench) -> None:
    messages = await everywhere(bench)
    held = await bench.stored(messages[2])
    assert await bench.apply(DropQueue("q")) is True
    assert await bench.store.queues() == []
    assert [await bench.store.get(number) for number in messages] == [None] * 5
    assert await bench.all() == []
    assert await bench.store.depth("q") == Depth()
    assert await bench.store.oldest_ready("q") is None
    assert await bench.take(9) == []
    assert (await bench.ack(held)).refusal == "not_found"
    assert (await bench.apply(Delete(messages[0]))).refusal == "not_found"
    bench.now += 10_000_000
    assert (await bench.tick()).items == []
    with pytest.raises(NotFound):
        await bench.publish(bench.draft())


async def test_an_unknown_queue_cannot_be_dropped(bench: Bench) -> None:
    assert await bench.apply(DropQueue("unknown")) is False


@pytest.mark.parametrize("swept", [True, False])
async def test_a_queue_made_again_by_the_same_name_is_empty(bench: Bench, swept: bool) -> None:
    await everywhere(bench)
    await bench.publish(bench.draft(dedup_id="d"), digests=[b"1"])
    await bench.apply(DropQueue("q"))
    if swept:
        await sweep(bench)
    bench.now += 30
    assert (await bench.queue()).created_at == START + 30
    assert await bench.all() == []
    fresh = bench.draft(dedup_id="d")
    assert (await bench.publish(fresh, digests=[b"2"])).duplicates == []
    await sweep(bench)
    assert ids(await bench.all()) == [fresh.id]


async def test_what_was_dropped_stays_dropped_over_a_restart(bench: Bench) -> None:
    messages = await everywhere(bench)
    await bench.apply(DropQueue("q"))
    await bench.subject.restart(bench.now)
    assert await bench.store.queues() == []
    assert await bench.store.get(messages[0]) is None
    await bench.queue()
    assert await bench.all() == []
    await sweep(bench)


async def test_a_sweep_comes_to_its_end_in_small_steps(bench: Bench) -> None:
    for name in ("one", "two"):
        await bench.queue(name)
        await bench.publish(*bench.drafts(7), queue=name)
        await bench.apply(DropQueue(name))
    await bench.publish(bench.draft())
    assert await sweep(bench, limit=3) < 10
    assert await bench.apply(Sweep(bench.now, 3)) is False
    assert (await bench.store.depth("q")).ready == 1


async def test_a_queue_may_be_made_filled_and_dropped_in_one_turn(bench: Bench) -> None:
    # Publishes go first, so the one of this turn finds no queue.
    saved, published, dropped = await bench.turn(
        SaveQueue("new", QueueConfig(), False, bench.now), bench.publishing([bench.draft()], "new"), DropQueue("new")
    )
    assert (saved.name, dropped) == ("new", True)
    assert isinstance(published, NotFound)
