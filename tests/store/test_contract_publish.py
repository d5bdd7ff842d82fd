"""Every engine: what is stored, what is a duplicate, what fits, who gets it at once."""

from __future__ import annotations

import pytest

from streambroker.core.errors import Invalid, NotFound, QueueFull
from streambroker.core.lifecycle import Event
from streambroker.core.message import Message, State, Verdict
from streambroker.core.policy import DAY_MS
from streambroker.store.contract import Overdue, Published, Sweep
from tests.store.subjects import START, Bench, ids, wish

ONE, OTHER = b"\x01" * 16, b"\x02" * 16


# -- storing -----------------------------------------------------------------------------------------------------------


async def test_a_message_is_stored_whole(bench: Bench) -> None:
    draft = bench.draft(
        b'{"n":1e400,"n":\t123456789012345678901234567890}',
        priority=7,
        expires_at=START + 900,
        max_attempts=3,
        key="k",
        attributes=b'{"headers":{"a":"b"}}',
    )
    assert await bench.publish(draft) == Published([draft.id], [], [], ready=True)
    assert await bench.store.get(draft.id) == Message(
        id=draft.id,
        queue="q",
        state=State.READY,
        attempt=0,
        failures=0,
        max_attempts=3,
        updated_at=START,
        available_at=START,
        expires_at=START + 900,
        due_at=START + 900,
        lease=None,
        holder=None,
        verdict=Verdict.NONE,
        error=None,
        dead_letter=None,
        priority=7,
        created_at=START,
        key="k",
        attributes=b'{"headers":{"a":"b"}}',
        content=b'{"n":1e400,"n":\t123456789012345678901234567890}',
    )


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x00", b"'; --", bytes(range(256)) * 4_096], ids=len)
async def test_content_comes_back_byte_for_byte(bench: Bench, content: bytes) -> None:
    draft = bench.draft(content)
    await bench.publish(draft)
    assert (await bench.take_one()).content == content
    assert (await bench.stored(draft.id)).content == content


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 137, 1_000])
async def test_a_batch_of_any_size_is_stored_in_its_order(bench: Bench, size: int) -> None:
    drafts = bench.drafts(size)
    assert (await bench.publish(*drafts)).ids == ids(drafts)
    assert ids(await bench.take(size)) == ids(drafts)


async def test_publishing_to_an_unknown_queue_is_refused(bench: Bench) -> None:
    draft = bench.draft()
    with pytest.raises(NotFound):
        await bench.publish(draft, queue="unknown")
    assert await bench.store.get(draft.id) is None


async def test_an_empty_batch_stores_nothing(bench: Bench) -> None:
    assert await bench.publish() == Published([], [], [], ready=False)


async def test_a_time_that_has_come_already_delays_nothing(bench: Bench) -> None:
    draft = bench.draft(available_at=START)
    await bench.publish(draft)
    assert (await bench.stored(draft.id)).state is State.READY


async def test_what_is_stored_is_there_after_a_restart(bench: Bench) -> None:
    drafts = [
        bench.draft(priority=1),
        bench.draft(available_at=START + 50),
        bench.draft(key="k", expires_at=START + 90),
    ]
    await bench.publish(*drafts)
    before = await bench.all()
    await bench.subject.restart(bench.now)
    assert await bench.all() == before


# -- claim at insert ---------------------------------------------------------------------------------------------------


async def test_a_waiting_consumer_gets_the_message_with_its_publish(bench: Bench) -> None:
    draft, claim = bench.draft(b"work"), bench.claim(lease_ms=400)
    answer = await bench.publish(draft, claims=[claim])
    ((message,),) = answer.claimed
    assert not answer.ready
    assert message == await bench.store.get(draft.id)
    assert (message.state, message.attempt, message.lease, message.holder) == (
        State.LEASED,
        1,
        claim.terms.token,
        "ann",
    )
    assert message.due_at == START + 400


