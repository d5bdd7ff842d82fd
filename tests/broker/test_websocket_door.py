"""One connection, in-process: what it owes the broker when its client misbehaves, and what its user may do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streambroker.core.message import State
from streambroker.store.contract import Settle
from streambroker.transport.websocket.answers import MAX_UNANSWERED
from streambroker.transport.websocket.incoming import MAX_FRAMES
from streambroker.transport.websocket.outbox import MAX_BYTES
from tests.broker.virtual import in_virtual_time, turns
from tests.broker.world import running

PING = {"op": "ping"}


# -- a client that sends and does not read


@pytest.mark.parametrize("waiting", [0, 1, 5], ids="{} messages behind".format)
@in_virtual_time
async def test_a_client_that_sends_without_reading_is_cut_off_and_forgotten(waiting: int) -> None:
    async with running() as world:
        await world.queue(max_attempts=0)
        await world.publish(b"1", b"2")
        peer = await world.connect()
        await peer.call("subscribe", queue="q")
        await peer.deliveries(2)
        peer.stop_reading()
        many = msgspec.json.encode([PING] * MAX_FRAMES).decode()
        for _ in range(2 * MAX_BYTES // (MAX_FRAMES * len('{"op":"pong"}'))):
            peer.send_raw(many)
            await turns(3)
        for _ in range(waiting):  # what the operating system has read already, and the connection has not
            peer.send_raw(many)
        assert len(world.sockets.open) == 1
        peer.abort()  # as the server does with one that reads nothing
        await world.ended()
        assert world.sockets.open == set()
        await turns()
        back = await world.take(limit=5, wait_ms=1_000)
        assert [message.content for message in back] == [b"1", b"2"]
        assert world.broker.consumers("q") == 0


@in_virtual_time
async def test_a_client_that_vanishes_while_it_is_not_read_any_more_is_forgotten() -> None:
    async with running() as world:
        await world.queue()
        peer = await world.connect()
        await peer.call("subscribe", queue="q")
        peer.stop_reading()
        acks = msgspec.json.encode([{"op": "ack", "id": 1, "ids": ["x"]}] * MAX_FRAMES).decode()
        for _ in range(100):
            peer.send_raw(acks)
        await turns()
        peer.abort()
        await world.ended()
        assert world.sockets.open == set()
        assert world.broker.consumers("q") == 0


@in_virtual_time
async def test_many_frames_wait_for_their_answers_and_all_get_them() -> None:
    async with running() as world:
        await world.queue(durability="memory")
        peer = await world.connect()
        count = 3 * MAX_UNANSWERED
        for start in range(0, count, 500):
            publish: list[dict[str, Any]] = [
                {"op": "publish", "id": start + n, "queue": "q", "messages": [{"content": start + n}]}
                for n in range(500)
            ]
            peer.send(*publish)
        await peer.when(lambda: len(peer.inbox) == count)
        assert sorted(frame["id"] for frame in peer.inbox) == list(range(count))
        assert all(frame["op"] == "ok" for frame in peer.inbox)
        assert len(await world.states()) == 1_000  # one page: they are there


# -- arrays


@pytest.mark.parametrize("spoilt", [False, True], ids=["all of them fit", "one does not fit"])
@in_virtual_time
async def test_an_array_of_too_many_frames_is_refused_whole_and_the_connection_lives(spoilt: bool) -> None:
    async with running() as world:
        await world.queue()
        peer = await world.connect()
        frame: dict[str, Any] = {"op": "publish", "id": 7, "queue": "q", "messages": [{"content": 1}]}
        last = [{"op": "no such op"}] if spoilt else [frame]
        peer.send(*[frame] * MAX_FRAMES, *last)
        answer = await peer.frame("error", id=None)
        assert answer["problem"]["code"] == "invalid"
        peer.send(PING)
        await peer.frame("pong")
        assert peer.inbox == []
        assert await world.states() == []
        peer.send(*[PING] * MAX_FRAMES)
        await peer.when(lambda: len(peer.inbox) == MAX_FRAMES)


@in_virtual_time
async def test_an_array_may_publish_beside_what_is_refused_and_each_is_answered() -> None:
    async with running() as world:
        await world.queue()
        peer = await world.connect()

        def publish(number: int, **fields: Any) -> dict[str, Any]:
            return {"op": "publish", "id": number, "queue": "q", "messages": [{"content": number, **fields}]}

        peer.send(publish(1), publish(2, content_base64="eA=="), publish(3), PING, publish(4))
        await peer.when(lambda: len(peer.inbox) == 5)
        answers = {frame.get("id"): frame for frame in peer.inbox}
        assert {number: frame["op"] for number, frame in answers.items()} == {
            1: "ok", 2: "error", 3: "ok", 4: "ok", None: "pong",
        }  # fmt: skip
        stored = await world.take(limit=10)
        assert [message.content for message in stored] == [b"1", b"3", b"4"]
        assert [f"{m.id:016x}" for m in stored] == [answers[n]["message_ids"][0] for n in (1, 3, 4)]


# -- settling


@pytest.mark.parametrize("op", ["ack", "nack"])
@in_virtual_time
async def test_an_id_that_is_given_twice_in_a_frame_is_settled_once_and_answered_at_each_mention(op: str) -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1", b"2")
        peer = await world.connect()
        await peer.call("subscribe", queue="q")
        first, second = (message["message_id"] for message in await peer.deliveries(2))
        answer = await peer.call(op, ids=[first, second, first, first])
        assert answer["results"] == [{"message_id": number, "ok": True} for number in (first, second, first, first)]
        assert await world.states() == [State.PROCESSED if op == "ack" else State.FAILED] * 2
        settles = [command for command in world.engine.seen if isinstance(command, Settle)]
        assert [len(command.items) for command in settles] == [2]
        assert world.broker.rates("q").settled == 2.0  # of a meter that is younger than a second


@in_virtual_time
async def test_an_id_that_is_given_twice_is_extended_and_answered_at_each_mention() -> None:
    async with running() as world:
        await world.queue()
        await world.publish(b"1")
        peer = await world.connect()
        await peer.call("subscribe", queue="q", lease_mode="fixed")
        (message,) = await peer.deliveries(1)
        one = message["message_id"]
        answer = await peer.call("extend", ids=[one, "nonsense", one, "nonsense"], lease_ms=60_000)
        assert (
            answer["results"]
            == [
                {"message_id": one, "ok": True},
                {"message_id": "nonsense", "ok": False, "code": "lease_lost"},
            ]
            * 2
        )


# -- permissions


@pytest.mark.parametrize(
    ("op", "fields"), [("subscribe", {}), ("publish", {"messages": [{"content": 1}]})], ids=["subscribe", "publish"]
)
@in_virtual_time
async def test_a_member_is_refused_what_the_grants_do_not_allow(op: str, fields: dict[str, Any]) -> None:
    async with running() as world:
        for name in ("open.q", "half.q", "hidden.q"):
            await world.queue(name)
        peer = await world.connect(user="mia")
        assert await peer.refusal(op, queue="half.q", **fields) == "forbidden"
        assert await peer.refusal(op, queue="hidden.q", **fields) == "not_found"
        assert await peer.refusal(op, queue="hidden.none", **fields) == "not_found"
        assert (await peer.call(op, queue="open.q", **fields))["op"] == "ok"
        assert not world.broker.knows("hidden.none")


@in_virtual_time
async def test_a_hidden_queue_looks_to_a_member_like_one_that_is_not_there() -> None:
    async with running() as world:
        await world.queue("hidden.q")
        peer = await world.connect(user="mia")
        there = (await peer.call("subscribe", queue="hidden.q"))["problem"]
        absent = (await peer.call("subscribe", queue="hidden.p"))["problem"]
        assert {**there, "detail": there["detail"].replace("hidden.q", "hidden.p")} == absent


@in_virtual_time
async def test_a_member_cannot_settle_what_another_connection_holds() -> None:
    async with running() as world:
        await world.queue("hidden.q")
        await world.publish(b"1", queue="hidden.q")
        holder = await world.connect()
        await holder.call("subscribe", queue="hidden.q")
        (message,) = await holder.deliveries(1)
        peer = await world.connect(user="mia")
        results = (await peer.call("ack", ids=[message["message_id"], "344071f1ca800000"]))["results"]
        assert [result["code"] for result in results] == ["lease_lost", "lease_lost"]
        assert await world.states("hidden.q") == [State.LEASED]


@pytest.mark.parametrize(("queue", "code"), [("half.q", 4403), ("hidden.q", 4404), ("hidden.none", 4404)])
@in_virtual_time
async def test_a_queue_socket_without_the_grant_is_closed(queue: str, code: int) -> None:
    async with running() as world:
        await world.queue("half.q")
        await world.queue("hidden.q")
        peer = await world.connect(f"/queues/{queue}/ws", "mia")
        assert await peer.closed() == code
        await world.ended()
        assert world.sockets.open == set()
        assert not world.broker.knows("hidden.none")


@in_virtual_time
async def test_a_queue_socket_with_the_grant_delivers() -> None:
    async with running() as world:
        await world.queue("open.q")
        await world.publish(b"1", b"2", queue="open.q")
        peer = await world.connect("/queues/open.q/ws", "mia", b"credit=1")
        await peer.deliveries(1)
        await turns()
        assert peer.inbox == []


# -- its end


@in_virtual_time
async def test_the_upgrade_carries_the_request_id() -> None:
    async with running() as world:
        peer = await world.connect()
        assert (b"x-request-id", b"request-1") in peer.accepted["headers"]


@in_virtual_time
async def test_a_socket_of_a_queue_that_is_deleted_is_told_and_closed() -> None:
    async with running() as world:
        await world.queue()
        by_frame, by_path = await world.connect(), await world.connect("/queues/q/ws")
        await by_frame.call("subscribe", queue="q")
        await world.broker.drop_queue("q")
        assert (await by_frame.frame("error"))["problem"]["code"] == "not_found"
        assert await by_path.closed() == 4404
        assert (await by_frame.call("subscribe", queue="q"))["op"] == "ok"
