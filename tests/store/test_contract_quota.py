"""Every engine: whose a queue is, and how much may be stored in the queues of one owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streambroker.core.errors import QueueFull, StorageFull
from streambroker.core.lifecycle import Event
from streambroker.core.message import Draft, State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import Delete, DropQueue, Purge, Queue, Redrive, SaveQueue
from tests.store.subjects import OWNER_QUOTA, QUOTA_ENGINES, START, Bench, expect, wish


@pytest.fixture(params=QUOTA_ENGINES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """An engine whose owners may store `OWNER_QUOTA` bytes, with a queue ``q`` of mia's."""
    bench = Bench(await QUOTA_ENGINES[request.param](tmp_path / "data", START))
    try:
        await owned(bench, "q")
        yield bench
        await bench.check_counts()
    finally:
        await bench.subject.close()


async def owned(bench: Bench, name: str, owner: str = "mia", **config: object) -> Queue:
    command = SaveQueue(name, QueueConfig(**config), False, bench.now, owner=owner)  # type: ignore[arg-type]
    return expect(Queue, await bench.apply(command))


async def room(bench: Bench, queue: str = "q") -> int:
    """How many bytes the owner of the queue may still store."""
    low, high = 0, OWNER_QUOTA
    while low < high:
        size = (low + high + 1) // 2
        draft = bench.draft(b"x" * size)
        (answer,) = await bench.turn(bench.publishing([draft], queue))
        if isinstance(answer, StorageFull):
            high = size - 1
        else:
            low = size
            await bench.apply(Delete(draft.id))
    return low


async def stored(bench: Bench, size: int, queue: str = "q", **options: object) -> Draft:
    draft = bench.draft(b"x" * size, **options)
    await bench.publish(draft, queue=queue)
    return draft


async def test_the_owner_of_a_queue_stays_whoever_changes_it(bench: Bench) -> None:
    changed = await owned(bench, "q", owner="bob", lease_ms=7)
    assert (changed.owner, changed.config.lease_ms) == ("mia", 7)
    await bench.subject.restart(bench.now)
    assert [queue.owner for queue in await bench.store.queues()] == ["mia"]


async def test_a_queue_that_is_made_again_is_its_new_owners(bench: Bench) -> None:
    await bench.apply(DropQueue("q"))
    assert (await owned(bench, "q", owner="bob")).owner == "bob"


async def test_a_dead_letter_queue_is_whoever_s_the_queue_is_that_names_it(bench: Bench) -> None:
    await owned(bench, "a", dead_letter_queue="dead")
    await bench.apply(DropQueue("dead"))
    await bench.failed(queue="a")  # the queue is made again
    await owned(bench, "b", owner="bob", dead_letter_queue="other")
    owners = {queue.name: queue.owner for queue in await bench.store.queues()}
    assert owners == {"q": "mia", "a": "mia", "dead": "mia", "b": "bob", "other": "bob"}


async def test_a_publish_beyond_the_quota_is_refused_whole_and_says_which(bench: Bench) -> None:
    await stored(bench, OWNER_QUOTA - 10)
    for drafts in ([bench.draft(b"x" * 11)], [bench.draft(b"x" * 6), bench.draft(b"x" * 5)]):
        (refused,) = await bench.turn(bench.publishing(drafts))
        assert isinstance(refused, StorageFull)
        assert f"max_stored_bytes_per_user ({OWNER_QUOTA})" in refused.detail
        assert "mia" in refused.detail
    assert len(await bench.all()) == 1
    await stored(bench, 10)


async def test_attributes_count_and_duplicates_do_not(bench: Bench) -> None:
    await stored(bench, 100, attributes=b"y" * 50)
    assert await room(bench) == OWNER_QUOTA - 150
    first = bench.draft(b"x" * 200, dedup_id="d")
    await bench.publish(first, digests=[b"1"])
    for _ in range(9):
        again = bench.draft(b"x" * 200, dedup_id="d")
        assert (await bench.publish(again, digests=[b"1"])).duplicates == [0]
    assert await room(bench) == OWNER_QUOTA - 350


