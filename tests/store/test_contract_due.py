"""Every engine: what happens by itself, and what becomes of dead letters."""

from __future__ import annotations

import msgspec
import pytest

from streambroker.core.errors import NotFound
from streambroker.core.lifecycle import Event, Fate
from streambroker.core.message import DeadLetter, Message, State
from streambroker.core.policy import DAY_MS
from streambroker.store.contract import Depth, DropQueue, Lapsed, Redrive, Settled
from tests.store.subjects import START, Bench, ids, wish

ALL = 1_000


def note(message: Message) -> DeadLetter:
    assert message.dead_letter is not None
    return msgspec.json.decode(message.dead_letter, type=DeadLetter)


async def redrive(bench: Bench, queue: str = "q", source: str | None = None, limit: int = ALL) -> list[int]:
    found: list[Settled] = await bench.apply(Redrive(queue, source, limit, bench.now))
    return [item.id for item in found]


# -- the tick ----------------------------------------------------------------------------------------------------------


async def test_where_nothing_is_due_the_tick_says_when_to_come_back(bench: Bench) -> None:
    assert await bench.tick() == Lapsed([], None)
    await bench.publish(bench.draft(), bench.draft(available_at=START + 50), bench.draft(expires_at=START + 40))
    assert await bench.tick() == Lapsed([], START + 40)


async def test_a_lease_expires_at_its_end_and_never_early(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=100)
    bench.now += 99
    assert await bench.tick() == Lapsed([], START + 100)
    bench.now += 1
    lapsed = await bench.tick()
    assert [(item.id, item.fate, item.lease) for item in lapsed.items] == [(message.id, Fate.READY, message.lease)]
    assert lapsed.next_due is None
    again = await bench.take_one()
    assert (again.attempt, again.failures, again.error) == (2, 1, "lease expired")


async def test_an_expired_lease_may_be_the_last_attempt(bench: Bench) -> None:
    await bench.publish(bench.draft(max_attempts=1))
    await bench.take_one(lease_ms=10)
    bench.now += 10
    (item,) = (await bench.tick()).items
    assert (item.fate, item.state) == (Fate.FAILED, State.FAILED)


async def test_a_session_lease_never_expires(bench: Bench) -> None:
    await bench.publish(bench.draft())
    await bench.take_one(lease_ms=None)
    bench.now += 400 * DAY_MS
    assert await bench.tick() == Lapsed([], None)


async def test_a_delayed_message_becomes_ready_at_its_time(bench: Bench) -> None:
    later = bench.draft(available_at=START + 50)
    await bench.publish(later)
    bench.now += 49
    assert (await bench.tick()).items == []
    assert await bench.take() == []
    bench.now += 1
    (item,) = (await bench.tick()).items
    assert (item.id, item.fate) == (later.id, Fate.READY)
    assert ids(await bench.take()) == [later.id]


async def test_a_delayed_message_takes_the_place_of_its_publish(bench: Bench) -> None:
    later, ready = bench.draft(available_at=START + 50), bench.draft()
    await bench.publish(later, ready)
    bench.now += 50
    await bench.tick()
    assert ids(await bench.take(2)) == [later.id, ready.id]


@pytest.mark.parametrize("delay", [None, 500])
async def test_a_message_whose_life_is_over_fails(bench: Bench, delay: int | None) -> None:
    draft = bench.draft(expires_at=START + 50, available_at=None if delay is None else START + delay)
    await bench.publish(draft)
    bench.now += 50
    (item,) = (await bench.tick()).items
    assert item.fate is Fate.FAILED
    assert (await bench.stored(draft.id)).error == "expired"


async def test_a_life_goes_on_under_a_lease_and_ends_after_it(bench: Bench) -> None:
    await bench.publish(bench.draft(expires_at=START + 50))
    message = await bench.take_one(lease_ms=100)
    bench.now += 99
    assert (await bench.tick()).items == []
    bench.now += 1
    assert [item.fate for item in (await bench.tick()).items] == [Fate.READY]
    assert await bench.take() == []
    assert [item.fate for item in (await bench.tick()).items] == [Fate.FAILED]
    assert (await bench.stored(message.id)).error == "expired"


async def test_a_processed_message_is_gone_after_its_retention(bench: Bench) -> None:
    await bench.queue(retention_ms=2_000)
    await bench.publish(bench.draft())
    message = await bench.take_one()
    due = (await bench.ack(message)).due_at
    assert due == START + 2_000
    bench.now += 2_000
    (item,) = (await bench.tick()).items
    assert (item.id, item.fate) == (message.id, Fate.GONE)
    assert await bench.store.get(message.id) is None
    assert (await bench.ack(message)).refusal == "not_found"


async def test_a_limited_tick_does_the_earliest_first_and_says_that_more_is_due(bench: Bench) -> None:
    drafts = [bench.draft(available_at=START + 50 - step) for step in range(5)]
    await bench.publish(*drafts)
    bench.now += 60
    lapsed = await bench.tick(limit=3)
    assert ids(lapsed.items) == [draft.id for draft in drafts[:1:-1]]
    assert lapsed.next_due == START + 49
    assert ids((await bench.tick(limit=3)).items) == [drafts[1].id, drafts[0].id]


