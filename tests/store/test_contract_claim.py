"""Every engine: who gets what, in which order and how much."""

from __future__ import annotations

import msgspec

from streambroker.core.message import State, Verdict
from streambroker.store.contract import Depth, SaveQueue
from tests.store.subjects import START, Bench, ids


async def test_a_claim_leases_the_message(bench: Bench) -> None:
    draft, claim = bench.draft(), bench.claim(holder="bob", lease_ms=70)
    await bench.publish(draft)
    bench.now += 5
    claim = bench.claim(holder="bob", lease_ms=70)
    (message,) = await bench.apply(claim)
    assert message == await bench.store.get(draft.id)
    assert (message.state, message.attempt, message.failures) == (State.LEASED, 1, 0)
    assert (message.lease, message.holder, message.due_at) == (claim.terms.token, "bob", START + 75)
    assert (message.updated_at, message.created_at) == (START + 5, START)


async def test_an_empty_or_unknown_queue_gives_nothing(bench: Bench) -> None:
    assert await bench.take() == []
    assert await bench.take(queue="unknown") == []


async def test_messages_come_by_priority_and_then_in_publish_order(bench: Bench) -> None:
    drafts = [bench.draft(priority=priority) for priority in (0, 9, 5, 9, 0, 5)]
    for draft in drafts:
        await bench.publish(draft)
    expected = sorted(drafts, key=lambda draft: (-draft.priority, draft.id))
    assert ids(await bench.take(4)) == ids(expected[:4])
    assert ids(await bench.take(4)) == ids(expected[4:])


async def test_a_message_that_comes_back_takes_its_old_place(bench: Bench) -> None:
    drafts = bench.drafts(3)
    await bench.publish(*drafts)
    first = await bench.take_one(lease_ms=10)
    bench.now += 10
    await bench.tick()
    assert ids(await bench.take(3)) == ids(drafts)
    assert first.id == drafts[0].id


async def test_what_is_delayed_leased_processed_or_failed_is_not_claimed(bench: Bench) -> None:
    await bench.failed()
    await bench.publish(bench.draft(), bench.draft(), bench.draft(available_at=START + 1))
    await bench.ack((await bench.take(2))[0])
    assert await bench.take(9) == []
    assert await bench.store.depth("q") == Depth(ready=0, delayed=1, leased=1, processed=1, failed=1)


async def test_a_message_whose_life_is_over_is_not_claimed(bench: Bench) -> None:
    over, alive = bench.draft(expires_at=START + 10), bench.draft(expires_at=START + 11)
    await bench.publish(over, alive)
    bench.now += 10
    assert ids(await bench.take(9)) == [alive.id]


async def test_messages_are_dealt_in_turn_to_those_who_ask_together(bench: Bench) -> None:
    drafts = bench.drafts(7)
    await bench.publish(*drafts)
    got = await bench.turn(*[bench.claim(limit=limit) for limit in (9, 1, 9)])
    order = ids(drafts)
    assert [ids(messages) for messages in got] == [order[0:1] + order[3:7:2], order[1:2], order[2:7:2]]


async def test_few_messages_for_many_go_one_each(bench: Bench) -> None:
    await bench.publish(*bench.drafts(3))
    got = await bench.turn(*[bench.claim(limit=100) for _ in range(5)])
    assert [len(messages) for messages in got] == [1, 1, 1, 0, 0]


async def test_claims_of_several_queues_do_not_touch_each_other(bench: Bench) -> None:
    await bench.queue("other")
    here, there = bench.drafts(2), bench.drafts(2)
    await bench.publish(*here)
    await bench.publish(*there, queue="other")
    got = await bench.turn(bench.claim(limit=5), bench.claim("other", 5), bench.claim(limit=5))
    assert [ids(messages) for messages in got] == [[here[0].id], ids(there), [here[1].id]]


async def test_each_claim_of_a_turn_leases_by_its_own_terms(bench: Bench) -> None:
    await bench.publish(*bench.drafts(2))
    claims = [bench.claim(holder="ann", lease_ms=10), bench.claim(holder="bob", lease_ms=None)]
    (one,), (other,) = await bench.turn(*claims)
    assert (one.lease, one.holder, one.due_at) == claims[0].terms
    assert (other.lease, other.holder, other.due_at) == claims[1].terms
    assert [await bench.store.get(one.id), await bench.store.get(other.id)] == [one, other]


async def test_a_claim_of_nothing_gets_nothing(bench: Bench) -> None:
    await bench.publish(bench.draft())
    assert await bench.take(0) == []


async def test_a_byte_budget_ends_with_the_message_that_exceeds_it(bench: Bench) -> None:
    await bench.publish(*bench.drafts(4, content=b"x" * 100))
    assert len(await bench.take(9, max_bytes=101)) == 2
    assert len(await bench.take(9, max_bytes=100)) == 1


async def test_one_message_always_fits(bench: Bench) -> None:
    await bench.publish(bench.draft(b"x" * 100_000), bench.draft())
    assert len(await bench.take(9, max_bytes=1)) == 1


async def test_a_budget_that_is_used_up_leaves_the_rest_to_the_others(bench: Bench) -> None:
    drafts = bench.drafts(4, content=b"x" * 10)
    await bench.publish(*drafts)
    small, large = await bench.turn(bench.claim(limit=9, max_bytes=10), bench.claim(limit=9))
    assert (ids(small), ids(large)) == ([drafts[0].id], ids(drafts[1:]))


async def test_a_second_delivery_has_a_new_token_and_counts(bench: Bench) -> None:
    await bench.publish(bench.draft())
    first = await bench.take_one(lease_ms=10)
    bench.now += 10
    await bench.tick()
    second = await bench.take_one()
    assert (second.id, second.attempt, second.failures) == (first.id, 2, 1)
    assert second.lease != first.lease
    assert second.verdict is Verdict.NONE


async def test_a_long_backlog_is_claimed_in_pieces_without_loss_or_repetition(bench: Bench) -> None:
    drafts = bench.drafts(300)
    await bench.publish(*drafts)
    got: list[int] = []
    while messages := await bench.take(37):
        got += ids(messages)
    assert got == ids(drafts)


async def test_the_claims_of_one_consumer_in_one_turn_bring_messages_in_order(bench: Bench) -> None:
    drafts = bench.drafts(6)
    await bench.publish(*drafts)
    claims = [msgspec.structs.replace(bench.claim(limit=3), consumer=7) for _ in range(2)]
    assert claims[0].terms.token != claims[1].terms.token
    first, second = await bench.turn(*claims)
    assert ids(first) == ids(drafts[:3])
    assert ids(second) == ids(drafts[3:])


async def test_a_paused_queue_gives_nothing(bench: Bench) -> None:
    await bench.publish(bench.draft())
    queue = (await bench.store.queues())[0]
    await bench.apply(SaveQueue(queue.name, queue.config, True, bench.now))
    assert await bench.take() == []
    answer = await bench.apply(bench.publishing([bench.draft()], claims=[bench.claim(limit=2)]))
    assert [list(got) for got in answer.claimed] == [[]]
    await bench.apply(SaveQueue(queue.name, queue.config, False, bench.now))
    assert len(await bench.take(2)) == 2
