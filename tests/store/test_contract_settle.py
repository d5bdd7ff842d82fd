"""Every engine: an ack, a nack, a release or an extend is judged by its token, each item on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from streambroker.core.lifecycle import Event, Fate, Settlement
from streambroker.core.message import Message, State, Verdict
from streambroker.store.contract import Acked, Delete, Depth, Settle, Settled
from tests.store.subjects import START, Bench, ids, wish


async def delivered(bench: Bench, **options: object) -> Settlement:
    """A wish to ack the one message that was published and taken."""
    await bench.publish(bench.draft())
    return wish(await bench.take_one(), Event.ACK, **options)


# -- one settle --------------------------------------------------------------------------------------------------------


async def test_an_ack_processes_the_message(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    bench.now += 40
    answer = await bench.ack(message)
    assert answer == Settled(
        message.id, None, "q", "q", State.PROCESSED, Fate.PROCESSED, False, 1, answer.due_at, message.lease, START,
        "ann", True, 1,
    )  # fmt: skip
    stored = await bench.stored(message.id)
    assert (stored.state, stored.verdict, stored.updated_at) == (State.PROCESSED, Verdict.ACKED, START + 40)
    assert stored.due_at == answer.due_at == START + 3_601_000
    assert stored.lease == message.lease


async def test_a_requeue_waits_for_the_backoff(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    answer = await bench.settle(message, Event.REQUEUE, reason="later")
    assert (answer.state, answer.fate, answer.due_at) == (State.DELAYED, Fate.DELAYED, START + 100)
    stored = await bench.stored(message.id)
    assert (stored.available_at, stored.failures, stored.error) == (START + 100, 1, "later")
    assert await bench.take() == []
    bench.now += 100
    await bench.tick()
    again = await bench.take_one()
    assert (again.attempt, again.failures) == (2, 1)
    assert (await bench.settle(again, Event.REQUEUE)).due_at == bench.now + 200


async def test_a_requeue_without_delay_can_be_taken_at_once(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    assert (await bench.settle(message, Event.REQUEUE, delay_ms=0)).fate is Fate.READY
    assert ids(await bench.take()) == [message.id]


async def test_a_reject_fails_the_message(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    answer = await bench.settle(message, Event.REJECT, reason="bad")
    assert (answer.state, answer.fate, answer.now_in) == (State.FAILED, Fate.FAILED, "q")
    assert (await bench.stored(message.id)).error == "bad"


async def test_the_last_attempt_fails_the_message(bench: Bench) -> None:
    await bench.queue(max_attempts=2)
    await bench.publish(bench.draft())
    await bench.settle(await bench.take_one(), Event.REQUEUE, delay_ms=0)
    answer = await bench.settle(await bench.take_one(), Event.REQUEUE, delay_ms=0, reason="again")
    assert (answer.fate, answer.attempt) == (Fate.FAILED, 2)


async def test_a_release_gives_the_message_back_without_a_failure(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=None)
    assert (await bench.settle(message, Event.RELEASE)).fate is Fate.READY
    again = await bench.take_one()
    assert (again.id, again.attempt, again.failures) == (message.id, 2, 0)


async def test_a_release_unseen_does_not_count_as_a_delivery(bench: Bench) -> None:
    await bench.publish(bench.draft())
    await bench.settle(await bench.take_one(), Event.RELEASE, unseen=True)
    assert (await bench.take_one()).attempt == 1


async def test_a_lost_connection_counts_a_failure(bench: Bench) -> None:
    await bench.publish(bench.draft())
    await bench.settle(await bench.take_one(lease_ms=None), Event.LOSE, reason="connection lost")
    again = await bench.take_one()
    assert (again.attempt, again.failures, again.error) == (2, 1, "connection lost")


async def test_an_extended_lease_ends_later(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=100)
    bench.now += 50
    answer = await bench.settle(message, Event.EXTEND, until=bench.now + 100)
    assert (answer.state, answer.fate, answer.due_at) == (State.LEASED, Fate.EXTENDED, START + 150)
    bench.now = START + 149
    assert (await bench.tick()).items == []
    bench.now += 1
    assert ids((await bench.tick()).items) == [message.id]


# -- judged by the token -----------------------------------------------------------------------------------------------


async def test_late_ack_wins_until_the_message_is_handed_out_again(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=10)
    bench.now += 9_999
    await bench.tick()
    assert (await bench.ack(message)).fate is Fate.PROCESSED
    assert await bench.take() == []


async def test_late_ack_loses_to_a_newer_claim(bench: Bench) -> None:
    await bench.publish(bench.draft())
    late = await bench.take_one(lease_ms=10)
    bench.now += 10
    await bench.tick()
    newer = await bench.take_one()
    answer = await bench.ack(late)
    assert (answer.refusal, answer.state, answer.lease) == ("lease_lost", State.LEASED, newer.lease)
    assert (await bench.ack(newer)).refusal is None


@pytest.mark.parametrize("ended", [Event.REQUEUE, Event.RELEASE, Event.LOSE])
async def test_an_old_token_loses_once_the_message_was_handed_out_again(bench: Bench, ended: Event) -> None:
    await bench.publish(bench.draft())
    old = await bench.take_one()
    await bench.settle(old, ended, delay_ms=0)
    await bench.take_one()
    assert {(await bench.settle(old, event)).refusal for event in (Event.ACK, Event.EXTEND, ended)} == {"lease_lost"}


@pytest.mark.parametrize("state", [State.DELAYED, State.FAILED])
async def test_late_ack_wins_over_what_became_of_the_message_meanwhile(bench: Bench, state: State) -> None:
    await bench.queue(max_attempts=1 if state is State.FAILED else 5)
    await bench.publish(bench.draft(expires_at=START + 500))
    message = await bench.take_one(lease_ms=10)
    bench.now += 10
    await bench.tick()
    if state is State.DELAYED:  # extended late, so it is leased again
        await bench.settle(message, Event.EXTEND, until=bench.now + 10)
    assert (await bench.ack(message)).fate is Fate.PROCESSED


@pytest.mark.parametrize(
    ("first", "again", "refused"),
    [
        (Event.ACK, (Event.ACK,), (Event.REQUEUE, Event.REJECT, Event.RELEASE, Event.LOSE, Event.EXTEND)),
        (Event.REQUEUE, (Event.REQUEUE, Event.REJECT), (Event.ACK, Event.RELEASE, Event.LOSE, Event.EXTEND)),
        (Event.REJECT, (Event.REQUEUE, Event.REJECT), (Event.ACK, Event.RELEASE, Event.LOSE, Event.EXTEND)),
    ],
)
async def test_the_same_verdict_again_is_answered_and_another_refused(
    bench: Bench, first: Event, again: tuple[Event, ...], refused: tuple[Event, ...]
) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    await bench.settle(message, first)
    settled = await bench.stored(message.id)
    bench.now += 5
    for event in again:
        answer = await bench.settle(message, event)
        assert (answer.refusal, answer.already, answer.fate) == (None, True, None)
    for event in refused:
        assert (await bench.settle(message, event)).refusal == "already_settled"
    assert await bench.stored(message.id) == settled


async def test_without_a_token_only_what_is_processing_and_only_by_its_holder(bench: Bench) -> None:
    draft = bench.draft()
    await bench.publish(draft)
    by_ann, by_bob = Settlement(draft.id, Event.ACK, holder="ann"), Settlement(draft.id, Event.ACK, holder="bob")
    (ready,) = await bench.apply(bench.settling(by_ann))
    await bench.take_one(holder="ann")
    (other,) = await bench.apply(bench.settling(by_bob))
    (own,) = await bench.apply(bench.settling(by_ann))
    (again,) = await bench.apply(bench.settling(by_ann))
    assert [ready.refusal, other.refusal, own.refusal, again.refusal] == [
        "not_processing",
        "lease_lost",
        None,
        "not_processing",
    ]


async def test_an_unknown_or_wrong_token_loses(bench: Bench) -> None:
    draft = bench.draft()
    await bench.publish(draft)
    for lease in ("", "token-1", "null"):
        (answer,) = await bench.apply(bench.settling(Settlement(draft.id, Event.ACK, lease)))
        assert answer.refusal == "lease_lost"


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1])
async def test_a_message_that_is_not_there_is_not_found(bench: Bench, number: int) -> None:
    (answer,) = await bench.apply(bench.settling(Settlement(number, Event.ACK, "t")))
    assert answer == Settled(number, "not_found")


async def test_an_ack_counts_after_a_restart(bench: Bench) -> None:
    await bench.publish(*bench.drafts(2))
    session, fixed = await bench.take_one(lease_ms=None), await bench.take_one(lease_ms=100)
    await bench.subject.restart(bench.now)
    assert (await bench.stored(session.id)).state is State.READY
    assert (await bench.stored(fixed.id)).state is State.LEASED
    assert [(await bench.ack(message)).fate for message in (session, fixed)] == [Fate.PROCESSED, Fate.PROCESSED]


async def test_an_answered_ack_is_answered_again_after_a_restart(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    await bench.ack(message)
    await bench.subject.restart(bench.now)
    assert (await bench.ack(message)).already


# -- many in one turn --------------------------------------------------------------------------------------------------


async def test_each_item_of_a_batch_is_judged_on_its_own(bench: Bench) -> None:
    await bench.publish(*bench.drafts(3))
    one, two, three = await bench.take(3)
    answers = await bench.apply(
        bench.settling(
            wish(one, Event.ACK),
            Settlement(5, Event.ACK, "t"),
            wish(two, Event.REQUEUE, delay_ms=0),
            wish(three, Event.ACK, lease="wrong"),
        )
    )
    assert [answer.refusal for answer in answers] == [None, "not_found", None, "lease_lost"]
    assert await bench.states() == {one.id: State.PROCESSED, two.id: State.READY, three.id: State.LEASED}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "expected", "state"),
    [
        (Event.ACK, Event.ACK, (None, True), State.PROCESSED),
        (Event.ACK, Event.REJECT, ("already_settled", False), State.PROCESSED),
        (Event.REJECT, Event.ACK, ("already_settled", False), State.FAILED),
        (Event.REJECT, Event.REQUEUE, (None, True), State.FAILED),
        (Event.REQUEUE, Event.ACK, ("already_settled", False), State.DELAYED),
        (Event.EXTEND, Event.ACK, (None, False), State.PROCESSED),
        (Event.EXTEND, Event.EXTEND, (None, False), State.LEASED),
        (Event.RELEASE, Event.ACK, (None, False), State.PROCESSED),
        (Event.RELEASE, Event.RELEASE, ("lease_lost", False), State.READY),
        (Event.RELEASE, Event.EXTEND, (None, False), State.LEASED),
        (Event.LOSE, Event.REQUEUE, (None, False), State.DELAYED),
    ],
)
async def test_two_settles_of_one_message_in_one_turn_are_judged_in_order(
    bench: Bench, first: Event, second: Event, expected: tuple[str | None, bool], state: State, together: bool
) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    one, two = wish(message, first, until=START + 70), wish(message, second, until=START + 90)
    if together:
        ((_, answer),) = await bench.turn(bench.settling(one, two))
    else:
        _, (answer,) = await bench.turn(bench.settling(one), bench.settling(two))
    assert (answer.refusal, answer.already) == expected
    stored = await bench.stored(message.id)
    assert stored.state is answer.state is state
    assert stored.due_at == answer.due_at


async def test_acks_of_many_at_different_times_keep_their_own_retention(bench: Bench) -> None:
    await bench.publish(*bench.drafts(4))
    messages = await bench.take(4)
    early = bench.settling(*[wish(message, Event.ACK) for message in messages[:2]])
    bench.now += 5_000
    late = bench.settling(*[wish(message, Event.ACK) for message in messages[2:]])
    await bench.turn(early, late)
    stored = [await bench.stored(message.id) for message in messages]
    assert [message.updated_at for message in stored] == [START, START, START + 5_000, START + 5_000]
    assert [message.due_at for message in stored] == [START + 3_600_000] * 2 + [START + 3_605_000] * 2


async def test_a_thousand_acks_in_one_turn(bench: Bench) -> None:
    await bench.publish(*bench.drafts(1_000))
    messages = await bench.take(1_000)
    await bench.apply(bench.settling(*[wish(message, Event.ACK) for message in messages]))
    assert await bench.store.depth("q") == Depth(processed=1_000)


async def test_what_is_settled_in_a_turn_can_be_claimed_in_it(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one()
    got, (settled,) = await bench.turn(bench.claim(), bench.settling(wish(message, Event.REQUEUE, delay_ms=0)))
    assert settled.fate is Fate.READY
    assert ids(got) == [message.id]
    assert got[0].attempt == 2


async def test_a_release_makes_no_room_for_the_publishes_of_its_turn(bench: Bench) -> None:
    await bench.queue(max_messages=1, overflow="drop_oldest")
    await bench.publish(bench.draft())
    held = await bench.take_one()
    _, published = await bench.turn(bench.settling(wish(held, Event.RELEASE)), bench.publishing([bench.draft()]))
    assert isinstance(published, Exception)  # publishes go first, and what is processing is never dropped
    assert await bench.states() == {held.id: State.READY}


# -- acks of what is held ----------------------------------------------------------------------------------------------


def acked(command: Settle, answer: Any) -> list[tuple[int, int | None]]:
    """Ids and purge times of acks that were all granted, in whichever form they were answered."""
    if isinstance(answer, Acked):
        return [(item.id, answer.due_at) for item in command.items]
    assert {(item.refusal, item.already, item.fate) for item in answer} == {(None, False, Fate.PROCESSED)}
    return [(item.id, item.due_at) for item in answer]


def acking(bench: Bench, messages: Sequence[Message], queue: str = "q") -> Settle:
    return Settle([wish(message, Event.ACK) for message in messages], bench.now, queue=queue)


async def test_acks_of_what_is_held_are_granted_together(bench: Bench) -> None:
    await bench.publish(*bench.drafts(5))
    held = await bench.take(2) + await bench.take(2)
    bench.now += 30
    command = acking(bench, held)
    assert acked(command, await bench.apply(command)) == [(number, START + 3_601_000) for number in ids(held)]
    stored = [await bench.stored(number) for number in ids(held)]
    assert {(m.state, m.verdict, m.due_at, m.updated_at) for m in stored} == {
        (State.PROCESSED, Verdict.ACKED, START + 3_601_000, START + 30)
    }
    assert [message.lease for message in stored] == [message.lease for message in held]
    assert await bench.store.depth("q") == Depth(ready=1, processed=4)


@pytest.mark.parametrize("queue", ["other", "unknown"])
async def test_acks_that_name_another_queue_are_judged_by_their_tokens(bench: Bench, queue: str) -> None:
    await bench.queue("other")
    await bench.publish(bench.draft())
    held = await bench.take()
    (answer,) = await bench.apply(acking(bench, held, queue))
    assert (answer.fate, answer.queue) == (Fate.PROCESSED, "q")


async def test_where_one_is_held_no_longer_each_ack_is_judged_on_its_own(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead", max_attempts=1)
    await bench.publish(*bench.drafts(6))
    lost, late, done, gone, dead, held = messages = await bench.take(6, lease_ms=10)
    await bench.ack(done)
    await bench.apply(Delete(gone.id))
    await bench.settle(lost, Event.RELEASE)
    await bench.take_one()
    await bench.settle(late, Event.RELEASE)
    await bench.settle(dead, Event.LOSE)
    answers = await bench.apply(acking(bench, messages))
    assert [(answer.refusal, answer.already) for answer in answers] == [
        ("lease_lost", False),
        (None, False),
        (None, True),
        ("not_found", False),
        (None, False),
        (None, False),
    ]
    expected = {lost.id: State.LEASED} | dict.fromkeys([late.id, done.id, held.id], State.PROCESSED)
    assert await bench.states() == expected
    assert await bench.states("dead") == {dead.id: State.PROCESSED}


async def test_one_message_acked_twice_in_one_command(bench: Bench) -> None:
    await bench.publish(bench.draft())
    (held,) = await bench.take()
    first, second = await bench.apply(acking(bench, [held, held]))
    assert (first.already, second.already) == (False, True)
    assert await bench.store.depth("q") == Depth(processed=1)


async def test_held_acks_of_several_commands_in_one_turn(bench: Bench) -> None:
    await bench.publish(*bench.drafts(4))
    one, two, three, four = [await bench.take_one() for _ in range(4)]
    good, bad = acking(bench, [one, two]), acking(bench, [three, msgspec.structs.replace(four, lease="wrong")])
    granted, judged = await bench.turn(good, bad)
    assert [number for number, _ in acked(good, granted)] == [one.id, two.id]
    assert [answer.refusal for answer in judged] == [None, "lease_lost"]


async def test_acks_of_nothing(bench: Bench) -> None:
    answer = await bench.apply(acking(bench, []))
    assert answer == [] or isinstance(answer, Acked)