async def test_all_kinds_of_things_are_due_in_one_tick(bench: Bench) -> None:
    await bench.queue("gone", retention_ms=0)
    await bench.publish(bench.draft(), queue="gone")
    await bench.ack(await bench.take_one("gone"))
    await bench.publish(bench.draft())
    await bench.take_one(lease_ms=50)
    await bench.publish(bench.draft(available_at=START + 60), bench.draft(expires_at=START + 70))
    bench.now += 1_000
    fates = [item.fate for item in (await bench.tick()).items]
    assert fates == [Fate.GONE, Fate.READY, Fate.READY, Fate.FAILED]
    assert await bench.store.depth("q") == Depth(ready=2, failed=1)
    assert await bench.store.depth("gone") == Depth()


# -- dead letters ------------------------------------------------------------------------------------------------------


async def test_a_rejected_message_is_in_the_dead_letter_queue_with_the_same_turn(bench: Bench) -> None:
    await bench.queue("dead", message_ttl_ms=900)
    await bench.queue(dead_letter_queue="dead")
    await bench.publish(bench.draft(b"x", priority=4, key="k"))
    message = await bench.take_one()
    bench.now += 30
    (settled,), got = await bench.turn(bench.settling(wish(message, Event.REJECT, reason="bad")), bench.claim("dead"))
    assert (settled.queue, settled.now_in, settled.fate, settled.state) == (
        "q",
        "dead",
        Fate.DEAD_LETTERED,
        State.READY,
    )
    (dead,) = got
    assert (dead.id, dead.queue, dead.attempt, dead.failures) == (message.id, "dead", 1, 0)
    assert (dead.content, dead.priority, dead.key, dead.created_at) == (b"x", 4, "k", START)
    assert dead.expires_at == bench.now + 900
    assert note(dead) == DeadLetter("q", "rejected", "bad", 1, bench.now)
    assert await bench.all("q") == []


