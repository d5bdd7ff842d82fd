"""What the SDK does after each close code, and with a token that ends."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection, serve

from streambroker.client import (
    Client,
    Forbidden,
    Malformed,
    NotFound,
    ProtocolError,
    StreambrokerError,
    Unauthenticated,
)
from tests.client.scripted import (
    Conversation,
    ScriptedBroker,
    Waits,
    client_of,
    delivered,
    logins,
    subscribed,
)


@pytest.mark.parametrize(
    ("code", "error"), [(4401, Unauthenticated), (4403, Forbidden), (4404, NotFound), (4400, Malformed)]
)
async def test_a_final_close_code_is_raised_in_the_consumer(
    waits: Waits, code: int, error: type[StreambrokerError]
) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation)
        await conversation.close(code, "the reason")

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        with pytest.raises(error, match="the reason"):
            await anext(client.consume("q"))
    assert len(broker.conversations) == 1 and waits.seconds == []


@pytest.mark.parametrize("code", [1001, 4408, 4413, 4500, 4503, 4508, 4509, None])
async def test_after_any_other_end_it_comes_back_with_growing_waits(waits: Waits, code: int | None) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 4:
            await subscribed(conversation, "m1")
            await conversation.ended()
        elif code is None:
            conversation.cut()
        else:
            await conversation.close(code)

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        assert (await anext(client.consume("q"))).message_id == "m1"
    assert waits.seconds == [0.1, 0.2, 0.4]


async def test_the_waits_begin_anew_once_the_broker_has_granted_something(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number in (1, 2):
            conversation.cut()
        elif conversation.number == 3:
            await subscribed(conversation, "m1")
            await taken.wait()
            conversation.cut()
        else:
            await subscribed(conversation, "m2")
            await conversation.ended()

    taken = asyncio.Event()
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        consumption = client.subscribe("q")
        await consumption.take()
        taken.set()
        await consumption.take()
    assert waits.seconds == [0.1, 0.2, 0.1]


async def test_too_many_is_met_with_patience(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await conversation.close(4429, "too many")
        else:
            await subscribed(conversation, "m1")
            await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        await anext(client.consume("q"))
    assert len(waits.seconds) == 1 and waits.seconds[0] >= 5


async def test_an_upgrade_that_is_refused_for_now_is_tried_again(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        broker.refusals = [503, 502, 429]
        await anext(client.consume("q"))
    assert len(waits.seconds) == 3


async def test_an_upgrade_that_is_refused_for_good_fails_the_publish(waits: Waits) -> None:
    async with ScriptedBroker(lambda _: asyncio.sleep(0)) as broker, client_of(broker, waits) as client:
        broker.refusals = [401]
        with pytest.raises(Unauthenticated):
            await client.publish("q", "x")


async def test_after_it_gave_up_the_next_call_tries_anew(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.grant_publish(await conversation.hear("publish"))
        await conversation.ended()

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        broker.refusals = [403]
        with pytest.raises(Forbidden):
            await client.publish("q", "x")
        assert (await client.publish("q", "y")).message_id == "y"


async def test_something_that_is_no_broker_is_said_to_be_none(waits: Waits) -> None:
    async def stranger(socket: ServerConnection) -> None:
        await socket.send('{"hello": "world"}')
        await socket.wait_closed()

    async with serve(stranger, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", token="t", environment={}) as client:
            with pytest.raises(ProtocolError):
                await client.publish("q", "x")


# -- tokens ---------------------------------------------------------------------------------------------------------


async def test_an_expired_token_is_renewed_and_the_connection_comes_back_at_once(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await conversation.close(4450, "the token expired")
        else:
            await subscribed(conversation, "m1")
            await conversation.ended()

    async with ScriptedBroker(script, logins) as broker, client_of(broker, waits, username="u", password="p") as client:
        await anext(client.consume("q"))
        assert [one.token for one in broker.conversations] == ["access-0", "access-1"]
    assert waits.seconds == []


async def test_an_expired_token_that_cannot_be_renewed_is_raised(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.close(4450, "the token expired")

    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        with pytest.raises(Unauthenticated, match="expired"):
            await anext(client.consume("q"))


async def test_a_token_about_to_expire_is_replaced_on_the_open_connection(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.grant(await conversation.hear("subscribe"))
        await conversation.say({"op": "expiring", "expires_in": 60})
        frame = await conversation.hear("refresh")
        await conversation.grant(frame)
        shown.append(frame["token"])
        await conversation.say({"op": "deliver", "sub": "q", "messages": [delivered("m1")]})
        await conversation.ended()

    shown: list[str] = []
    async with ScriptedBroker(script, logins) as broker, client_of(broker, waits, username="u", password="p") as client:
        await anext(client.consume("q"))
        assert len(broker.conversations) == 1
    assert shown == ["access-1"]


async def test_a_token_refused_at_the_upgrade_is_renewed_once(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with ScriptedBroker(script, logins) as broker, client_of(broker, waits, username="u", password="p") as client:
        broker.refusals = [401]
        await anext(client.consume("q"))
        assert broker.conversations[0].token == "access-1"


async def test_a_websocket_that_is_led_elsewhere_goes_nowhere(waits: Waits) -> None:
    """Whoever it led to could give out messages, take publishes, and ask for a newer token."""

    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with ScriptedBroker(script) as elsewhere, ScriptedBroker(script) as broker:
        broker.leads_to = elsewhere.url.replace("http", "ws") + "/ws"
        async with client_of(broker, waits) as client:
            with pytest.raises(ProtocolError, match="leads elsewhere"):
                await anext(client.consume("q"))
    assert elsewhere.conversations == [] and waits.seconds == []
