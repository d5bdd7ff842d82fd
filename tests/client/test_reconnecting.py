"""What the SDK does when the connection ends: with each close code, with what was not confirmed, with its token."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from streambroker.client import (
    Client,
    ConnectionLost,
    Forbidden,
    LeaseLost,
    Malformed,
    Message,
    NotFound,
    ProtocolError,
    QueueFull,
    Reconnecting,
    StreambrokerError,
    StreambrokerTimeout,
    Unauthenticated,
)
from tests.client.scripted import Conversation, Rest, Script, ScriptedBroker, all_granted, delivered


class Waits:
    """Stands in for time: notes how long each wait would have been, and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def waits() -> Waits:
    return Waits()


def scripted(script: Script, rest: Rest | None = all_granted) -> ScriptedBroker:
    return ScriptedBroker(script, rest)


def client_of(broker: ScriptedBroker, waits: Waits, **options: Any) -> Client:
    who = {} if "username" in options else {"token": "the-token"}
    return Client(
        broker.url,
        transport=broker.transport,
        reconnecting=Reconnecting(chance=lambda: 1.0, sleep=waits),
        environment={},
        **{**who, **options},
    )


# -- publishing --------------------------------------------------------------------------------------------------------


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

    async with scripted(script) as broker, client_of(broker, waits) as client:
        published = await asyncio.gather(client.publish("q", "a"), client.publish("q", "b"))
    assert [one.message_id for one in published] == ["a", "b"]
    assert sent[0] == sent[1]
    assert sent[0][0]


async def test_publishes_that_wait_together_go_out_in_one_request(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.grant_publish(await conversation.hear("publish"))
        await conversation.ended()

    async with scripted(script) as broker, client_of(broker, waits) as client:
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
    async with scripted(script) as broker, client_of(broker, waits) as client:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
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
    async with scripted(script) as broker, client_of(broker, waits) as client:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
        with pytest.raises(StreambrokerTimeout) as late:
            await client.publish("q", "x", timeout=0.05)
    assert late.value.outcome_unknown


async def test_a_time_out_says_why_there_is_no_connection(waits: Waits) -> None:
    async with scripted(lambda _: asyncio.sleep(0)) as broker:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
        unwanted = asyncio.create_task(client.publish("q", "unwanted"))
        wanted = asyncio.create_task(client.publish("q", "wanted"))
        await asyncio.sleep(0)
        unwanted.cancel()
        await wanted
        with pytest.raises(asyncio.CancelledError):
            await unwanted


# -- consuming ---------------------------------------------------------------------------------------------------------


async def subscribed(conversation: Conversation, *ids: str, attempt: int = 1) -> None:
    """Grant the next subscribe and deliver."""
    frame = await conversation.hear("subscribe")
    await conversation.grant(frame)
    if ids:
        messages = [delivered(one, attempt=attempt) for one in ids]
        await conversation.say({"op": "deliver", "sub": frame["sub"], "messages": messages})


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
    async with scripted(script) as broker, client_of(broker, waits) as client:
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
        await conversation.grant(frame, results=[{"message_id": one, "ok": one != "m2", "code": None if one != "m2" else "lease_lost"} for one in frame["ids"]])  # noqa: E501
        await conversation.hear("unsubscribe")
        await conversation.ended()

    confirmed = asyncio.Event()
    async with scripted(script) as broker, client_of(broker, waits, close_timeout=0.2) as client:
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
    async with scripted(script) as broker, client_of(broker, waits) as client:
        consumption = client.subscribe("q")
        message = await consumption.take()
        await message.ack()
        while len(broker.conversations) < 2:
            await asyncio.sleep(0.001)
    assert calls_before == [("/messages/ack", {"items": [{"message_id": "m1", "lease": "lease-m1-1"}]})]


async def test_a_settle_that_the_broker_cannot_take_now_is_tried_until_it_can(waits: Waits) -> None:
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

    refusals, taken = 6, asyncio.Event()
    async with scripted(script, rest) as broker, client_of(broker, waits) as client:
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

    async with scripted(script, rest) as broker, client_of(broker, waits) as client:
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
    async with scripted(script) as broker, client_of(broker, waits) as client:
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
    async with scripted(script) as broker, client_of(broker, waits) as client:
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
    async with scripted(script) as broker, client_of(broker, waits) as client:
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
    async with scripted(script) as broker:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
        one, two = client.subscribe("q"), client.subscribe("q")
        assert [(await one.take()).message_id, (await two.take()).message_id] == ["m0", "m1"]
        assert len(broker.conversations) == 1


# -- close codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"), [(4401, Unauthenticated), (4403, Forbidden), (4404, NotFound), (4400, Malformed)]
)
async def test_a_final_close_code_is_raised_in_the_consumer(
    waits: Waits, code: int, error: type[StreambrokerError]
) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation)
        await conversation.close(code, "the reason")

    async with scripted(script) as broker, client_of(broker, waits) as client:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
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
    async with scripted(script) as broker, client_of(broker, waits) as client:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
        await anext(client.consume("q"))
    assert len(waits.seconds) == 1 and waits.seconds[0] >= 5


