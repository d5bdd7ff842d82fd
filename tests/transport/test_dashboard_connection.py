"""One dashboard's connection: who is let in, what it may say, and how it ends (D6, D7, D14, D15, D16, D33)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from streambroker.transport.dashboard import connection, outbox
from streambroker.transport.dashboard.connection import HELLO_DEADLINE_S, MAX_FRAME
from streambroker.transport.dashboard.frames import SUBPROTOCOL
from tests.broker.virtual import clock, in_virtual_time, turns
from tests.broker.world import ADMIN, MEMBER, WRITE_BUFFER
from tests.transport.dashboards import running

# -- who is let in


@in_virtual_time
async def test_a_browser_says_who_it_is_by_a_subprotocol_and_gets_the_other_one() -> None:
    async with running() as house:
        viewer = await house.open(None, subprotocols=[SUBPROTOCOL, "bearer.mia"])
        assert (await viewer.frame("welcome"))["user"] == {"username": "mia", "role": "member"}
        assert viewer.accepted["subprotocol"] == SUBPROTOCOL


@in_virtual_time
async def test_the_first_frame_may_say_who_it_is() -> None:
    async with running() as house:
        viewer = await house.open(None)
        viewer.send({"op": "hello", "token": "admin"})
        welcome = await viewer.frame("welcome")
        assert welcome == {
            "op": "welcome",
            "user": {"username": "admin", "role": "admin"},
            "may_view_all": True,
            "interval_ms": 1000,
            "expires_in": None,
        }
        await viewer.frame("history")


@pytest.mark.parametrize(
    "scope",
    [
        {"subprotocols": [SUBPROTOCOL, "bearer.nobody"]},
        {"streambroker.headers": {b"authorization": b"Bearer nobody"}},
        {"streambroker.headers": {b"authorization": b"Basic YWRtaW46eA=="}},
        {"streambroker.headers": {b"authorization": b"Bearer nobody"}, "subprotocols": ["bearer.admin"]},
    ],
    ids=str,
)
@in_virtual_time
async def test_a_bad_token_is_refused_in_place_of_the_upgrade(scope: dict[str, Any]) -> None:
    async with running() as house:
        viewer = await house.open(None, **scope)
        await viewer.when(lambda: viewer.refused)
        assert viewer.refused == 401 and viewer.accepted is None
        assert house.feed.open == set()


@in_virtual_time
async def test_d7_a_refusal_does_not_repeat_the_token() -> None:
    async with running() as house:
        viewer = await house.open(None, subprotocols=["bearer.somebodys-secret"])
        await viewer.when(lambda: viewer.refusal_body)
        assert b"somebodys-secret" not in viewer.refusal_body


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"op":"hello","token":"nobody"}', 4401),
        ('{"op":"hello"}', 4401),
        ('{"op":"ping"}', 4401),
        ('{"op":"watch","topics":["nonsense"]}', 4401),
        ("{", 4400),
        ("[]", 4400),
        ("{" + " " * MAX_FRAME, 4413),
    ],
)
@in_virtual_time
async def test_a_first_frame_that_is_no_good_closes(text: str, code: int) -> None:
    async with running() as house:
        viewer = await house.open(None)
        viewer.send_raw(text)
        assert await viewer.closed() == code
        await house.ended()
        assert viewer.inbox == []


@in_virtual_time
async def test_who_says_nothing_is_closed_after_five_seconds() -> None:
    async with running() as house:
        viewer = await house.open(None)
        await turns()
        assert viewer.close_code is None
        await asyncio.sleep(HELLO_DEADLINE_S - 0.1)
        assert viewer.close_code is None
        assert await viewer.closed() == 4408


@in_virtual_time
async def test_who_leaves_before_saying_hello_is_forgotten() -> None:
    async with running() as house:
        viewer = await house.open(None)
        viewer.leave()
        await house.ended()
        assert house.feed.open == set()


@in_virtual_time
async def test_d16_there_are_only_so_many_dashboards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_DASHBOARDS", 2)
    async with running() as house:
        first, _ = await house.look(), await house.look("mia")
        third, late = await house.open(), await house.open(None)
        await third.when(lambda: third.refused)
        assert third.refused == 503
        assert msgspec.json.decode(third.refusal_body)["code"] == "overloaded"
        late.send({"op": "hello", "token": "admin"})
        assert await late.closed() == 4429
        first.leave()
        await turns()
        await house.look()


@in_virtual_time
async def test_d16_a_members_dashboards_count_as_its_connections() -> None:
    async with running(most_open=1) as house:
        await house.look("mia")
        second, third = await house.open("mia"), await house.open(None)
        await second.when(lambda: second.refused)
        assert second.refused == 429
        third.send({"op": "hello", "token": "mia"})
        assert await third.closed() == 4429
        assert len(house.feed.open) == 1


# -- what it may say


@in_virtual_time
async def test_a_ping_is_answered() -> None:
    async with running() as house:
        viewer = await house.look()
        viewer.send({"op": "ping"})
        await viewer.frame("pong")


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "publish", "queue": "q", "messages": [{"content": 1}]},
        {"op": "subscribe", "queue": "q"},
        {"op": "watch", "topics": ["users"]},
        {"op": "watch", "topics": "queues"},
        {"op": "watch", "events": "../x"},
        {"op": "watch", "more": 1},
        {"op": 5},
        {},
    ],
    ids=str,
)
@in_virtual_time
async def test_a_frame_that_does_not_fit_is_answered_and_changes_nothing(frame: dict[str, Any]) -> None:
    async with running() as house:
        viewer = await house.look()
        await viewer.watch("consumers")
        viewer.send(frame)
        problem = (await viewer.frame("error"))["problem"]
        assert (problem["code"], problem["status"]) == ("invalid", 422)
        assert (await viewer.frame("consumers"))["items"] == []
        assert viewer.close_code is None


@pytest.mark.parametrize(("text", "code"), [("{", 4400), ("[{}]", 4400), ("5", 4400), ("{" + " " * MAX_FRAME, 4413)])
@in_virtual_time
async def test_what_is_no_frame_closes(text: str, code: int) -> None:
    async with running() as house:
        viewer = await house.look()
        viewer.send_raw(text)
        assert await viewer.closed() == code
        await house.ended()
        assert house.feed.open == set()


@in_virtual_time
async def test_the_events_of_a_queue_that_there_is_not_are_not_found_and_the_rest_stays() -> None:
    async with running() as house:
        await house.queue("q")
        viewer = await house.look()
        await viewer.watch(events="q")
        assert await viewer.refusal("watch", topics=["queues"], events="none") == "not_found"
        await house.publish(b"1")
        await house.advance()
        assert (await viewer.frame("events"))["queue"] == "q"
        assert house.feed.board.watchers == 0


# -- its token


@in_virtual_time
async def test_a_token_that_ends_is_announced_and_ends_the_dashboard_with_4450() -> None:
    async with running() as house:
        house.users["mia"] = replace(MEMBER, expires_at_ms=clock() + 200_000)
        viewer = await house.open("mia")
        assert (await viewer.frame("welcome"))["expires_in"] == 200
        await asyncio.sleep(139)
        assert "expiring" not in [frame["op"] for frame in viewer.inbox]
        await asyncio.sleep(2)
        assert (await viewer.frame("expiring"))["expires_in"] == 60
        await asyncio.sleep(58)
        assert viewer.close_code is None
        await asyncio.sleep(2)
        assert viewer.close_code == 4450


@in_virtual_time
async def test_a_newer_token_keeps_it_open_and_another_users_does_not_count() -> None:
    async with running() as house:
        house.users["mia"] = replace(MEMBER, expires_at_ms=clock() + 10_000)
        viewer = await house.look("mia")
        await viewer.watch("queues")
        house.users["mia"] = replace(MEMBER, expires_at_ms=clock() + 60_000, jti="newer")
        assert (await viewer.call("refresh", token="mia"))["op"] == "ok"
        assert await viewer.refusal("refresh", token="admin") == "forbidden"
        assert await viewer.refusal("refresh", token="nobody") == "unauthenticated"
        assert house.feed.board.watchers == 1  # the same rights: what it watches, it goes on watching
        await asyncio.sleep(50)
        assert viewer.close_code is None
        await asyncio.sleep(11)
        assert viewer.close_code == 4450


@in_virtual_time
async def test_d6_a_session_that_ends_ends_its_dashboards() -> None:
    async with running() as house:
        viewer, other = await house.look("mia"), await house.look()
        house.change("mia", None)
        assert await viewer.closed() == 4401
        await turns()
        assert len(house.feed.open) == 1 and other.close_code is None


# -- how it ends


@in_virtual_time
async def test_what_was_watched_is_let_go_of_at_the_end() -> None:
    async with running() as house:
        await house.queue("q")
        viewer = await house.look("admin")
        await viewer.watch("queues", "consumers", events="q")
        assert house.feed.board.watchers == 1
        viewer.leave(1006)
        await house.ended()
        assert house.feed.board.watchers == 0
        assert house.broker.events.watched == {}
        assert house.feed.open == set()
        assert house.presence._guests == {}


@in_virtual_time
async def test_a_broker_that_stops_closes_dashboards_with_4503() -> None:
    async with running() as house:
        viewer = await house.look()
        await house.feed.close_all(4503, "the broker is stopping")
        assert viewer.close_code == 4503


@in_virtual_time
async def test_d14_a_dashboard_that_does_not_read_gets_the_latest_and_never_a_backlog() -> None:
    async with running() as house:
        await house.queue("q" * 100)
        viewer = await house.look()
        await viewer.watch("queues")
        await house.advance()
        viewer.taken()
        viewer.stop_reading()
        while viewer.get_write_buffer_size() <= WRITE_BUFFER:
            house.feed.advance()
            await turns(2)
        full = viewer.get_write_buffer_size()
        await house.publish(b"1", queue="q" * 100)
        for _ in range(8):  # within the ten seconds
            await house.advance()
        assert viewer.get_write_buffer_size() == full
        await viewer.read_on()
        await turns()
        latest = [frame for frame in viewer.taken() if frame["op"] == "tick"][-1]
        assert latest["point"]["at"].endswith("Z")
        assert latest["point"] == msgspec.json.decode(house.feed.enter(ADMIN).tick(house.status) or "")["point"]
        await house.advance()
        assert (await viewer.frame("tick"))["point"]["at"] > latest["point"]["at"]


@in_virtual_time
async def test_d15_who_asks_without_reading_is_read_no_more_than_its_answers_have_room() -> None:
    async with running() as house:
        viewer = await house.look()
        viewer.stop_reading()
        for _ in range(5_000):
            viewer.send({"op": "watch", "topics": [], "events": "none"})
        await turns(3_000)
        (dashboard,) = house.feed.open
        assert isinstance(dashboard, connection.Dashboard)
        assert len(dashboard._outbox._answers) <= outbox.MAX_ANSWERS + 1
        assert viewer.get_write_buffer_size() < WRITE_BUFFER + 4_096
        viewer.abort()  # as the server does with one that reads nothing
        await house.ended()