async def test_claimed_at_the_insert_or_from_the_table_it_is_the_same_message(bench: Bench) -> None:
    first, second = (
        bench.draft(b"x", priority=3, expires_at=START + 9_000),
        bench.draft(b"x", priority=3, expires_at=START + 9_000),
    )
    ((at_insert,),) = (await bench.publish(first, claims=[bench.claim()])).claimed
    await bench.publish(second)
    from_table = await bench.take_one()
    for name in Message.__struct_fields__:
        if name not in ("id", "lease"):
            assert getattr(at_insert, name) == getattr(from_table, name), name


async def test_older_messages_go_before_the_new_one(bench: Bench) -> None:
    old, new = bench.draft(), bench.draft()
    await bench.publish(old)
    answer = await bench.publish(new, claims=[bench.claim()])
    assert [ids(got) for got in answer.claimed] == [[old.id]]
    assert answer.ready
    assert await bench.states() == {old.id: State.LEASED, new.id: State.READY}


async def test_a_higher_priority_goes_before_older_messages(bench: Bench) -> None:
    old, new = bench.draft(), bench.draft(priority=1)
    await bench.publish(old)
    answer = await bench.publish(new, claims=[bench.claim()])
    assert [ids(got) for got in answer.claimed] == [[new.id]]


async def test_a_batch_is_delivered_by_priority_also_at_the_insert(bench: Bench) -> None:
    low, high, middle = bench.draft(), bench.draft(priority=9), bench.draft(priority=5)
    answer = await bench.publish(low, high, middle, claims=[bench.claim(limit=3)])
    assert [ids(got) for got in answer.claimed] == [[high.id, middle.id, low.id]]


async def test_the_highest_priorities_of_a_batch_fill_a_small_credit(bench: Bench) -> None:
    low, high, middle = bench.draft(), bench.draft(priority=9), bench.draft(priority=5)
    answer = await bench.publish(low, high, middle, claims=[bench.claim(limit=1), bench.claim(limit=1)])
    assert [ids(got) for got in answer.claimed] == [[high.id], [middle.id]]
    assert answer.ready


async def test_a_batch_is_shared_among_those_who_wait(bench: Bench) -> None:
    drafts = bench.drafts(5)
    answer = await bench.publish(*drafts, claims=[bench.claim(limit=9), bench.claim(limit=1), bench.claim(limit=9)])
    assert [len(got) for got in answer.claimed] == [2, 1, 2]
    assert not answer.ready


async def test_a_delayed_message_is_not_given_to_those_who_wait(bench: Bench) -> None:
    later = bench.draft(available_at=START + 50)
    answer = await bench.publish(later, claims=[bench.claim()])
    assert [list(got) for got in answer.claimed] == [[]]
    assert not answer.ready
    assert (await bench.stored(later.id)).due_at == START + 50


async def test_a_message_whose_life_is_over_is_not_given_to_those_who_wait(bench: Bench) -> None:
    answer = await bench.publish(bench.draft(expires_at=START), claims=[bench.claim()])
    assert [list(got) for got in answer.claimed] == [[]]


async def test_the_byte_budget_holds_at_the_insert(bench: Bench) -> None:
    drafts = bench.drafts(4, content=b"x" * 100)
    answer = await bench.publish(
        *drafts, claims=[bench.claim(limit=9, max_bytes=150), bench.claim(limit=9, max_bytes=100)]
    )
    assert [ids(got) for got in answer.claimed] == [[drafts[0].id, drafts[2].id], [drafts[1].id]]
    assert answer.ready


async def test_a_session_lease_given_at_the_insert_has_no_end(bench: Bench) -> None:
    ((message,),) = (await bench.publish(bench.draft(), claims=[bench.claim(lease_ms=None)])).claimed
    assert message.due_at is None
    bench.now += DAY_MS
    assert (await bench.tick()).items == []


async def test_where_older_messages_are_ready_the_publishes_of_a_turn_share_them_all(bench: Bench) -> None:
    old, low, high = bench.draft(), bench.draft(), bench.draft(priority=9)
    await bench.publish(old)
    first, second, third = await bench.turn(
        bench.publishing([low], claims=[bench.claim(limit=1)]),
        bench.publishing([], claims=[bench.claim(limit=1), bench.claim(limit=2)]),
        bench.publishing([high]),
    )
    assert [ids(got) for got in first.claimed] == [[high.id]]
    assert [ids(got) for got in second.claimed] == [[old.id], [low.id]]
    assert (first.ready, second.ready) == (False, False)
    assert third.ids == [high.id]


