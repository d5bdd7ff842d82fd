"""An open WebSocket when its user's rights change, its session ends, or its user asks for too much (D6, D16)."""

from __future__ import annotations

from dataclasses import replace

import limits
import pytest

from streambroker.core.access import Action, Grant, Principal, Role
from streambroker.core.message import State
from streambroker.transport.websocket.subscribing import MAX_SUBSCRIPTIONS
from tests.broker.virtual import in_virtual_time, turns
from tests.broker.world import MEMBER, USERS, running


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> dict[str, Principal]:
    """The users of the world, who may be changed."""
    for name in list(USERS):
        monkeypatch.setitem(USERS, name, USERS[name])
    return USERS


@in_virtual_time
async def test_d6_a_socket_whose_session_ended_is_closed_and_gives_back_what_it_holds(
    users: dict[str, Principal],
) -> None:
    async with running() as world:
        await world.queue("open.a")
        await world.publish(b"1", queue="open.a")
        peer = await world.connect(user="mia")
        await peer.call("subscribe", queue="open.a")
        await peer.deliveries(1)
        del users["mia"]
        world.presence.changed("mia")
        assert await peer.closed() == 4401
        await world.ended()
        assert await world.states("open.a") == [State.READY]


@in_virtual_time
async def test_d6_what_comes_after_the_session_ended_is_not_done(users: dict[str, Principal]) -> None:
    async with running() as world:
        await world.queue("open.a")
        peer = await world.connect(user="mia")
        peer.stop_reading()
        del users["mia"]
        world.presence.changed("mia")
        peer.send({"op": "publish", "id": 1, "queue": "open.a", "messages": [{"content": 1}]})
        await peer.read_on()
        await world.ended()
        assert await world.states("open.a") == []


@in_virtual_time
async def test_d6_subscriptions_end_with_the_grant_and_the_others_stay(users: dict[str, Principal]) -> None:
    async with running() as world:
        await world.queue("open.a")
        await world.queue("open.b")
        await world.publish(b"1", queue="open.a")
        peer = await world.connect(user="mia")
        await peer.call("subscribe", queue="open.a")
        await peer.call("subscribe", queue="open.b")
        await peer.deliveries(1)
        users["mia"] = replace(MEMBER, grants=(Grant("open.b", (Action.CONSUME,)), Grant("open.a", (Action.VIEW,))))
        world.presence.changed("mia")
        assert (await peer.frame("error"))["problem"]["code"] == "forbidden"
        await turns()
        assert await world.states("open.a") == [State.READY]
        await world.publish(b"2", queue="open.b")
        assert [message["queue"] for message in await peer.deliveries(1)] == ["open.b"]
        assert await peer.refusal("publish", queue="open.a", messages=[{"content": 1}]) == "forbidden"


@in_virtual_time
async def test_d6_a_queues_own_socket_is_closed_with_the_grant(users: dict[str, Principal]) -> None:
    async with running() as world:
        await world.queue("open.a")
        peer = await world.connect("/queues/open.a/ws", user="mia")
        users["mia"] = replace(MEMBER, grants=())
        world.presence.changed("mia")
        assert await peer.closed() == 4403


@in_virtual_time
async def test_new_rights_count_on_an_open_socket(users: dict[str, Principal]) -> None:
    async with running() as world:
        await world.queue("shut.a")
        peer = await world.connect(user="mia")
        assert await peer.refusal("subscribe", queue="shut.a") == "not_found"
        users["mia"] = replace(MEMBER, role=Role.ADMIN)
        world.presence.changed("mia")
        assert (await peer.call("subscribe", queue="shut.a"))["op"] == "ok"


@in_virtual_time
async def test_a_connection_holds_no_more_subscriptions_than_it_may() -> None:
    async with running() as world:
        await world.queue()
        peer = await world.connect()
        for number in range(MAX_SUBSCRIPTIONS):
            peer.send({"op": "subscribe", "queue": "q", "sub": f"s{number}"})
        assert await peer.refusal("subscribe", queue="q", sub="one more") == "rate_limited"
        await peer.call("unsubscribe", sub="s0")
        assert (await peer.call("subscribe", queue="q", sub="one more"))["op"] == "ok"


@in_virtual_time
async def test_frames_over_the_rate_are_refused_one_by_one_and_the_connection_stays() -> None:
    async with running(messages=limits.parse("3/minute")) as world:
        await world.queue()
        peer = await world.connect()
        peer.send(*({"op": "publish", "id": n, "queue": "q", "messages": [{"content": n}]} for n in range(5)))
        assert [(await peer.frame("ok"))["id"] for _ in range(3)] == [0, 1, 2]
        problems = [(await peer.frame("error"))["problem"] for _ in range(2)]
        assert {problem["code"] for problem in problems} == {"rate_limited"}
        assert all(0 < problem["retry_after_ms"] <= 60_000 for problem in problems)
        assert len(await world.states()) == 3


@in_virtual_time
async def test_frames_that_do_not_fit_count_too() -> None:
    async with running(messages=limits.parse("3/minute")) as world:
        peer = await world.connect()
        peer.send(*({"op": "nonsense", "id": n} for n in range(5)))
        codes = [(await peer.frame("error"))["problem"]["code"] for _ in range(5)]
        assert sorted(codes) == ["invalid"] * 3 + ["rate_limited"] * 2


@in_virtual_time
async def test_who_goes_on_and_on_over_the_rate_is_closed() -> None:
    async with running(messages=limits.parse("1/minute")) as world:
        peer = await world.connect()
        for _ in range(11):
            peer.send(*({"op": "ping"} for _ in range(1_000)))
            await turns()
        assert await peer.closed() == 4429
