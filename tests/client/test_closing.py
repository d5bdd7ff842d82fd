"""How a client ends, and what it gives up."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from streambroker.client import (
    Client,
    ConnectionLost,
    Message,
    StreambrokerError,
    StreambrokerTimeout,
)
from tests.client.scripted import (
    Conversation,
    ScriptedBroker,
    Waits,
    client_of,
    subscribed,
)


async def test_closing_waits_for_acks_to_be_confirmed(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        ack = await conversation.hear("ack")
        unsubscribe = await conversation.hear("unsubscribe")
        await conversation.grant(unsubscribe)
        await asyncio.sleep(0.05)
        await conversation.grant(ack, results=[{"message_id": "m1", "ok": True}])
        await conversation.ended()

    async with ScriptedBroker(script) as broker:
        client = client_of(broker, waits)
        message = await client.subscribe("q").take()
        told = message.ack()
        await client.close()
        await told


async def test_closing_does_not_wait_for_ever(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with ScriptedBroker(script, lambda path, body: httpx.Response(503)) as broker:
        client = client_of(broker, waits, close_timeout=0.05)
        message = await client.subscribe("q").take()
        told = message.ack()
        pending = asyncio.create_task(client.publish("q", "x"))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ConnectionLost):
            await told
        with pytest.raises(ConnectionLost):
            await pending
        with pytest.raises(StreambrokerError, match="closed"):
            await client.publish("q", "x")


async def test_an_ack_that_nobody_confirms_is_given_up_after_its_time(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1", "m2")
        await conversation.ended()

    async with (
        ScriptedBroker(script) as broker,
        client_of(broker, waits, settle_timeout=0.1, close_timeout=0.1) as client,
    ):
        consumption = client.subscribe("q")
        one, two = await consumption.take(), await consumption.take()
        with pytest.raises(StreambrokerTimeout):
            await one.ack(timeout=0.02)
        with pytest.raises(StreambrokerTimeout):
            await two.ack()


async def test_an_ack_that_was_cancelled_can_be_asked_for_again(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        ack = await conversation.hear("ack")
        await conversation.grant(ack, results=[{"message_id": "m1", "ok": True}])
        await conversation.ended()

    async def acked(message: Message) -> None:
        await message.ack()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        message = await client.subscribe("q").take()
        task = asyncio.create_task(acked(message))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await message.ack()
    assert [path for path, _ in broker.calls] == ["/messages/ack"]


async def test_closing_tells_a_publish_that_waits_to_be_tried_again(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.refuse(await conversation.hear("publish"), "overloaded", 503, retry_after_ms=3_600_000)
        refused.set()
        await conversation.grant_publish(await conversation.hear("publish"))
        await conversation.ended()

    refused = asyncio.Event()
    async with ScriptedBroker(script) as broker, asyncio.timeout(40):
        client = client_of(broker, waits)
        publish = asyncio.create_task(client.publish("q", "x", timeout=None))
        await refused.wait()
        await client.publish("q", "y")  # its answer comes after the refusal
        await client.close()
        with pytest.raises(ConnectionLost, match="closed"):
            await publish


async def test_closing_tells_a_publish_that_is_on_its_way_over_rest(waits: Waits) -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def script(conversation: Conversation) -> None:
        await conversation.ended()

    asked = asyncio.Event()
    async with ScriptedBroker(script) as broker, asyncio.timeout(40):
        client = Client(broker.url, token="t", transport=Silent(), environment={})
        publish = asyncio.create_task(client.publish("q", "x" * 2_000_000, timeout=None))
        await asked.wait()
        await client.close()
        with pytest.raises(ConnectionLost, match="closed"):
            await publish


async def test_an_ack_after_the_end_is_refused_at_once(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with ScriptedBroker(script) as broker, asyncio.timeout(40):
        client = client_of(broker, waits)
        message = await client.subscribe("q").take()
        await client.close()
        with pytest.raises(ConnectionLost, match="closed"):
            await message.ack()