async def test_where_nothing_older_is_ready_each_publish_serves_its_own_consumers(bench: Bench) -> None:
    low, high = bench.draft(), bench.draft(priority=9)
    first, second = await bench.turn(
        bench.publishing([low], claims=[bench.claim(limit=3)]), bench.publishing([high], claims=[bench.claim(limit=3)])
    )
    assert [ids(got) for got in first.claimed] == [[low.id]]
    assert [ids(got) for got in second.claimed] == [[high.id]]


# -- dedup -------------------------------------------------------------------------------------------------------------


async def test_the_same_dedup_id_answers_the_first_message(bench: Bench) -> None:
    first, again = bench.draft(dedup_id="d"), bench.draft(dedup_id="d")
    await bench.publish(first, digests=[ONE])
    bench.now += DAY_MS - 1
    answer = await bench.publish(again, digests=[ONE])
    assert (answer.ids, answer.duplicates) == ([first.id], [0])
    assert ids(await bench.all()) == [first.id]


async def test_a_duplicate_is_known_after_its_message_is_gone(bench: Bench) -> None:
    first = bench.draft(dedup_id="d")
    await bench.publish(first, digests=[ONE])
    await bench.ack(await bench.take_one())
    bench.now += 2 * 3_600_000
    await bench.tick()
    assert await bench.store.get(first.id) is None
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])).ids == [first.id]


async def test_the_same_dedup_id_for_other_content_is_refused(bench: Bench) -> None:
    await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    with pytest.raises(Invalid):
        await bench.publish(bench.draft(), bench.draft(dedup_id="d"), digests=[OTHER])
    assert len(await bench.all()) == 1


async def test_a_dedup_id_is_forgotten_after_its_window(bench: Bench) -> None:
    await bench.queue(dedup_window_ms=500)
    await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    bench.now += 500
    fresh = bench.draft(dedup_id="d")
    assert await bench.publish(fresh, digests=[OTHER]) == Published([fresh.id], [], [], ready=True)
    bench.now += 499  # the window began anew
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[OTHER])).duplicates == [0]


async def test_no_window_means_no_dedup(bench: Bench) -> None:
    await bench.queue(dedup_window_ms=0)
    await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])).duplicates == []


async def test_a_dedup_id_twice_in_one_batch_stands_for_the_first(bench: Bench) -> None:
    first, between, again = bench.draft(dedup_id="d"), bench.draft(), bench.draft(dedup_id="d")
    answer = await bench.publish(first, between, again, digests=[ONE, ONE])
    assert (answer.ids, answer.duplicates) == ([first.id, between.id, first.id], [2])
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])).ids == [first.id]


async def test_a_dedup_id_twice_in_one_batch_with_other_content_is_refused(bench: Bench) -> None:
    with pytest.raises(Invalid):
        await bench.publish(bench.draft(dedup_id="d"), bench.draft(dedup_id="d"), digests=[ONE, OTHER])
    assert await bench.all() == []
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[OTHER])).duplicates == []


async def test_a_batch_may_hold_new_messages_and_duplicates(bench: Bench) -> None:
    first = bench.draft(dedup_id="a")
    await bench.publish(first, digests=[ONE])
    again, fresh = bench.draft(dedup_id="a"), bench.draft(dedup_id="b")
    answer = await bench.publish(again, fresh, digests=[ONE, OTHER], claims=[bench.claim(limit=5)])
    assert (answer.ids, answer.duplicates) == ([first.id, fresh.id], [0])
    assert [ids(got) for got in answer.claimed] == [[first.id, fresh.id]]


async def test_dedup_ids_of_two_queues_are_strangers(bench: Bench) -> None:
    await bench.queue("other")
    await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[OTHER], queue="other")).duplicates == []


async def test_duplicates_in_two_publishes_of_one_turn(bench: Bench) -> None:
    first, again = bench.draft(dedup_id="d"), bench.draft(dedup_id="d")
    one, other = await bench.turn(
        bench.publishing([first], digests=[ONE]), bench.publishing([again, bench.draft()], digests=[ONE])
    )
    assert (one.duplicates, other.ids[0], other.duplicates) == ([], first.id, [0])


