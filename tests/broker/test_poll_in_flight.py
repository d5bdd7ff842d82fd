"""A poll whose wait ends while a claim for it is on its way."""

from __future__ import annotations

import asyncio

from streambroker.broker.poll import Poll
from streambroker.core.message import Message, State, Verdict


def message() -> Message:
    return Message(
        1, "q", State.LEASED, 1, 0, None, 0, 0, None, None, "t", "ann", Verdict.NONE, None, None, 0, 0, None, None, b"1"
    )  # fmt: skip


async def test_a_poll_waits_for_the_claim_on_its_way_and_takes_what_it_brings() -> None:
    poll = Poll("ann", 1, None)
    poll.reserve(1, 100)
    waiting = asyncio.ensure_future(poll.claimed())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert poll.deliver(1, 100, [message()]) == []
    await waiting
    assert [one.id for one in poll.arrived.result()] == [1]


async def test_a_poll_without_a_claim_on_its_way_does_not_wait() -> None:
    poll = Poll("ann", 1, None)
    await poll.claimed()
    poll.reserve(1, 100)
    assert poll.deliver(1, 100, []) == []
    await poll.claimed()
    assert not poll.arrived.done()
