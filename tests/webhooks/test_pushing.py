"""A webhook as a consumer of a broker, in time that nobody waits for; the receiver is a function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from streambroker.core.errors import StorageFull
from streambroker.core.message import Message, State
from streambroker.core.policy import Backoff
from streambroker.store.contract import Settle
from streambroker.store.sql.webhooks import Webhook
from streambroker.transport.webhooks.answers import Answer, Headers
from streambroker.transport.webhooks.pushing import MAX_BYTES, Push
from tests.broker.virtual import clock, in_virtual_time, turns
from tests.broker.world import World, running

TAKEN, REFUSED = Answer("delivered", 1, 204), Answer("refused", 1, 500)
SOON = Backoff("fixed", base_ms=1, jitter=False)
WEBHOOK = Webhook(
    "0" * 24, "q", "admin", None, "http://hooks.test/", (), "whsec_", None, None, None, 10, 10_000, 0, False, False,
    None, None, 0, 0,
)  # fmt: skip


class Receiver:
    """What a webhook's requests come to: `answer`, once `open` is set. `at` tells when each came."""

    def __init__(self) -> None:
        self.answer = TAKEN
        self.fault: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.at: list[int] = []
        self.turn = asyncio.Event()
        self.turn.set()
        self.under_way = 0
        self.may = True
        self.given_up: list[str] = []
        self.turned: list[bool] = []

    async def __call__(
        self, message: Message, body: bytes, headers: Headers, going: Callable[[], bool], /
    ) -> Answer | None:
        await self.turn.wait()
        if not going():
            return None
        self.at.append(clock())
        self.under_way += 1
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        if self.fault is not None:
            raise self.fault
        return self.answer

    async def until(self, count: int) -> None:
        """Until so many requests came."""
        async with asyncio.timeout(86_400):
            while len(self.at) < count:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def pushing(webhook: Webhook = WEBHOOK) -> AsyncIterator[tuple[World, Receiver, Push]]:
    """A broker with a queue that a webhook takes from."""
    async with running() as world:
        await world.queue(backoff=SOON, max_attempts=0)
        receiver = Receiver()

        def given_up(reason: str) -> None:
            receiver.given_up.append(reason)
            push.finish()

        push = Push(
            webhook,
            world.broker,
            receiver,
            may=lambda: receiver.may,
            given_up=given_up,
            turned=lambda: receiver.turned.append(push.circuit.open),
            ended=lambda: None,
        )
        push.start()
        yield world, receiver, push
        await push.abort()


async def settled(world: World, *states: State) -> None:
    """Until the queue's messages stand so."""
    async with asyncio.timeout(60):
        while await world.states() != list(states):
            await asyncio.sleep(0.001)


@in_virtual_time
async def test_what_was_settled_is_no_longer_held() -> None:
    async with pushing() as (world, _, push):
        await world.publish(*[b"1"] * 25)
        await settled(world, *[State.PROCESSED] * 25)
        await turns()
        assert (push.held, push.in_flight) == ({}, 0)


@in_virtual_time
async def test_requests_stay_within_the_concurrency_also_when_a_message_is_deleted_under_way() -> None:
    async with pushing(replace(WEBHOOK, concurrency=2)) as (world, receiver, _):
        receiver.open.clear()
        first, *_ = await world.publish(*[b"1"] * 5)
        await receiver.until(2)
        await world.broker.delete(first)
        await turns()
        assert (receiver.under_way, len(receiver.at)) == (2, 2)
        receiver.open.set()
        await settled(world, *[State.PROCESSED] * 4)