async def test_a_batch_key_replays_the_answer_to_the_whole_batch(bench: Bench) -> None:
    await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    drafts = [bench.draft(), bench.draft(dedup_id="d")]
    answer = await bench.publish(*drafts, batch_key="b", digest=ONE, digests=[ONE])
    again = await bench.publish(*bench.drafts(2), batch_key="b", digest=ONE, claims=[bench.claim()])
    assert (again.ids, again.duplicates, again.replayed) == (answer.ids, [1], True)
    assert [list(got) for got in again.claimed] == [[]]
    assert len(await bench.all()) == 2


async def test_a_batch_key_for_another_batch_is_refused(bench: Bench) -> None:
    await bench.publish(bench.draft(), batch_key="b", digest=ONE)
    with pytest.raises(Invalid):
        await bench.publish(bench.draft(), batch_key="b", digest=OTHER)


async def test_a_batch_key_is_no_dedup_id(bench: Bench) -> None:
    await bench.publish(bench.draft(), batch_key="same", digest=ONE)
    assert (await bench.publish(bench.draft(dedup_id="same"), digests=[OTHER])).duplicates == []


async def test_a_batch_key_is_forgotten_after_its_window(bench: Bench) -> None:
    await bench.publish(bench.draft(), batch_key="b", digest=ONE)
    bench.now += DAY_MS
    assert not (await bench.publish(bench.draft(), batch_key="b", digest=OTHER)).replayed


async def test_dedup_records_survive_a_restart(bench: Bench) -> None:
    first = bench.draft(dedup_id="d")
    await bench.publish(first, digests=[ONE])
    await bench.subject.restart(bench.now)
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])).ids == [first.id]


async def test_a_sweep_keeps_the_dedup_records_that_still_count(bench: Bench) -> None:
    await bench.queue("short", dedup_window_ms=10)
    await bench.publish(bench.draft(dedup_id="d"), digests=[ONE], queue="short")
    first = bench.draft(dedup_id="d")
    await bench.publish(first, digests=[ONE])
    bench.now += 10
    assert await bench.apply(Sweep(bench.now, 100)) is False
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])).ids == [first.id]
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[OTHER], queue="short")).duplicates == []


# -- a full queue ------------------------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_all_of_a_batch(bench: Bench) -> None:
    await bench.queue(max_messages=2)
    await bench.publish(bench.draft())
    with pytest.raises(QueueFull):
        await bench.publish(*bench.drafts(2))
    await bench.publish(bench.draft())
    with pytest.raises(QueueFull):
        await bench.publish(bench.draft())


async def test_what_is_delayed_or_processing_takes_room_and_what_is_done_does_not(bench: Bench) -> None:
    await bench.queue(max_messages=2)
    await bench.publish(bench.draft(), bench.draft(available_at=START + 9_000))
    message = await bench.take_one()
    with pytest.raises(QueueFull):
        await bench.publish(bench.draft())
    await bench.ack(message)
    await bench.publish(bench.draft())
    await bench.settle(await bench.take_one(), Event.REJECT)
    await bench.publish(bench.draft())


async def test_a_duplicate_needs_no_room(bench: Bench) -> None:
    await bench.queue(max_messages=1)
    await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])).duplicates == [0]


async def test_what_found_no_room_left_no_dedup_record(bench: Bench) -> None:
    await bench.queue(max_messages=1)
    await bench.publish(bench.draft())
    with pytest.raises(QueueFull):
        await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    await bench.queue(max_messages=2)
    assert (await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])).duplicates == []


async def test_the_oldest_make_room_whatever_their_priority(bench: Bench) -> None:
    await bench.queue(max_messages=3, overflow="drop_oldest")
    first, second, third = bench.draft(priority=9), bench.draft(priority=0), bench.draft(priority=5)
    await bench.publish(first, second, third)
    new = bench.drafts(2)
    assert (await bench.publish(*new)).dropped == 2
    assert ids(await bench.take(9)) == [third.id, *ids(new)]
    assert await bench.store.get(first.id) is None


