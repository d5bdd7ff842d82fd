"""What becomes of messages and settles when the connection ends."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from streambroker.client import (
    LeaseLost,
)
from tests.client.scripted import (
    Conversation,
    ScriptedBroker,
    Waits,
    all_granted,
    client_of,
    delivered,
    subscribed,
)


async def test_a_consumer_subscribes_again_and_drops_what_was_given_back(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await subscribed(conversation, "m1", "m2")
            await taken.wait()
            conversation.cut()
        else:
            await subscribed(conversation, "m2", attempt=2)
            await conversation.ended()

    taken = asyncio.Event()
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        seen: list[tuple[str, int]] = []
        async for message in client.consume("q", credit=5):
            seen.append((message.message_id, message.attempt))
            if len(seen) == 1:
                taken.set()
                while len(broker.conversations) == 1:
                    await asyncio.sleep(0.001)
            elif len(seen) == 2:
                break
    assert seen == [("m1", 1), ("m2", 2)]


async def test_acks_of_one_turn_go_out_in_one_frame_and_return_when_confirmed(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1", "m2", "m3")
        frame = await conversation.hear("ack")
        assert frame["ids"] == ["m1", "m2", "m3"]
        await confirmed.wait()
        await conversation.grant(
            frame,
            results=[
                {"message_id": one, "ok": one != "m2", "code": None if one != "m2" else "lease_lost"}
                for one in frame["ids"]
            ],
        )
        await conversation.hear("unsubscribe")
        await conversation.ended()

    confirmed = asyncio.Event()
    async with ScriptedBroker(script) as broker, client_of(broker, waits, close_timeout=0.2) as client:
        consumption = client.subscribe("q")
        messages = [await consumption.take() for _ in range(3)]
        acks = [message.ack() for message in messages]
        await asyncio.sleep(0.01)
        assert not any(ack.done() for ack in acks)
        confirmed.set()
        first, second, third = await asyncio.gather(*acks, return_exceptions=True)
    assert first is None and third is None
    assert isinstance(second, LeaseLost)
    assert messages[1].is_lost and messages[1].lost.is_set()


async def test_an_ack_that_was_not_confirmed_is_sent_again_by_its_lease_before_anybody_subscribes(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await subscribed(conversation, "m1")
            await conversation.hear("ack")
            conversation.cut()
        else:
            calls_before.extend(broker.calls)
            await subscribed(conversation)
            await conversation.ended()

    calls_before: list[Any] = []
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        consumption = client.subscribe("q")
        message = await consumption.take()
        await message.ack()
        while len(broker.conversations) < 2:
            await asyncio.sleep(0.001)
    assert calls_before == [("/messages/ack", {"items": [{"message_id": "m1", "lease": "lease-m1-1"}]})]


async def test_a_settle_that_the_broker_cannot_take_now_is_tried_until_it_can(waits: Waits) -> None:
    refusals = 6

    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await subscribed(conversation, "m1")
            await taken.wait()
            await conversation.close(4503)
        await conversation.ended()

    def rest(path: str, body: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            return httpx.Response(503)
        return all_granted(path, body)

    taken = asyncio.Event()
    async with ScriptedBroker(script, rest) as broker, client_of(broker, waits) as client:
        message = await client.subscribe("q").take()
        taken.set()
        while message.held_by is not None:
            await asyncio.sleep(0.001)
        await message.nack(reason="busy", delay_ms=5)
    item = {"message_id": "m1", "lease": "lease-m1-1", "requeue": True, "delay_ms": 5, "reason": "busy"}
    assert broker.calls[-1] == ("/messages/nack", {"items": [item]})


@pytest.mark.parametrize(("verdict", "code", "done"), [("ack", "lease_lost", False), ("ack", "not_found", True), ("nack", "lease_lost", True), ("reject", "lease_lost", False)])  # fmt: skip  # noqa: E501
async def test_the_answer_to_a_repeated_settle_is_read_with_its_first_try_in_mind(
    waits: Waits, verdict: str, code: str, done: bool
) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await subscribed(conversation, "m1")
            await conversation.listen()
            conversation.cut()
        else:
            await conversation.ended()

    def rest(path: str, body: Any) -> Any:
        return {"results": [{"message_id": "m1", "ok": False, "code": code}]}

    async with ScriptedBroker(script, rest) as broker, client_of(broker, waits) as client:
        message = await client.subscribe("q").take()
        told = message.ack() if verdict == "ack" else message.nack(requeue=verdict == "nack")
        if done:
            await told
        else:
            with pytest.raises(LeaseLost):
                await told


async def test_a_newer_delivery_of_a_message_in_hand_means_that_the_older_one_is_lost(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1", attempt=conversation.number)
        if conversation.number == 1:
            await taken.wait()
            conversation.cut()
        else:
            await conversation.ended()

    taken = asyncio.Event()
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        consumption = client.subscribe("q")
        older = await consumption.take()
        taken.set()
        newer = await consumption.take()
        assert (older.is_lost, newer.is_lost) == (True, False)
        assert older.lost.is_set()


async def test_a_lost_lease_is_told_and_what_was_not_handed_out_never_is(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1", "m2", "m3")
        await taken.wait()
        await conversation.say({"op": "lease_lost", "sub": "q", "ids": ["m1", "m2"], "reason": "deleted"})
        await conversation.ended()

    taken = asyncio.Event()
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        consumption = client.subscribe("q")
        first = await consumption.take()
        taken.set()
        await first.lost.wait()
        assert (await consumption.take()).message_id == "m3"


async def test_fixed_leases_outlive_the_connection_and_are_handed_out_before_new_ones(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await subscribed(conversation, "m1", "m2")
            await taken.wait()
            await conversation.close(4503)
        else:
            await subscribed(conversation, "m3")
            await conversation.ended()

    taken = asyncio.Event()
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        consumption = client.subscribe("q", lease_mode="fixed", lease_ms=60_000)
        seen = [await consumption.take()]
        taken.set()
        while seen[0].held_by is not None:
            await asyncio.sleep(0.001)
        seen += [await consumption.take(), await consumption.take()]
        await seen[1].ack()
    assert [message.message_id for message in seen] == ["m1", "m2", "m3"]
    assert broker.calls == [("/messages/ack", {"items": [{"message_id": "m2", "lease": "lease-m2-1"}]})]


async def test_leaving_the_loop_unsubscribes_after_the_acks_that_are_on_their_way(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1", "m2")
        ack = await conversation.hear("ack")
        await conversation.grant(ack, results=[{"message_id": "m1", "ok": True}])
        await conversation.grant(await conversation.hear("unsubscribe"))
        assert await conversation.ended() == 1000
        ended.set()

    ended = asyncio.Event()
    async with ScriptedBroker(script) as broker:
        async with client_of(broker, waits) as client:
            stream = client.consume("q")
            message = await anext(stream)
            told = message.ack()
            await stream.aclose()
            await told
        await ended.wait()


async def test_two_consumers_of_one_queue_share_a_connection(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        names = [(await conversation.hear("subscribe")) for _ in range(2)]
        for index, frame in enumerate(names):
            await conversation.grant(frame)
            await conversation.say({"op": "deliver", "sub": frame["sub"], "messages": [delivered(f"m{index}")]})
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        one, two = client.subscribe("q"), client.subscribe("q")
        assert [(await one.take()).message_id, (await two.take()).message_id] == ["m0", "m1"]
        assert len(broker.conversations) == 1


async def test_a_consumer_that_has_enough_is_not_subscribed_anew(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await subscribed(conversation, "m1")
            await conversation.grant(await conversation.hear("pause"))
            await conversation.hear("publish")
            conversation.cut()
        else:
            await conversation.grant_publish(await conversation.hear("publish"))
            await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        consumption = client.subscribe("q")
        await consumption.take()
        await consumption.pause()
        await client.publish("q", "x")
        await consumption.close()