@in_virtual_time
async def test_the_content_under_way_is_bounded_and_one_message_always_fits() -> None:
    async with pushing() as (world, receiver, _):
        receiver.open.clear()
        await world.publish(*[b"x" * (MAX_BYTES // 2 + 1)] * 5)
        await receiver.until(2)
        await turns()
        assert receiver.under_way == 2
        receiver.open.set()
        await settled(world, *[State.PROCESSED] * 5)
        await world.publish(b"x" * (2 * MAX_BYTES))
        await receiver.until(6)


@in_virtual_time
async def test_a_receiver_that_is_down_gets_one_request_after_longer_and_longer_pauses() -> None:
    async with pushing(replace(WEBHOOK, concurrency=1)) as (world, receiver, push):
        receiver.answer = REFUSED
        await world.publish(*[b"1"] * 3)
        await receiver.until(14)
        pauses = [later - sooner for sooner, later in zip(receiver.at[4:], receiver.at[5:], strict=False)]
        # With the chance of 0.5 each pause is three quarters of its longest; a request takes a few milliseconds.
        wanted = [750, 1_500, 3_000, 6_000, 12_000, 24_000, 45_000, 45_000, 45_000]
        assert [round(pause, -2) for pause in pauses] == [round(pause, -2) for pause in wanted]
        assert receiver.turned == [True]
        receiver.answer = TAKEN
        await settled(world, *[State.PROCESSED] * 3)
        assert receiver.turned == [True, False]
        assert push.circuit.failing_since is None


@in_virtual_time
async def test_a_pause_that_the_receiver_asked_for_ends_by_itself() -> None:
    async with pushing() as (world, receiver, _):
        receiver.answer = Answer("refused", 1, 429, retry_after_ms=30_000)
        await world.publish(b"1")
        await receiver.until(1)
        await turns()
        receiver.answer = TAKEN
        await world.publish(b"2")
        await settled(world, State.PROCESSED, State.PROCESSED)
        assert all(at - receiver.at[0] >= 30_000 for at in receiver.at[1:])


@in_virtual_time
async def test_failing_for_a_day_gives_it_up_and_what_failed_waits_in_the_queue() -> None:
    async with pushing(replace(WEBHOOK, disable_after_ms=86_400_000)) as (world, receiver, push):
        receiver.answer = REFUSED
        await world.publish(b"1")
        async with asyncio.timeout(90_000):
            while not receiver.given_up:
                await asyncio.sleep(1)
        assert 86_400_000 <= receiver.at[-1] - receiver.at[0] < 86_500_000
        assert "the receiver answered 500" in receiver.given_up[0]
        await settled(world, State.READY)
        assert push.closed


@in_virtual_time
async def test_what_waits_for_its_turn_goes_back_unseen_when_it_ends() -> None:
    async with pushing() as (world, receiver, push):
        receiver.turn.clear()
        number, *_ = await world.publish(b"1", b"2")
        await turns()
        assert push.in_flight == 2
        push.finish()
        await settled(world, State.READY, State.READY)
        assert (await world.broker.get(number)).attempt == 0
        assert receiver.at == []


@in_virtual_time
async def test_what_may_not_be_sent_any_more_when_its_turn_comes_is_not_sent() -> None:
    async with pushing() as (world, receiver, push):
        receiver.turn.clear()
        number, *_ = await world.publish(b"1")
        await turns()
        receiver.may = False
        receiver.turn.set()
        await turns()
        assert receiver.at == []
        await push.abort()
        assert (await world.broker.get(number)).attempt == 0


@in_virtual_time
async def test_what_was_deleted_before_its_turn_came_is_not_sent() -> None:
    async with pushing() as (world, receiver, _):
        receiver.turn.clear()
        number, *_ = await world.publish(b"1")
        await turns()
        await world.broker.delete(number)
        receiver.turn.set()
        await turns()
        assert receiver.at == []


@in_virtual_time
async def test_an_end_breaks_off_and_gives_back_what_counts_no_failure() -> None:
    async with pushing() as (world, receiver, push):
        receiver.open.clear()
        number, *_ = await world.publish(b"1")
        await receiver.until(1)
        await push.abort()
        message = await world.broker.get(number)
        assert (message.state, message.attempt, message.failures) == (State.READY, 1, 0)
        assert world.broker.consumers("q") == 0


@in_virtual_time
async def test_a_verdict_that_the_store_refuses_is_given_again() -> None:
    async with pushing() as (world, receiver, push):
        receiver.open.clear()
        await world.publish(b"1")
        await receiver.until(1)
        world.engine.refuse(Settle, 3, StorageFull("the disk has no room"))
        receiver.open.set()
        await settled(world, State.PROCESSED)
        assert len(receiver.at) == 1
        assert world.engine.refusals_left == 0
        await turns()
        assert push.held == {}


@in_virtual_time
async def test_the_next_request_does_not_wait_for_the_commit_of_the_last_ones_and_yet_few_are_unsettled() -> None:
    async with pushing(replace(WEBHOOK, concurrency=1)) as (world, receiver, push):
        receiver.open.clear()
        await world.publish(*[b"1"] * 20)
        await receiver.until(1)
        world.engine.refuse(Settle, 10, StorageFull("the disk has no room"))
        receiver.open.set()
        await receiver.until(4)
        await turns()
        assert (len(receiver.at), push.in_flight) == (4, 4)
        await settled(world, *[State.PROCESSED] * 20)
        assert len(receiver.at) == 20


@in_virtual_time
async def test_a_fault_of_our_own_is_a_failure_and_holds_no_message_for_ever() -> None:
    async with pushing() as (world, receiver, push):
        receiver.fault = RuntimeError("a fault of the test's")
        (number,) = await world.publish(b"1")
        await receiver.until(1)
        receiver.fault = None
        await settled(world, State.PROCESSED)
        message = await world.broker.get(number)
        assert (message.attempt, message.failures, push.held) == (2, 1, {})


@in_virtual_time
async def test_a_webhook_and_another_consumer_share_a_queue() -> None:
    async with pushing(replace(WEBHOOK, concurrency=1)) as (world, receiver, _):
        receiver.open.clear()
        await world.publish(b"1", b"2")
        await receiver.until(1)
        assert len(await world.take(limit=5)) == 1