async def test_delayed_messages_are_dropped_after_all_that_are_ready(bench: Bench) -> None:
    await bench.queue(max_messages=2, overflow="drop_oldest")
    later, ready = bench.draft(available_at=START + 50), bench.draft()
    await bench.publish(later, ready)
    assert (await bench.publish(bench.draft())).dropped == 1
    assert set(await bench.states()) & {later.id, ready.id} == {later.id}
    new = bench.drafts(2)
    assert (await bench.publish(*new)).dropped == 2
    assert sorted(await bench.states()) == ids(new)


async def test_what_is_processing_is_never_dropped(bench: Bench) -> None:
    await bench.queue(max_messages=2, overflow="drop_oldest")
    await bench.publish(*bench.drafts(2))
    held = await bench.take(2)
    with pytest.raises(QueueFull):
        await bench.publish(bench.draft())
    assert sorted(await bench.states()) == ids(held)


async def test_a_batch_larger_than_the_queue_drops_nothing(bench: Bench) -> None:
    await bench.queue(max_messages=2, overflow="drop_oldest")
    kept = bench.draft()
    await bench.publish(kept)
    with pytest.raises(QueueFull):
        await bench.publish(*bench.drafts(3))
    assert list(await bench.states()) == [kept.id]


async def test_publishes_of_one_turn_make_room_for_each_other(bench: Bench) -> None:
    await bench.queue(max_messages=2, overflow="drop_oldest")
    first, second, third = bench.drafts(2), bench.drafts(1), bench.drafts(1)
    answers = await bench.turn(bench.publishing(first), bench.publishing(second), bench.publishing(third))
    assert [answer.dropped for answer in answers] == [0, 1, 1]
    assert list(await bench.states()) == ids(second + third)


@pytest.mark.parametrize("overflow", ["drop_oldest", "reject"])
async def test_a_publish_of_nothing_but_duplicates_needs_no_room_and_drops_nothing(bench: Bench, overflow: str) -> None:
    await bench.queue()
    first = [bench.draft(dedup_id="d"), *bench.drafts(2)]
    await bench.publish(*first, digests=[ONE])
    await bench.queue(max_messages=2, overflow=overflow)  # it holds more than that already
    again = await bench.publish(bench.draft(dedup_id="d"), digests=[ONE])
    assert (again.ids, again.duplicates, again.dropped) == ([first[0].id], [0], 0)
    assert sorted(await bench.states()) == ids(first)


# -- one turn ----------------------------------------------------------------------------------------------------------


async def test_publish_settle_and_claim_in_one_turn(bench: Bench) -> None:
    await bench.publish(bench.draft())
    held = await bench.take_one()
    draft = bench.draft()
    # Whatever order they come in: publishes, settles, claims, the rest.
    tick, claimed, settled, published = await bench.turn(
        Overdue(START, 10),
        bench.claim(limit=9),
        bench.settling(wish(held, Event.RELEASE)),
        bench.publishing([draft]),
    )
    assert published.ids == [draft.id]
    assert settled[0].refusal is None
    assert ids(claimed) == [held.id, draft.id]
    assert tick.items == []


async def test_what_a_turn_refuses_fails_alone(bench: Bench) -> None:
    await bench.queue("full", max_messages=1)
    await bench.publish(bench.draft(), queue="full")
    held = await bench.publish(bench.draft(), claims=[bench.claim()])
    good, bad = bench.draft(), bench.drafts(2)
    answers = await bench.turn(
        bench.publishing(bad[:1], "full"),
        bench.publishing([good]),
        bench.publishing(bad[1:], "unknown"),
        bench.settling(wish(held.claimed[0][0], Event.ACK)),
        bench.claim(limit=5),
        bench.claim("unknown"),
    )
    assert isinstance(answers[0], QueueFull)
    assert isinstance(answers[2], NotFound)
    assert answers[1].ids == [good.id]
    assert answers[3][0].state is State.PROCESSED
    assert ids(answers[4]) == [good.id]
    assert answers[5] == []
    assert [await bench.store.get(draft.id) for draft in bad] == [None, None]