async def test_attempts_used_up_move_to_the_dead_letter_queue(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead", max_attempts=2)
    await bench.publish(bench.draft())
    await bench.settle(await bench.take_one(), Event.REQUEUE, delay_ms=0, reason="first")
    await bench.settle(await bench.take_one(), Event.REQUEUE, delay_ms=0, reason="second")
    (dead,) = await bench.all("dead")
    assert note(dead) == DeadLetter("q", "attempts", "second", 2, START)


@pytest.mark.parametrize(("lease_ms", "life", "reason"), [(10, None, "attempts"), (None, 10, "expired")])
async def test_what_is_overdue_moves_to_the_dead_letter_queue(
    bench: Bench, lease_ms: int | None, life: int | None, reason: str
) -> None:
    await bench.queue(dead_letter_queue="dead", max_attempts=1)
    await bench.publish(bench.draft(expires_at=life and START + life))
    if lease_ms:
        await bench.take_one(lease_ms=lease_ms)
    bench.now += 10
    (item,) = (await bench.tick()).items
    assert (item.fate, item.queue, item.now_in) == (Fate.DEAD_LETTERED, "q", "dead")
    (dead,) = await bench.all("dead")
    assert note(dead).reason == reason


async def test_a_dead_letter_queue_is_made_with_the_queue_that_names_it(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead")
    assert [queue.name for queue in await bench.store.queues()] == ["dead", "q"]


@pytest.mark.parametrize("overdue", [True, False])
async def test_a_dead_letter_queue_that_was_dropped_is_made_again(bench: Bench, overdue: bool) -> None:
    await bench.queue(dead_letter_queue="dead", max_attempts=1)
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=10)
    assert await bench.apply(DropQueue("dead"))
    bench.now += 10
    if overdue:
        await bench.tick()
    else:
        await bench.settle(message, Event.REJECT)
    assert ids(await bench.all("dead")) == [message.id]
    assert [queue.created_at for queue in await bench.store.queues() if queue.name == "dead"] == [bench.now]


async def test_a_dead_letter_queue_that_was_dropped_is_not_made_again_for_an_ack(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead")
    await bench.publish(*bench.drafts(2))
    await bench.apply(DropQueue("dead"))
    await bench.ack(await bench.take_one())
    await bench.settle(await bench.take_one(), Event.REQUEUE)
    assert [queue.name for queue in await bench.store.queues()] == ["q"]


async def test_dead_letters_go_on_to_the_next_dead_letter_queue(bench: Bench) -> None:
    await bench.queue("dead", dead_letter_queue="buried")
    await bench.queue(dead_letter_queue="dead")
    (message,) = await bench.failed()
    await bench.settle(await bench.take_one("dead"), Event.REJECT, reason="still bad")
    (buried,) = await bench.all("buried")
    assert (buried.id, note(buried).queue) == (message.id, "dead")


async def test_a_dead_letter_queue_takes_more_than_its_limit(bench: Bench) -> None:
    await bench.queue("dead", max_messages=1)
    await bench.queue(dead_letter_queue="dead")
    await bench.failed(3)
    assert (await bench.store.depth("dead")).ready == 3


async def test_late_ack_finds_its_message_in_the_dead_letter_queue(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead", max_attempts=1)
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=10)
    bench.now += 10
    await bench.tick()
    answer = await bench.ack(message)
    assert (answer.queue, answer.fate) == ("dead", Fate.PROCESSED)
    assert await bench.take(queue="dead") == []


# -- redrive -----------------------------------------------------------------------------------------------------------


async def test_failed_messages_are_redriven_where_they_are(bench: Bench) -> None:
    await bench.queue(message_ttl_ms=70)
    (message,) = await bench.failed()
    bench.now += 30
    assert await redrive(bench) == [message.id]
    again = await bench.take_one()
    assert (again.attempt, again.failures, again.expires_at) == (2, 0, bench.now + 70)
    assert (again.error, again.available_at) == ("bad", bench.now)


async def test_dead_letters_are_redriven_home(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead")
    (message,) = await bench.failed()
    assert await redrive(bench, source="dead") == [message.id]
    home = await bench.take_one()
    assert (home.queue, home.attempt, home.failures) == ("q", 1, 0)
    assert note(home).reason == "rejected"
    assert await bench.all("dead") == []


async def test_a_redrive_takes_as_many_as_it_may_by_priority(bench: Bench) -> None:
    low = await bench.failed(2)
    (high,) = await bench.failed(priority=5)
    assert await redrive(bench, limit=2) == [high.id, low[0].id]
    assert await redrive(bench, limit=0) == []
    assert await redrive(bench) == [low[1].id]


async def test_a_redrive_takes_only_the_dead_letters_of_its_queue(bench: Bench) -> None:
    await bench.queue("other", dead_letter_queue="dead")
    await bench.queue(dead_letter_queue="dead")
    await bench.failed(queue="other")
    (mine,) = await bench.failed()
    await bench.publish(bench.draft(), queue="dead")
    assert await redrive(bench, source="dead") == [mine.id]
    assert len(await bench.all("dead")) == 2


async def test_a_redrive_leaves_the_dead_letters_that_somebody_works_on(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead")
    messages = await bench.failed(5)
    held = await bench.take(4, "dead")
    await bench.turn(
        bench.settling(
            wish(held[0], Event.ACK), wish(held[1], Event.REJECT), wish(held[2], Event.REQUEUE, delay_ms=500)
        )
    )
    # Ready, delayed and failed go home; what is processing or processed stays.
    expected = [messages[4].id, held[2].id, held[1].id]
    assert await redrive(bench, source="dead") == expected
    assert await bench.states("dead") == {held[3].id: State.LEASED, held[0].id: State.PROCESSED}
    assert sorted(await bench.states()) == sorted(expected)


@pytest.mark.parametrize(("queue", "source"), [("unknown", None), ("unknown", "q"), ("q", "unknown")])
async def test_a_redrive_of_an_unknown_queue_is_refused(bench: Bench, queue: str, source: str | None) -> None:
    with pytest.raises(NotFound):
        await redrive(bench, queue, source)


async def test_where_nothing_failed_nothing_is_redriven(bench: Bench) -> None:
    await bench.publish(bench.draft())
    assert await redrive(bench) == []


# -- after a restart ---------------------------------------------------------------------------------------------------


async def test_a_restart_gives_session_leases_back_and_counts_no_failure(bench: Bench) -> None:
    await bench.publish(bench.draft(expires_at=START + 900))
    message = await bench.take_one(lease_ms=None)
    bench.now += 50
    await bench.subject.restart(bench.now)
    back = await bench.stored(message.id)
    assert (back.state, back.attempt, back.failures, back.due_at) == (State.READY, 1, 0, START + 900)
    assert ids(await bench.take()) == [message.id]


async def test_fixed_leases_run_on_over_a_restart(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=100)
    bench.now += 50
    await bench.subject.restart(bench.now)
    assert await bench.stored(message.id) == message
    assert await bench.tick() == Lapsed([], START + 100)


async def test_a_clock_that_was_set_back_makes_no_lease_longer(bench: Bench) -> None:
    await bench.publish(bench.draft())
    message = await bench.take_one(lease_ms=100)
    bench.now -= DAY_MS
    await bench.subject.restart(bench.now)
    assert (await bench.tick()).next_due == bench.now + 100
    assert (await bench.ack(message)).fate is Fate.PROCESSED


async def test_counts_are_right_after_a_restart(bench: Bench) -> None:
    await bench.failed()
    await bench.publish(*bench.drafts(3), bench.draft(available_at=START + 50))
    await bench.ack(await bench.take_one())
    await bench.take_one(lease_ms=None)
    await bench.take_one()
    await bench.subject.restart(bench.now)
    assert await bench.store.depth("q") == Depth(ready=1, delayed=1, leased=1, processed=1, failed=1)