async def test_an_upgrade_that_is_refused_for_now_is_tried_again(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with scripted(script) as broker, client_of(broker, waits) as client:
        broker.refusals = [503, 502, 429]
        await anext(client.consume("q"))
    assert len(waits.seconds) == 3


async def test_an_upgrade_that_is_refused_for_good_fails_the_publish(waits: Waits) -> None:
    async with scripted(lambda _: asyncio.sleep(0)) as broker, client_of(broker, waits) as client:
        broker.refusals = [401]
        with pytest.raises(Unauthenticated):
            await client.publish("q", "x")


async def test_after_it_gave_up_the_next_call_tries_anew(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.grant_publish(await conversation.hear("publish"))
        await conversation.ended()

    async with scripted(script) as broker, client_of(broker, waits) as client:
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


# -- tokens ------------------------------------------------------------------------------------------------------------


def logins(path: str, body: Any) -> Any:
    """Tokens that tell which login or refresh gave them."""
    if path in ("/login", "/refresh"):
        number = 0 if path == "/login" else int(body["refresh_token"].rpartition("-")[2]) + 1
        return {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}", "expires_in": 900}
    return all_granted(path, body)


async def test_an_expired_token_is_renewed_and_the_connection_comes_back_at_once(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number == 1:
            await conversation.close(4450, "the token expired")
        else:
            await subscribed(conversation, "m1")
            await conversation.ended()

    async with scripted(script, logins) as broker, client_of(broker, waits, username="u", password="p") as client:
        await anext(client.consume("q"))
        assert [one.token for one in broker.conversations] == ["access-0", "access-1"]
    assert waits.seconds == []


async def test_an_expired_token_that_cannot_be_renewed_is_raised(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.close(4450, "the token expired")

    async with scripted(script) as broker, client_of(broker, waits) as client:
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
    async with scripted(script, logins) as broker, client_of(broker, waits, username="u", password="p") as client:
        await anext(client.consume("q"))
        assert len(broker.conversations) == 1
    assert shown == ["access-1"]


async def test_a_token_refused_at_the_upgrade_is_renewed_once(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with scripted(script, logins) as broker, client_of(broker, waits, username="u", password="p") as client:
        broker.refusals = [401]
        await anext(client.consume("q"))
        assert broker.conversations[0].token == "access-1"


# -- closing -----------------------------------------------------------------------------------------------------------


async def test_closing_waits_for_acks_to_be_confirmed(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        ack = await conversation.hear("ack")
        unsubscribe = await conversation.hear("unsubscribe")
        await conversation.grant(unsubscribe)
        await asyncio.sleep(0.05)
        await conversation.grant(ack, results=[{"message_id": "m1", "ok": True}])
        await conversation.ended()

    async with scripted(script) as broker:
        client = client_of(broker, waits)
        message = await client.subscribe("q").take()
        told = message.ack()
        await client.close()
        await told


async def test_closing_does_not_wait_for_ever(waits: Waits) -> None:
    async def script(conversation: Conversation) -> None:
        await subscribed(conversation, "m1")
        await conversation.ended()

    async with scripted(script, lambda path, body: httpx.Response(503)) as broker:
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

    async with scripted(script) as broker, client_of(broker, waits, settle_timeout=0.1, close_timeout=0.1) as client:
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

    async with scripted(script) as broker, client_of(broker, waits) as client:
        message = await client.subscribe("q").take()
        task = asyncio.create_task(acked(message))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await message.ack()
    assert [path for path, _ in broker.calls] == ["/messages/ack"]
