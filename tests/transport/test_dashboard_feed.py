"""What dashboards are told: to whom, when, and how much of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streambroker.core.access import Action, Grant, Role
from streambroker.core.message import State
from streambroker.store.contract import Settle
from streambroker.transport.dashboard import board
from streambroker.transport.dashboard.feed import LINGER
from streambroker.transport.dashboard.happenings import MOST
from tests.broker.virtual import in_virtual_time, turns
from tests.broker.world import ADMIN, MEMBER
from tests.transport.dashboards import House, running, with_grants

POINT = {
    *("at", "requests", "published", "delivered", "settled", "pending", "processing", "failed", "processed"),
    *("cpu_percent", "memory_mb", "delivery_ms", "publish_ms"),
}
LINE = {
    *("name", "paused", "pending", "delayed", "processing", "processed", "failed", "oldest_pending_age_ms"),
    *("consumers", "published", "delivered", "settled", "spark"),
}
STRANGER = replace(MEMBER, grants=())
VIEWER = replace(MEMBER, grants=(Grant("*", (Action.VIEW,)),))


# -- the overview


@in_virtual_time
async def test_a_tick_says_why_publishes_are_refused() -> None:
    async with running() as house:
        viewer = await house.look("mia")
        await house.advance()
        assert (await viewer.frame("tick"))["refusing"] is None
        house.refusing = "quota"
        await house.advance()
        assert (await viewer.frame("tick"))["refusing"] == "quota"


@in_virtual_time
async def test_each_interval_has_a_point_and_the_figures_of_stats() -> None:
    async with running() as house:
        viewer = await house.look()
        await house.publish(b"1", b"2", b"3", queue=await made(house, "q"))
        house.counters.earlier += 7
        await house.advance()
        tick = await viewer.frame("tick")
        point = tick["point"]
        assert point.keys() == POINT
        assert (point["requests"], point["published"], point["pending"], point["processing"]) == (7, 3.0, 3, 0)
        assert (point["cpu_percent"], point["memory_mb"]) == (12.5, 64.0)
        assert (point["delivery_ms"], point["publish_ms"]) == ({"p50": 1.0, "p95": 2.0, "p99": 3.0}, None)
        assert tick["stats"]["total_requests"] == 7 and tick["stats"]["pending"] == 3
        assert "queues" not in tick["stats"]
        await house.advance()
        point = (await viewer.frame("tick"))["point"]
        assert (point["requests"], point["published"], point["pending"]) == (0, 0.0, 3)


@in_virtual_time
async def test_a_dashboard_does_not_start_empty_and_hears_no_point_twice() -> None:
    async with running() as house:
        await house.advance(305)
        viewer = await house.open()
        history = (await viewer.frame("history"))["points"]
        latest = (await viewer.frame("tick"))["point"]
        times = [point["at"] for point in [*history, latest]]
        assert len(times) == 300
        assert times == sorted(set(times))
        await house.advance()
        assert (await viewer.frame("tick"))["point"]["at"] > latest["at"]


@in_virtual_time
async def test_a_queue_that_comes_or_goes_makes_no_jump_in_the_rates() -> None:
    async with running() as house:
        viewer = await house.look()
        await house.publish(*[b"x"] * 500, queue=await made(house, "old"))
        await house.advance()
        assert (await viewer.frame("tick"))["point"]["published"] == pytest.approx(500, rel=0.01)
        await house.publish(b"1", b"2", queue=await made(house, "new"))
        await house.publish(b"3", queue="old")
        await house.broker.drop_queue("old")
        await house.advance()
        assert (await viewer.frame("tick"))["point"]["published"] == 3
        await house.advance()
        assert (await viewer.frame("tick"))["point"]["published"] == 0


# -- what one may not view


@in_virtual_time
async def test_d12_counts_lines_consumers_and_events_are_of_the_queues_that_one_may_view() -> None:
    async with running() as house:
        await house.publish(b"1", queue=await made(house, "open.q"))
        await house.publish(b"1", b"2", b"3", queue=await made(house, "hidden.q"))
        worker = await house.connect()
        await worker.call("subscribe", queue="hidden.q", credit=2)
        await worker.call("subscribe", queue="open.q")
        await house.advance()
        viewer = await house.look("mia")
        await viewer.watch("queues", "consumers")
        assert await viewer.refusal("watch", topics=["queues", "consumers"], events="hidden.q") == "not_found"
        await house.publish(b"4", queue="hidden.q")
        await house.advance()
        tick = await viewer.frame("tick")
        point = tick["point"]
        assert (point["pending"], point["processing"], point["published"]) == (0, 1, 0.0)
        assert (point["delivery_ms"], point["publish_ms"]) == (None, None)
        assert (tick["stats"]["pending"], tick["stats"]["processing"]) == (0, 1)
        told = str(viewer.taken())
        assert "open.q" in told
        assert "hidden.q" not in told
        await house.broker.drop_queue("hidden.q")
        await house.advance()
        assert "hidden.q" not in str(viewer.taken())


@in_virtual_time
async def test_who_may_view_nothing_is_welcome_and_sees_empty_lists() -> None:
    async with running() as house:
        house.users["mia"] = STRANGER
        await house.publish(b"1", queue=await made(house, "q"))
        viewer = await house.open("mia")
        welcome = await viewer.frame("welcome")
        assert (welcome["may_view_all"], welcome["user"]) == (False, {"username": "mia", "role": "member"})
        await viewer.watch("queues", "consumers")
        assert (await viewer.frame("queues"))["items"] == []
        assert (await viewer.frame("consumers"))["items"] == []
        await house.advance()
        assert (await viewer.frame("tick"))["point"]["pending"] == 0


@in_virtual_time
async def test_who_sees_the_same_is_sent_the_very_same_text() -> None:
    async with running() as house:
        house.users |= {"vic": replace(VIEWER, username="vic"), "mia": MEMBER, "max": replace(MEMBER, username="max")}
        views = [house.feed.enter(user) for name in ("admin", "vic", "mia", "max") if (user := house.users[name])]
        await house.advance()
        admin, vic, mia, max_ = (view.tick(house.status) for view in views)
        assert admin is vic and mia is max_ and mia is not admin


@in_virtual_time
async def test_other_rights_begin_a_dashboard_anew() -> None:
    async with running() as house:
        await made(house, "open.q")
        await made(house, "hidden.q")
        viewer = await house.look("mia")
        await viewer.watch("queues", "consumers", events="open.q")
        await viewer.frame("queues")
        house.change("mia", with_grants(MEMBER, STRANGER))
        assert (await viewer.frame("welcome"))["may_view_all"] is False
        await viewer.frame("history")
        viewer.taken()
        await house.publish(b"1", queue="open.q")
        await house.advance()
        await viewer.frame("tick")
        assert viewer.taken() == []  # nothing is watched until it asks again
        await viewer.watch("queues")
        assert (await viewer.frame("queues"))["items"] == []
        house.change("mia", with_grants(MEMBER, ADMIN))
        welcome = await viewer.frame("welcome")
        assert (welcome["may_view_all"], welcome["user"]["role"]) == (True, str(Role.ADMIN))
        await viewer.watch("queues")
        assert {line["name"] for line in (await viewer.frame("queues"))["items"]} == {"open.q", "hidden.q"}


@in_virtual_time
async def test_the_history_of_a_members_view_outlives_a_reload_and_not_much_more() -> None:
    async with running() as house:
        viewer = await house.look("mia")
        await house.advance(5)
        viewer.leave()
        await house.advance(LINGER - 1)
        viewer = await house.open("mia")
        points = (await viewer.frame("history"))["points"]
        assert len(points) == 5 + LINGER - 1 - 1  # the latest comes with the tick
        viewer.leave()
        await house.advance(LINGER + 2)
        viewer = await house.open("mia")
        assert (await viewer.frame("history"))["points"] == []


# -- the table of queues


@in_virtual_time
async def test_all_lines_come_first_and_then_those_that_changed() -> None:
    async with running() as house:
        for name in ("a", "b", "c"):
            await made(house, name)
        await house.advance()
        viewer = await house.look()
        await viewer.watch("queues")
        lines = (await viewer.frame("queues"))["items"]
        assert {line["name"] for line in lines} == {"a", "b", "c"}
        assert lines[0].keys() == LINE
        await house.advance(2 * 31)  # until the spark lines are full and the same
        viewer.taken()
        await house.publish(b"1", queue="b")
        await house.broker.pause("c", True)
        await house.advance()
        changed = {line["name"]: line for line in (await viewer.frame("queues"))["items"]}
        assert changed.keys() == {"b", "c"}
        assert changed["b"]["pending"] == 1 and changed["c"]["paused"] is True
        await house.broker.drop_queue("a")
        await house.advance()
        assert (await viewer.frame("queues"))["removed"] == ["a"]


@in_virtual_time
async def test_a_broker_where_nothing_happens_says_nothing_about_its_queues() -> None:
    async with running() as house:
        await made(house, "a")
        viewer = await house.look()
        await viewer.watch("queues")
        await house.advance(2 * 31)
        viewer.taken()
        await house.advance(4)
        assert {frame["op"] for frame in viewer.taken()} == {"tick"}


@in_virtual_time
async def test_spark_lines_have_the_depths_of_a_minute_before_anybody_looked() -> None:
    async with running() as house:
        await made(house, "q")
        for number in range(40):
            await house.publish(b"x", queue="q")
            await house.advance(2)
            assert number + 1 == (await house.broker.depth("q")).ready
        viewer = await house.look()
        await viewer.watch("queues")
        assert (await viewer.frame("queues"))["items"][0]["spark"] == list(range(11, 41))


@in_virtual_time
async def test_of_many_queues_only_some_rates_are_looked_at_in_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "MOST_SLOW", 1)
    async with running() as house:
        for name in ("a", "b", "c"):
            await made(house, name)
        await house.advance()
        viewer = await house.look()
        await viewer.watch("queues")
        await viewer.frame("queues")
        for name in ("a", "b", "c"):
            await house.publish(b"1", queue=name)
        known = set[str]()
        for count in (1, 2, 3):
            await house.advance()
            lines = [line for frame in viewer.taken() if frame["op"] == "queues" for line in frame["items"]]
            known |= {line["name"] for line in lines if line["published"] > 0}
            assert len(known) == count


@in_virtual_time
async def test_a_queue_that_was_made_anew_is_there_and_not_removed() -> None:
    async with running() as house:
        await made(house, "q")
        await house.advance()
        viewer = await house.look()
        await viewer.watch("queues")
        await viewer.frame("queues")
        await house.broker.drop_queue("q")
        await house.advance()
        assert (await viewer.frame("queues"))["removed"] == ["q"]
        await made(house, "q")
        await house.publish(b"1", queue="q")
        await house.advance()
        frame = await viewer.frame("queues")
        assert frame["removed"] == [] and frame["items"][0]["published"] > 0


# -- consumers


@in_virtual_time
async def test_consumers_are_told_when_they_change() -> None:
    async with running() as house:
        await house.publish(b"1", b"2", queue=await made(house, "q"))
        viewer = await house.look()
        await viewer.watch("consumers")
        assert (await viewer.frame("consumers"))["items"] == []
        await house.advance(3)
        assert "consumers" not in {frame["op"] for frame in viewer.taken()}
        worker = await house.connect()
        await worker.call("subscribe", queue="q", sub="s", credit=5)
        await worker.deliveries(2)
        await house.advance()
        (one,) = (await viewer.frame("consumers"))["items"]
        assert (one["kind"], one["user"], one["queue"], one["sub"]) == ("websocket", "admin", "q", "s")
        assert (one["credit"], one["in_flight"], one["paused"], one["lease_mode"]) == (5, 2, False, "session")
        await house.advance(5)
        assert (await viewer.frame("consumers"))["items"][0]["delivered_per_s"] > 0
        worker.leave()
        await turns()
        await house.advance()
        while items := (await viewer.frame("consumers"))["items"]:
            assert items[0]["id"] == one["id"]


# -- events


@in_virtual_time
async def test_what_happens_to_a_message_is_told_in_order() -> None:
    async with running() as house:
        await house.queue("q", max_attempts=2, dead_letter_queue="dead")
        viewer, dead = await house.look(), await house.look()
        await viewer.watch(events="q")
        await dead.watch(events="dead")
        worker = await house.connect()
        await house.publish(b"1")
        await worker.call("subscribe", queue="q")
        (message,) = await worker.deliveries(1)
        await worker.call("nack", ids=[message["message_id"]], requeue=True, delay_ms=0)
        (message,) = await worker.deliveries(1)
        await worker.call("nack", ids=[message["message_id"]], requeue=True, delay_ms=0)
        assert await house.publish(b"2")
        (message,) = await worker.deliveries(1)
        await worker.call("ack", ids=[message["message_id"]])
        await house.advance()
        frame = await viewer.frame("events")
        assert (frame["queue"], frame["dropped"]) == ("q", 0)
        assert [(event["event"], event["status"], event["attempt"]) for event in frame["items"]][:3] == [
            ("new_message", "pending", 0),
            ("message_delivered", "processing", 1),
            ("message_requeued", "pending", 1),
        ]
        assert [event["event"] for event in frame["items"]][3:] == [
            "message_delivered",
            "message_failed",
            "new_message",
            "message_delivered",
            "message_processed",
        ]
        assert frame["items"][-1]["attempt"] == 1
        events = (await dead.frame("events"))["items"]
        assert [(event["event"], event["queue"]) for event in events] == [("new_message", "dead")]
        assert events[0]["message_id"] == frame["items"][0]["message_id"]


@in_virtual_time
async def test_a_lease_that_ends_is_told_and_a_delay_that_ends_is_not() -> None:
    async with running() as house:
        await house.queue("q", lease_ms=500)
        viewer = await house.look()
        await viewer.watch(events="q")
        await house.publish(b"1")
        await house.take()
        worker = await house.connect()
        await worker.call("publish", queue="q", messages=[{"content": 2, "delay_ms": 800}])
        await house.advance(2)
        events = [event["event"] for frame in viewer.taken() if frame["op"] == "events" for event in frame["items"]]
        assert events == ["new_message", "message_delivered", "new_message", "message_requeued"]
        assert await house.states() == [State.READY, State.READY]


@in_virtual_time
async def test_more_events_than_an_interval_holds_are_counted() -> None:
    async with running() as house:
        await made(house, "q")
        viewer = await house.look()
        await viewer.watch(events="q")
        await house.publish(*[b"x"] * (MOST + 50), queue="q")
        await house.advance()
        frame = await viewer.frame("events")
        assert (len(frame["items"]), frame["dropped"]) == (MOST, 50)
        await house.publish(b"y", queue="q")
        await house.advance()
        frame = await viewer.frame("events")
        assert (len(frame["items"]), frame["dropped"]) == (1, 0)


@in_virtual_time
async def test_nothing_is_made_for_a_queue_that_nobody_watches_any_more() -> None:
    async with running() as house:
        await made(house, "q")
        first, second = await house.look(), await house.look()
        await first.watch(events="q")
        await second.watch(events="q")
        assert list(house.broker.events.watched) == ["q"]
        await first.watch()
        second.leave()
        await turns()
        assert house.broker.events.watched == {}


@pytest.mark.parametrize("watched", [False, True])
@in_virtual_time
async def test_acks_take_the_short_cut_unless_somebody_watches(watched: bool) -> None:
    async with running() as house:
        await made(house, "q")
        if watched:
            viewer = await house.look()
            await viewer.watch(events="q")
        await house.publish(b"1", queue="q")
        worker = await house.connect()
        await worker.call("subscribe", queue="q")
        (message,) = await worker.deliveries(1)
        await worker.call("ack", ids=[message["message_id"]])
        (settle,) = [command for command in house.engine.seen if isinstance(command, Settle)]
        assert settle.queue == (None if watched else "q")
        assert house.broker.rates("q").settled > 0


async def made(house: House, name: str) -> str:
    """A queue of that name; its name."""
    await house.queue(name)
    return name
