"""How a stream begins, lives and ends, whoever ends it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from streambroker.core.access import Action, Grant
from streambroker.core.errors import Draining, Forbidden, Invalid, NotFound, RateLimited
from streambroker.transport.sse import tape
from tests.broker.virtual import clock, in_virtual_time, turns
from tests.broker.world import ADMIN, MEMBER
from tests.sse.watching import running


@in_virtual_time
async def test_the_head_says_what_comes_and_that_nobody_may_keep_it() -> None:
    async with running() as theatre:
        head = (await theatre.watch()).head
        assert head[b"content-type"] == b"text/event-stream"
        assert (head[b"cache-control"], head[b"x-accel-buffering"]) == (b"no-store", b"no")
        assert head[b"x-request-id"] == b"request-1"
        assert b"content-encoding" not in head


@in_virtual_time
async def test_a_stream_begins_with_the_wait_before_a_retry_and_an_id() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        retry, id_, *rest = watcher.text.split("\n")
        assert (retry, id_[:4], rest) == ("retry: 2000", "id: ", ["", ""])


@in_virtual_time
async def test_there_is_a_sign_of_life_when_nothing_happens_or_nothing_that_is_wanted() -> None:
    async with running() as theatre:
        quiet = await theatre.watch()
        busy = await theatre.watch("events=message_failed&heartbeat_ms=2000")
        for _ in range(31):
            await asyncio.sleep(1)
            await theatre.publish(b"1")
        assert quiet.text.count(": heartbeat") == 0
        assert 14 <= busy.text.count(": heartbeat") <= 16
        await asyncio.sleep(16)
        assert quiet.text.count(": heartbeat") == 1


@pytest.mark.parametrize(
    "query",
    [
        *("events=", "events=message_delivered", "events=new_message,", "what=1", "last_event_id=" + 129 * "x"),
        *("heartbeat_ms=999", "heartbeat_ms=60001", "heartbeat_ms=x"),
    ],
)
def test_a_bad_query_is_refused(query: str) -> None:
    @in_virtual_time
    async def run() -> None:
        async with running() as theatre:
            with pytest.raises(Invalid) as refused:
                await theatre.watch(query)
            assert refused.value.errors[0].pointer == "/" + query.partition("=")[0]
            assert not theatre.events.open

    run()


@in_virtual_time
async def test_a_queue_that_is_not_there_is_not_made_by_looking_at_it() -> None:
    async with running() as theatre:
        with pytest.raises(NotFound):
            await theatre.watch(queue="other")
        assert not theatre.broker.knows("other")


@in_virtual_time
async def test_d12_it_takes_the_right_to_view() -> None:
    async with running() as theatre:
        for name in ("half.q", "hidden.q"):
            await theatre.queue(name)
        await theatre.watch(user="mia", queue="half.q")
        with pytest.raises(NotFound):
            await theatre.watch(user="mia", queue="hidden.q")
        theatre.users["mia"] = replace(MEMBER, grants=(Grant("half.*", (Action.CONSUME, Action.MANAGE)),))
        with pytest.raises(Forbidden):
            await theatre.watch(user="mia", queue="half.q")


@in_virtual_time
async def test_a_user_opens_no_more_than_it_may() -> None:
    async with running(most_open=2) as theatre:
        await theatre.queue("open.q")
        first, _ = [await theatre.watch(user="mia", queue="open.q") for _ in range(2)]
        with pytest.raises(RateLimited):
            await theatre.watch(user="mia", queue="open.q")
        assert theatre.counters.streams == 2
        first.leave()
        await turns()
        await theatre.watch(user="mia", queue="open.q")


# -- its end -----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_it_ends_with_the_session_and_tells_nothing_more() -> None:
    async with running() as theatre:
        await theatre.queue("open.q")
        watcher = await theatre.watch(user="mia", queue="open.q")
        publishing = asyncio.ensure_future(theatre.publish(b"1", queue="open.q"))
        theatre.change("mia", None)
        await publishing
        await turns()
        assert (watcher.kinds(), watcher.over) == (["end"], True)
        assert watcher.data()["reason"] == "unauthenticated"


@in_virtual_time
async def test_it_ends_with_the_right_to_view_and_stays_with_another_change() -> None:
    async with running() as theatre:
        await theatre.queue("open.q")
        watcher = await theatre.watch(user="mia", queue="open.q")
        theatre.change("mia", replace(MEMBER, grants=(Grant("open.q", (Action.VIEW,)),)))
        await turns()
        assert not watcher.over
        theatre.change("mia", replace(MEMBER, grants=(Grant("open.q", (Action.CONSUME,)),)))
        await turns()
        assert (watcher.data()["reason"], watcher.over) == ("forbidden", True)


@in_virtual_time
async def test_it_ends_with_the_token() -> None:
    async with running() as theatre:
        theatre.users["admin"] = replace(ADMIN, expires_at_ms=clock() + 20_000)
        watcher = await theatre.watch()
        await asyncio.sleep(19)
        assert not watcher.over
        await asyncio.sleep(1.1)
        assert (watcher.data()["reason"], watcher.over) == ("expired", True)


@in_virtual_time
async def test_it_ends_with_the_queue_after_what_happened_there() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        await theatre.publish(b"1")
        await theatre.broker.drop_queue("q")
        await turns()
        assert watcher.kinds() == ["new_message", "end"]
        assert watcher.data() == {"queue": "q", "reason": "queue_deleted", "at": watcher.data()["at"]}
        assert not theatre.broker.events.watched


@in_virtual_time
async def test_it_ends_when_the_broker_stops_after_what_happened_there() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        await theatre.publish(b"1")
        theatre.broker.drain()
        with pytest.raises(Draining):
            await theatre.watch()
        await theatre.events.close_all()
        assert watcher.kinds() == ["new_message", "end"]
        assert (watcher.data()["reason"], watcher.over) == ("draining", True)
        assert not theatre.broker.events.watched


@in_virtual_time
async def test_a_client_that_leaves_is_forgotten() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        assert (theatre.counters.streams, len(theatre.events.open)) == (1, 1)
        watcher.leave()
        await turns()
        assert (theatre.counters.streams, len(theatre.events.open)) == (0, 0)
        theatre.presence.changed("admin")


# -- a slow reader -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_reader_that_is_slower_than_the_window_is_told_how_much_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tape, "WINDOW", 1_000)
    async with running() as theatre:
        slow, quick = await theatre.watch(), await theatre.watch()
        slow.stop_reading()
        for _ in range(5):
            await theatre.publish(*[b"x"] * 1_000)
            await turns()
        await slow.read_on()
        assert quick.kinds() == ["new_message"] * 5_000
        gaps = [index for index, kind in enumerate(slow.kinds()) if kind == "gap"]
        assert len(gaps) == 1
        lost: int = slow.data(gaps[0])["lost"]
        assert lost > 0
        assert len(slow.events()) - 1 + lost == 5_000
        assert slow.text.endswith(quick.text[-1_000:])


@in_virtual_time
async def test_a_reader_that_does_not_read_keeps_nothing_but_one_chunk_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "WINDOW", 10_000)
    async with running() as theatre:
        slow = await theatre.watch()
        slow.stop_reading()
        for _ in range(10):
            await theatre.publish(*[b"x"] * 1_000)
            await turns()
        assert len(slow._unread) < 2 * 64 * 1_024 + 1_000