async def test_all_queues_of_an_owner_count_and_nobody_else_s(bench: Bench) -> None:
    await owned(bench, "more")
    await owned(bench, "bobs", owner="bob")
    await owned(bench, "nobodys", owner="")
    await stored(bench, 300, "q")
    await stored(bench, 200, "more")
    for _ in range(3):
        await stored(bench, OWNER_QUOTA // 2, "nobodys")
    assert await room(bench, "q") == await room(bench, "more") == OWNER_QUOTA - 500
    assert await room(bench, "bobs") == OWNER_QUOTA


async def test_what_is_deleted_makes_room_and_what_is_only_settled_does_not(bench: Bench) -> None:
    await owned(bench, "q", retention_ms=1_000)
    for size in (100, 200, 3_000):  # large content has a table of its own
        await stored(bench, size)
    processed, failed, _ = await bench.take(3)
    await bench.ack(processed)
    await bench.settle(failed, Event.REJECT)
    assert await room(bench) == OWNER_QUOTA - 3_300
    bench.now += 2_000
    await bench.tick()  # retention ends
    assert await room(bench) == OWNER_QUOTA - 3_200
    assert await bench.apply(Purge("q", (State.FAILED,), 10)) == 1
    assert await room(bench) == OWNER_QUOTA - 3_000
    (left,) = await bench.all()
    await bench.apply(Delete(left.id))
    assert await room(bench) == OWNER_QUOTA


async def test_what_is_dropped_to_make_room_in_the_queue_is_not_charged_any_more(bench: Bench) -> None:
    await owned(bench, "few", max_messages=2, overflow="drop_oldest")
    for size in (100, 200, 300, 400):
        await stored(bench, size, "few")
    assert await room(bench) == OWNER_QUOTA - 700


async def test_a_queue_that_drops_its_oldest_makes_room_within_the_quota_too(bench: Bench) -> None:
    await owned(bench, "ring", overflow="drop_oldest")
    await stored(bench, OWNER_QUOTA - 1_000)
    later = await stored(bench, 100, "ring", available_at=bench.now + 50)
    first = await stored(bench, 300, "ring", priority=9)
    second = await stored(bench, 300, "ring", attributes=b"y" * 100)
    third = await stored(bench, 200, "ring")
    # The oldest that are ready, as many as it takes, whatever their priority; then those that are delayed.
    new = bench.draft(b"x" * 301)
    assert (await bench.publish(new, queue="ring")).dropped == 2
    assert sorted(await bench.states("ring")) == [later.id, third.id, new.id]
    assert await bench.store.get(first.id) is await bench.store.get(second.id) is None
    largest = bench.draft(b"x" * 1_000)
    assert (await bench.publish(largest, queue="ring")).dropped == 3
    assert list(await bench.states("ring")) == [largest.id]
    assert len(await bench.all("q")) == 1


async def test_no_more_is_dropped_than_the_quota_and_the_queue_ask_for(bench: Bench) -> None:
    await owned(bench, "ring", max_messages=3, overflow="drop_oldest")
    await stored(bench, OWNER_QUOTA - 600)
    for size, dropped in ((200, 0), (200, 0), (200, 0), (1, 1), (199, 1), (400, 1), (600, 3)):
        answer = await bench.publish(bench.draft(b"x" * size), queue="ring")
        assert answer.dropped == dropped, size
    assert await room(bench) == 0


async def test_what_dropping_could_not_make_room_for_is_refused_and_nothing_is_dropped(bench: Bench) -> None:
    await owned(bench, "ring", overflow="drop_oldest", retention_ms=1_000_000)
    await stored(bench, OWNER_QUOTA - 1_000)
    for size in (300, 200, 100, 50):
        await stored(bench, size, "ring")
    processing, processed, failed = await bench.take(3, "ring")
    await bench.ack(processed)
    await bench.settle(failed, Event.REJECT)
    before = await bench.states("ring")
    for size in (401, 3_000, OWNER_QUOTA + 1):  # 350 is free, and 50 waits
        (refused,) = await bench.turn(bench.publishing([bench.draft(b"x" * size)], "ring"))
        assert isinstance(refused, StorageFull)
        assert await bench.states("ring") == before
    assert (await bench.publish(bench.draft(b"x" * 400), queue="ring")).dropped == 1
    assert (await bench.states("ring"))[processing.id] is State.LEASED
    await owned(bench, "ring", max_messages=1, overflow="drop_oldest")
    (refused,) = await bench.turn(bench.publishing(bench.drafts(9, content=b"x" * 900), "ring"))
    assert isinstance(refused, QueueFull)


async def test_publishes_of_one_turn_make_room_within_the_quota_for_each_other(bench: Bench) -> None:
    await owned(bench, "ring", overflow="drop_oldest")
    drafts = [bench.draft(b"x" * (OWNER_QUOTA // 2)) for _ in range(4)]
    answers = await bench.turn(*[bench.publishing([draft], "ring") for draft in drafts])
    assert [answer.dropped for answer in answers] == [0, 0, 1, 1]
    assert list(await bench.states("ring")) == [draft.id for draft in drafts[2:]]


async def test_duplicates_drop_nothing_where_the_quota_is_used_up(bench: Bench) -> None:
    await owned(bench, "ring", overflow="drop_oldest")
    first = bench.draft(b"x" * OWNER_QUOTA, dedup_id="d")
    await bench.publish(first, queue="ring", digests=[b"1"])
    again = await bench.publish(bench.draft(b"x" * OWNER_QUOTA, dedup_id="d"), queue="ring", digests=[b"1"])
    assert (again.ids, again.dropped) == ([first.id], 0)


async def test_a_message_that_moves_is_charged_to_where_it_is(bench: Bench) -> None:
    await owned(bench, "dead", owner="bob")
    await owned(bench, "q", dead_letter_queue="dead")
    await stored(bench, 300)
    await bench.apply(bench.settling(wish(await bench.take_one(), Event.REJECT)))
    assert (await room(bench, "q"), await room(bench, "dead")) == (OWNER_QUOTA, OWNER_QUOTA - 300)
    assert len(await bench.apply(Redrive("q", "dead", 10, bench.now))) == 1
    assert (await room(bench, "q"), await room(bench, "dead")) == (OWNER_QUOTA - 300, OWNER_QUOTA)


async def test_a_queue_that_is_dropped_makes_room_at_once(bench: Bench) -> None:
    await owned(bench, "more")
    await stored(bench, 300, "more")
    await bench.apply(DropQueue("more"))
    assert await room(bench) == OWNER_QUOTA


async def test_what_is_stored_is_known_after_a_restart(bench: Bench) -> None:
    for size in (100, 3_000):
        await stored(bench, size, attributes=b"y" * 7)
    await bench.subject.restart(bench.now)
    assert await room(bench) == OWNER_QUOTA - 3_114


async def test_who_holds_what_is_counted_by_queue(bench: Bench) -> None:
    await owned(bench, "more")
    for queue, holder, count in (("q", "ann", 2), ("q", "bob", 1), ("more", "ann", 3)):
        for _ in range(count):
            await stored(bench, 1, queue)
        assert len(await bench.take(count, queue, holder=holder)) == count
    await bench.ack(await bench.stored((await bench.all("more"))[0].id))
    assert await bench.store.leases() == [("more", "ann", 2), ("q", "ann", 2), ("q", "bob", 1)]
    await bench.apply(DropQueue("more"))
    assert await bench.store.leases() == [("q", "ann", 2), ("q", "bob", 1)]
