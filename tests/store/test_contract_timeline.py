"""Every engine: what is kept of a message's past, for how long; and the retry of one message."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from streambroker.core.lifecycle import Event, Fate
from streambroker.core.message import Message, State
from streambroker.core.timeline import MOST_RECORDS, Mark, Record
from streambroker.store.contract import Delete, DropQueue, Purge, Redrive, Retry, Settled, Sweep
from tests.store.subjects import START, Bench, expect, wish


async def records(bench: Bench, message: Message) -> list[Record]:
    found = await bench.store.timeline(message.id)
    assert found is not None
    assert found[0] == await bench.stored(message.id)
    return found[1]


async def marks(bench: Bench, message: Message) -> list[Mark]:
    return [record.mark for record in await records(bench, message)]


async def retry(bench: Bench, message_id: int) -> Settled:
    return expect(Settled, await bench.apply(Retry(message_id, bench.now)))


async def taken(bench: Bench, **options: Any) -> Message:
    await bench.publish(bench.draft())
    return await bench.take_one(**options)


# -- what is kept ------------------------------------------------------------------------------------------------------


async def test_a_message_that_is_delivered_once_and_acked_keeps_nothing(bench: Bench) -> None:
    message = await taken(bench)
    assert await records(bench, message) == []
    bench.now += 5
    await bench.settle(message, Event.EXTEND, until=bench.now + 60_000)
    await bench.ack(message)
    assert await records(bench, message) == []


async def test_each_attempt_that_did_not_end_well_is_kept_in_order(bench: Bench) -> None:
    await bench.queue(max_attempts=4)
    message = await taken(bench)
    bench.now += 5
    await bench.settle(message, Event.REQUEUE, delay_ms=0, reason="busy")
    await bench.settle(await bench.take_one(lease_ms=None), Event.RELEASE)
    await bench.take_one(holder="bob", lease_ms=10)
    bench.now += 10
    await bench.tick()
    await bench.settle(await bench.take_one(lease_ms=None), Event.LOSE)
    await bench.settle(await bench.take_one(), Event.RELEASE, unseen=True)
    await bench.settle(await bench.take_one(), Event.REJECT, reason="bad")
    middle, late = START + 5, START + 15
    assert await records(bench, message) == [
        Record(middle, Mark.REQUEUED, 1, "ann", START, START + 30_000, "busy"),
        Record(middle, Mark.RELEASED, 2, "ann", middle, None, None),
        Record(late, Mark.EXPIRED, 3, "bob", middle, late, "lease expired"),
        Record(late, Mark.LOST, 4, "ann", late, None, "connection lost"),
        Record(late, Mark.FAILED, 5, "ann", late, late + 30_000, "bad"),
    ]


async def test_two_changes_of_one_turn_are_both_kept(bench: Bench) -> None:
    message = await taken(bench)
    asked = wish(message, Event.LOSE), wish(message, Event.REQUEUE, delay_ms=0)
    await bench.apply(bench.settling(*asked))
    assert await marks(bench, message) == [Mark.LOST, Mark.REQUEUED]


async def test_a_settle_that_is_refused_or_repeated_keeps_nothing(bench: Bench) -> None:
    message = await taken(bench)
    await bench.settle(message, Event.REQUEUE, lease="another")
    assert await records(bench, message) == []
    for _ in range(2):
        await bench.settle(message, Event.REQUEUE, delay_ms=0)
    assert await marks(bench, message) == [Mark.REQUEUED]


async def test_a_late_ack_leaves_what_was_kept(bench: Bench) -> None:
    message = await taken(bench, lease_ms=10)
    bench.now += 10
    await bench.tick()
    await bench.ack(message)
    assert await marks(bench, message) == [Mark.EXPIRED]


async def test_the_end_of_a_life_is_kept_and_the_end_of_a_delay_is_not(bench: Bench) -> None:
    draft = bench.draft(available_at=START + 10, expires_at=START + 20)
    await bench.publish(draft)
    message = await bench.stored(draft.id)
    bench.now += 10
    await bench.tick()
    assert await records(bench, message) == []
    bench.now += 10
    await bench.tick()
    assert await records(bench, message) == [Record(START + 20, Mark.FAILED, 0, error="expired")]


async def test_records_go_with_the_message_to_its_dead_letter_queue_and_home(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead", max_attempts=2)
    message = await taken(bench)
    await bench.settle(message, Event.REQUEUE, delay_ms=0)
    await bench.settle(await bench.take_one(), Event.REQUEUE, reason="again")
    assert (await bench.stored(message.id)).queue == "dead"
    await bench.settle(await bench.take_one("dead"), Event.REQUEUE, delay_ms=0)
    await bench.apply(Redrive("q", "dead", 10, bench.now))
    assert (await bench.stored(message.id)).queue == "q"
    kept = await records(bench, message)
    assert [(record.mark, record.attempt) for record in kept] == [
        (Mark.REQUEUED, 1),
        (Mark.DEAD_LETTERED, 2),
        (Mark.REQUEUED, 1),
        (Mark.REDRIVEN, 1),
    ]


async def test_a_restart_that_gives_a_session_lease_back_is_kept(bench: Bench) -> None:
    session, fixed = await taken(bench, lease_ms=None), await taken(bench)
    bench.now += 7
    await bench.subject.restart(bench.now)
    assert await records(bench, session) == [
        Record(START + 7, Mark.RELEASED, 1, "ann", START, None, "the broker was started again")
    ]
    assert await records(bench, fixed) == []


# -- for how long ------------------------------------------------------------------------------------------------------


async def test_the_newest_hundred_are_kept(bench: Bench) -> None:
    await bench.queue(max_attempts=0)
    first, other = await taken(bench), await taken(bench)
    await bench.settle(other, Event.REJECT, reason="other")
    await bench.settle(first, Event.REQUEUE, delay_ms=0, reason="1")
    for attempt in range(2, MOST_RECORDS + 4):
        message = await bench.take_one()
        await bench.settle(message, Event.REQUEUE, delay_ms=0, reason=str(attempt))
    kept = await records(bench, first)
    assert [record.error for record in kept] == [str(attempt) for attempt in range(4, MOST_RECORDS + 4)]
    assert await marks(bench, other) == [Mark.FAILED]


async def test_more_than_a_hundred_in_one_turn_leave_a_hundred(bench: Bench) -> None:
    await bench.queue(max_attempts=0)
    message = await taken(bench)
    late = [wish(message, Event.EXTEND, until=START + 9), wish(message, Event.LOSE)] * (MOST_RECORDS + 1)
    await bench.apply(bench.settling(*late))
    assert await marks(bench, message) == [Mark.LOST] * MOST_RECORDS


async def test_there_is_no_timeline_of_a_message_that_is_gone(bench: Bench) -> None:
    await bench.queue(retention_ms=0)
    deleted, purged, retained, dropped = [await taken(bench) for _ in range(4)]
    for message in (deleted, purged, dropped):
        await bench.settle(message, Event.REJECT)
    await bench.settle(retained, Event.RELEASE)
    await bench.ack(await bench.take_one())
    await bench.apply(Delete(deleted.id))
    assert await bench.store.timeline(deleted.id) is None
    await bench.apply(Purge("q", (State.FAILED,), 1))
    assert await bench.store.timeline(purged.id) is None
    bench.now += 2_000
    await bench.tick()
    assert await bench.store.timeline(retained.id) is None
    assert await marks(bench, dropped) == [Mark.FAILED]
    await bench.apply(DropQueue("q"))
    assert await bench.store.timeline(dropped.id) is None
    await bench.apply(Sweep(bench.now, 10))
    await bench.queue()
    assert await bench.store.timeline(dropped.id) is None
    assert await bench.store.timeline(1) is None


async def test_message_and_records_are_of_one_moment(bench: Bench) -> None:
    await bench.queue(max_attempts=0)
    message = await taken(bench)

    async def spin() -> None:
        for _ in range(20):
            await bench.settle((await bench.take(1) or [message])[0], Event.REQUEUE, delay_ms=0)

    spinning = asyncio.create_task(spin())
    while not spinning.done():
        found = await bench.store.timeline(message.id)
        assert found is not None
        stored, kept = found
        assert len(kept) == stored.failures
        await asyncio.sleep(0)
    await spinning


# -- retry -------------------------------------------------------------------------------------------------------------


async def test_a_failed_message_that_is_retried_is_ready_without_failures(bench: Bench) -> None:
    await bench.queue(max_attempts=1, message_ttl_ms=500)
    message = await taken(bench)
    await bench.settle(message, Event.REQUEUE, reason="bad")
    bench.now += 30
    answer = await retry(bench, message.id)
    assert answer == Settled(
        message.id, None, "q", "q", State.READY, Fate.READY, False, 1, bench.now + 500, message.lease, bench.now, "ann",
        False, 1,
    )  # fmt: skip
    stored = await bench.stored(message.id)
    assert (stored.failures, stored.attempt, stored.error, stored.available_at) == (0, 1, "bad", bench.now)
    assert (await records(bench, message))[-1] == Record(bench.now, Mark.REDRIVEN, 1)
    again = await bench.take_one()
    assert (again.id, again.attempt) == (message.id, 2)


async def test_a_retry_in_a_dead_letter_queue_stays_there_and_keeps_its_note(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead")
    (message,) = await bench.failed()
    waiting = await bench.stored(message.id)
    assert (waiting.queue, waiting.state) == ("dead", State.READY)
    assert (await retry(bench, message.id)).refusal == "not_failed"
    await bench.settle(await bench.take_one("dead"), Event.REJECT)
    assert (await retry(bench, message.id)).now_in == "dead"
    stored = await bench.stored(message.id)
    assert (stored.queue, stored.state, stored.dead_letter) == ("dead", State.READY, waiting.dead_letter)


async def test_what_has_not_failed_is_not_retried_and_stays_as_it_is(bench: Bench) -> None:
    delayed = bench.draft(available_at=START + 50)
    processed, leased = await taken(bench), await taken(bench)
    ready = bench.draft()
    await bench.publish(delayed, ready)
    await bench.ack(processed)
    for message_id, state in (
        (delayed.id, State.DELAYED),
        (ready.id, State.READY),
        (leased.id, State.LEASED),
        (processed.id, State.PROCESSED),
    ):
        before = await bench.stored(message_id)
        answer = await retry(bench, message_id)
        assert (answer.refusal, answer.state, answer.fate) == ("not_failed", state, None)
        assert await bench.stored(message_id) == before
        assert await records(bench, before) == []


async def test_what_is_not_there_is_not_retried(bench: Bench) -> None:
    assert await retry(bench, 1) == Settled(1, "not_found")
    (message,) = await bench.failed()
    await bench.apply(DropQueue("q"))
    assert (await retry(bench, message.id)).refusal == "not_found"


async def test_a_retried_message_can_still_be_acked_by_the_lease_that_expired(bench: Bench) -> None:
    await bench.queue(max_attempts=1)
    message = await taken(bench, lease_ms=10)
    bench.now += 10
    await bench.tick()
    await retry(bench, message.id)
    assert (await bench.ack(message)).fate is Fate.PROCESSED
    assert await marks(bench, message) == [Mark.FAILED, Mark.REDRIVEN]


async def test_bulk_redrive_and_retry_leave_the_same(bench: Bench) -> None:
    one, many = [await taken(bench) for _ in range(2)]
    for message in (one, many):
        await bench.settle(message, Event.REJECT, reason="bad")
    bench.now += 30
    await retry(bench, one.id)
    await bench.apply(Redrive("q", None, 10, bench.now))
    retried, redriven = await bench.stored(one.id), await bench.stored(many.id)
    assert msgspec.structs.replace(retried, id=many.id, lease=many.lease) == redriven
    assert await records(bench, one) == await records(bench, many)
