"""Who gets what: in turn, one claim at a time, and no wake-up between looking and waiting is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streambroker.broker.dispatcher import CLAIM_ALL, CLAIM_EACH, Dispatcher, Served, Tokens
from streambroker.broker.poll import Poll
from streambroker.core.message import Message
from streambroker.core.policy import QueueConfig
from streambroker.protocol.session import Subscription
from streambroker.store.contract import Claim, Queue
from tests.broker.subscriptions import Basket, message, subscription
from tests.broker.virtual import clock, in_virtual_time
from tests.store.subjects import START

QUEUE = Queue("q", QueueConfig(), False, START)


class Desk:
    """A dispatcher whose claims a test answers by hand."""

    def __init__(self) -> None:
        self.basket = Basket()
        self.waiting: list[tuple[Sequence[Claim], Served]] = []
        self.released: list[Message] = []
        self.dispatcher = Dispatcher(QUEUE, clock, Tokens(), self._claim, self.released.extend)

    def _claim(self, dispatcher: Dispatcher, claims: Sequence[Claim], served: Served) -> None:
        assert dispatcher is self.dispatcher
        self.waiting.append((claims, served))

    def subscribe(self, credit: int = 100) -> Subscription:
        one = subscription(credit, owner=self.basket)
        self.dispatcher.add(one)
        return one

    @property
    def limits(self) -> list[int]:
        """What is claimed for each consumer by the one claim that is on its way."""
        ((claims, _),) = self.waiting
        return [claim.limit for claim in claims]

    def answer(self, *counts: int) -> list[list[Message]]:
        """The claim on its way brought so many messages for each consumer."""
        ((claims, served),) = self.waiting
        self.waiting.clear()
        got = [[message() for _ in range(count)] for count in counts]
        assert len(got) == len(claims)
        served(got)
        return got

    def find_nothing(self) -> None:
        """The queue is empty, and all who are there have seen that."""
        while self.waiting:
            self.answer(*[0] * len(self.limits))


@in_virtual_time
async def test_one_who_comes_is_served_from_the_backlog() -> None:
    desk = Desk()
    one = desk.subscribe(3)
    assert desk.limits == [3]
    ((first, second),) = desk.answer(2)
    assert desk.basket.of(one) == [first.id, second.id]
    assert desk.waiting == []  # the queue was empty: nobody looks again without a wake-up


@in_virtual_time
async def test_there_is_one_claim_on_its_way_at_a_time() -> None:
    desk = Desk()
    desk.subscribe(3)
    for _ in range(5):
        desk.subscribe(2)
        desk.dispatcher.wake()
        desk.dispatcher.pump()
    assert desk.limits == [3]
    desk.answer(3)
    assert desk.limits == [2] * 5


@in_virtual_time
async def test_a_wake_up_during_a_claim_that_finds_nothing_leads_to_another_claim() -> None:
    desk = Desk()
    desk.subscribe()
    desk.dispatcher.wake()
    desk.answer(0)
    assert desk.limits == [100]
    desk.answer(0)
    assert desk.waiting == []
    desk.dispatcher.wake()
    assert desk.limits == [100]


@in_virtual_time
async def test_a_wake_up_while_nobody_is_hungry_is_kept_for_the_next_who_comes() -> None:
    desk = Desk()
    one = desk.subscribe(1)
    desk.answer(0)
    desk.dispatcher.remove(one)
    desk.dispatcher.wake()
    assert desk.waiting == []
    desk.subscribe(1)
    assert desk.limits == [1]


@in_virtual_time
async def test_where_everybody_got_all_there_was_room_for_more_is_claimed() -> None:
    desk = Desk()
    one = desk.subscribe(2)
    desk.answer(2)
    assert desk.waiting == []  # it has no credit left
    one.held.popitem()
    desk.dispatcher.feed(one)
    assert desk.limits == [1]


@in_virtual_time
async def test_a_claim_that_was_full_by_its_bytes_is_followed_by_another() -> None:
    desk = Desk()
    one = desk.subscribe(10)
    ((claims, served),) = desk.waiting
    desk.waiting.clear()
    served([[message(b"x" * claims[0].max_bytes)]])
    assert one.unsent == 0  # in the hands of the owner, who has sent it
    assert desk.limits == [9]


@in_virtual_time
async def test_equal_consumers_have_equal_shares_of_what_is_published() -> None:
    desk = Desk()
    all_ = [desk.subscribe() for _ in range(4)]
    desk.find_nothing()
    desk.dispatcher.wake()
    desk.find_nothing()
    given: dict[Subscription, int] = dict.fromkeys(all_, 0)
    for _ in range(40):
        reservations, claims = desk.dispatcher.reserve(1, 1, clock())
        ((consumer, count, _),) = reservations
        assert count == claims[0].limit == 1
        assert isinstance(consumer, Subscription)
        given[consumer] += 1
        desk.dispatcher.served(reservations, [[message()]])
    assert list(given.values()) == [10] * 4


@in_virtual_time
async def test_a_batch_is_shared_by_all_who_wait_and_the_rest_goes_to_those_who_can_take_more() -> None:
    desk = Desk()
    small, big = desk.subscribe(1), desk.subscribe(100)
    desk.find_nothing()
    reservations, _ = desk.dispatcher.reserve(10, 10, clock())
    taken = {small: 0, big: 0}
    for consumer, count, _ in reservations:
        assert isinstance(consumer, Subscription)
        taken[consumer] += count
    assert taken == {small: 1, big: 9}


@in_virtual_time
async def test_a_claim_of_the_backlog_is_bounded_for_one_and_for_all() -> None:
    desk = Desk()
    desk.subscribe(10_000)
    assert desk.limits == [CLAIM_EACH]
    for _ in range(9):
        desk.subscribe(10_000)
    desk.answer(CLAIM_EACH)
    assert len(desk.limits) == 10
    assert sum(desk.limits) == CLAIM_ALL
    assert max(desk.limits) - min(desk.limits) <= 1


@in_virtual_time
async def test_one_whose_claim_is_on_its_way_does_not_stand_in_line_for_what_is_published_meanwhile() -> None:
    desk = Desk()
    one = desk.subscribe(10)
    desk.dispatcher.feed(one)
    assert desk.dispatcher.reserve(1, 1, clock()) == ([], [])
    desk.answer(1)
    assert len(desk.dispatcher.reserve(1, 1, clock())[1]) == 1


@in_virtual_time
async def test_what_comes_for_one_who_has_left_is_released() -> None:
    desk = Desk()
    one = desk.subscribe()
    one.closed = True
    desk.dispatcher.remove(one)
    (messages,) = desk.answer(2)
    assert desk.released == messages
    assert one.held == {}
    assert desk.dispatcher.consumers == set()
    desk.dispatcher.feed(one)
    desk.dispatcher.wake()
    assert desk.waiting == []


@in_virtual_time
async def test_a_poll_on_two_queues_takes_from_one_and_what_the_other_brings_is_released() -> None:
    first, second = Desk(), Desk()
    poll = Poll("ann", 5, None)
    poll.lines = (first.dispatcher, second.dispatcher)
    for desk in (first, second):
        desk.dispatcher.add(poll)
    assert first.limits == [5]
    assert second.waiting == []  # one claim at a time
    first.answer(0)
    assert second.limits == [5]
    (messages,) = second.answer(1)
    assert poll.arrived.result() == messages
    assert poll.wants() == (0, 0)
    first.dispatcher.wake()
    assert first.waiting == []


@in_virtual_time
async def test_a_poll_that_was_closed_gives_back_what_is_claimed_for_it() -> None:
    desk = Desk()
    poll = Poll("ann", 5, None)
    desk.dispatcher.add(poll)
    assert poll.close() == []
    (messages,) = desk.answer(1)
    assert desk.released == messages


@in_virtual_time
async def test_a_paused_queue_delivers_nothing_until_it_is_resumed() -> None:
    desk = Desk()
    desk.dispatcher.configure(Queue("q", QueueConfig(), True, START))
    desk.subscribe()
    desk.dispatcher.wake()
    assert desk.waiting == []
    assert desk.dispatcher.reserve(1, 1, clock()) == ([], [])
    desk.dispatcher.configure(QUEUE)
    assert desk.limits == [100]


@in_virtual_time
async def test_a_stopped_dispatcher_delivers_nothing_more() -> None:
    desk = Desk()
    one = desk.subscribe()
    desk.answer(0)
    desk.dispatcher.stop()
    desk.dispatcher.wake()
    assert desk.waiting == []
    assert desk.dispatcher.reserve(1, 1, clock()) == ([], [])
    assert desk.dispatcher.reserve_for(one) == ([], [])


@in_virtual_time
async def test_claims_carry_the_terms_of_the_queue_as_it_is_now() -> None:
    desk = Desk()
    desk.dispatcher.configure(Queue("q", QueueConfig(lease_ms=777), False, START))
    poll = Poll("ann", 5, None)
    desk.dispatcher.add(poll)
    ((claims, _),) = desk.waiting
    assert (claims[0].terms.holder, claims[0].terms.until) == ("ann", clock() + 777)


# -- tokens


@in_virtual_time
async def test_a_token_is_one_consumers_for_one_turn_of_the_loop() -> None:
    tokens = Tokens()
    one, other = subscription(), subscription()
    first = tokens.of(one)
    assert tokens.of(one) == first
    assert tokens.of(other) != first
    await asyncio.sleep(0)
    assert tokens.of(one) != first


@in_virtual_time
async def test_tokens_have_128_bits_and_never_come_again() -> None:
    tokens = Tokens()
    seen = set()
    consumers = [subscription() for _ in range(100)]
    for _ in range(10):  # more than are fetched at once
        seen |= {tokens.of(consumer) for consumer in consumers}
        await asyncio.sleep(0)
    assert len(seen) == 1_000
    assert all(len(token) == 32 and int(token, 16) >= 0 for token in seen)
