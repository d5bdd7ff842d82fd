"""What becomes of publishes when the connection ends, and when the broker refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streambroker.client import (
    Client,
    QueueFull,
    Reconnecting,
    StreambrokerTimeout,
)
from tests.client.scripted import (
    Conversation,
    ScriptedBroker,
    Waits,
    client_of,
)


async def test_a_publish_that_was_not_confirmed_is_sent_again_as_it_was_under_the_same_key(waits: Waits) -> None:
    sent: list[Any] = []

    async def script(conversation: Conversation) -> None:
        frame = await conversation.hear("publish")
        sent.append((frame["idempotency_key"], frame["messages"]))
        if conversation.number == 1:
            conversation.cut()
        else:
            await conversation.grant_publish(frame)
            await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        published = await asyncio.gather(client.publish("q", "a"), client.publish("q", "b"))
    assert [one.message_id for one in published] == ["a", "b"]
    assert sent[0] == sent[1]
    assert sent[0][0]


async def test_publishes_that_wait_together_go_out_in_one_request(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.grant_publish(await conversation.hear("publish"))
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        published = await asyncio.gather(*(client.publish("q", number) for number in range(200)))
        assert [one.message_id for one in published] == [str(number) for number in range(200)]
        assert len(broker.conversations[0].messages) == 1


async def test_requests_that_were_not_confirmed_keep_their_order(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await conversation.hear("publish")
            await conversation.hear("publish")
            conversation.cut()
            return
        for _ in range(2):
            frame = await conversation.hear("publish")
            order.extend(one["content"] for one in frame["messages"])
            await conversation.grant_publish(frame)
        await conversation.ended()

    order: list[Any] = []
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        await asyncio.gather(*(client.publish("q", number) for number in range(1_500)))
    assert order == list(range(1_500))


async def test_one_publish_that_is_refused_does_no_harm_to_those_sent_with_it(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.refuse(await conversation.hear("publish"), "invalid", 422)
        for _ in range(3):
            frame = await conversation.hear("publish")
            if frame["messages"][0]["content"] == "bad":
                await conversation.refuse(frame, "queue_full", 507)
            else:
                await conversation.grant_publish(frame)
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        tasks = [client.publish("q", content) for content in ("one", "bad", "two")]
        one, bad, two = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(bad, QueueFull)
    assert [getattr(stored, "message_id", None) for stored in (one, two)] == ["one", "two"]


async def test_an_overloaded_broker_is_asked_again(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        frame = await conversation.hear("publish")
        await conversation.refuse(frame, "overloaded", 503, retryable=True, retry_after_ms=1)
        again = await conversation.hear("publish")
        assert again["idempotency_key"] == frame["idempotency_key"]
        await conversation.grant_publish(again)
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        assert (await client.publish("q", "x")).message_id == "x"


async def test_nothing_is_published_to_a_broker_that_drains(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await conversation.grant_publish(await conversation.hear("publish"))
            await conversation.say({"op": "draining", "deadline_ms": 10_000}, {"op": "ok", "id": 999})
            drains.set()
            await told.wait()
            await conversation.close(4503)
        else:
            await conversation.grant_publish(await conversation.hear("publish"))
            await conversation.ended()

    drains, told = asyncio.Event(), asyncio.Event()
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        await client.publish("q", "before")
        await drains.wait()
        async with asyncio.TaskGroup() as tasks:
            later = tasks.create_task(client.publish("q", "after"))
            await asyncio.sleep(0)
            told.set()
        assert later.result().message_id == "after"
        assert [len(one.messages) for one in broker.conversations] == [1, 1]


async def test_a_publish_that_is_never_confirmed_ends_with_its_time(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        with pytest.raises(StreambrokerTimeout) as late:
            await client.publish("q", "x", timeout=0.05)
    assert late.value.outcome_unknown


async def test_a_time_out_says_why_there_is_no_connection(waits: Waits) -> None:
    async with ScriptedBroker(lambda _: asyncio.sleep(0)) as broker:
        url = broker.url
    async with Client(url, token="t", reconnecting=Reconnecting(sleep=lambda _: asyncio.sleep(0.01))) as client:
        with pytest.raises(StreambrokerTimeout, match="cannot connect"):
            await client.publish("q", "x", timeout=0.1)


async def test_a_publish_that_is_cancelled_before_it_was_sent_is_not_sent(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        frame = await conversation.hear("publish")
        assert [one["content"] for one in frame["messages"]] == ["wanted"]
        await conversation.grant_publish(frame)
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        unwanted = asyncio.create_task(client.publish("q", "unwanted"))
        wanted = asyncio.create_task(client.publish("q", "wanted"))
        await asyncio.sleep(0)
        unwanted.cancel()
        await wanted
        with pytest.raises(asyncio.CancelledError):
            await unwanted
