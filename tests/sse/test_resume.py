"""Going on where the client was cut off: nothing is lost, nothing comes twice, and what is lost is said."""

from __future__ import annotations

import asyncio

import pytest

from streambroker.transport.sse import tape
from tests.broker.virtual import in_virtual_time, turns
from tests.sse.watching import Theatre, Watcher, running


def numbers(*watchers: Watcher) -> list[str]:
    """The messages that they were told of, one after the other."""
    return [watcher.data(index)["message_id"] for watcher in watchers for index in range(len(watcher.events()))]


def told(ids: list[int]) -> list[str]:
    return [f"{number:016x}" for number in ids]


@in_virtual_time
async def test_who_was_cut_off_hears_what_it_missed_once() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        ids = await theatre.publish(b"1", b"2")
        await turns()
        watcher.leave()
        await turns()
        ids += await theatre.publish(b"3", b"4")
        again = await theatre.watch(last_event_id=watcher.last_id)
        ids += await theatre.publish(b"5")
        await turns()
        assert numbers(watcher, again) == told(ids)


@in_virtual_time
async def test_who_was_cut_off_before_the_first_event_misses_none() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        assert watcher.events() == []
        watcher.leave()
        ids = await theatre.publish(b"1")
        again = await theatre.watch(f"last_event_id={watcher.last_id}")
        assert numbers(again) == told(ids)


@in_virtual_time
async def test_each_id_resumes_right_after_its_event() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        ids = await theatre.publish(*[b"x"] * 20)
        await turns()
        for index, event in enumerate(watcher.events()):
            again = await theatre.watch(last_event_id=event.id)
            assert numbers(again) == told(ids)[index + 1 :]
            again.leave()


@in_virtual_time
async def test_the_header_is_newer_than_the_url() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        old = watcher.last_id
        await theatre.publish(b"1")
        ids = await theatre.publish(b"2")
        await turns()
        first = watcher.events()[0].id
        again = await theatre.watch(f"last_event_id={old}", last_event_id=first)
        assert numbers(again) == told(ids)


@in_virtual_time
async def test_an_id_that_is_older_than_the_window_is_a_gap_and_the_window_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tape, "WINDOW", 3)
    async with running() as theatre:
        watcher = await theatre.watch()
        start = watcher.last_id
        ids = await theatre.publish(*[b"x"] * 10)
        await turns()
        again = await theatre.watch(last_event_id=start)
        assert again.kinds() == ["gap", "new_message", "new_message", "new_message"]
        assert again.data(0)["lost"] == 7
        assert numbers_after_gap(again) == told(ids[-3:])


def numbers_after_gap(watcher: Watcher) -> list[str]:
    return [watcher.data(index)["message_id"] for index in range(1, len(watcher.events()))]


@pytest.mark.parametrize("foreign", ["0123456789ab-3", "nonsense", "0123456789ab-", "'; drop", "é"])
def test_an_id_of_another_run_or_of_nobody_is_a_gap(foreign: str) -> None:
    @in_virtual_time
    async def run() -> None:
        async with running() as theatre:
            await theatre.publish(b"before anybody watched")
            await theatre.watch()
            ids = await theatre.publish(b"1")
            await turns()
            again = await theatre.watch(last_event_id=foreign)
            assert again.kinds() == ["gap", "new_message"]
            assert again.data(0)["lost"] is None
            assert numbers_after_gap(again) == told(ids)
            third = await theatre.watch(last_event_id=again.events()[0].id)
            assert numbers(third) == told(ids)

    run()


@in_virtual_time
async def test_an_id_that_was_not_given_out_yet_is_a_gap() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        future = watcher.last_id.replace("-0", "-7")
        assert (await theatre.watch(last_event_id=future)).kinds() == ["gap"]


@in_virtual_time
async def test_events_are_kept_for_a_while_when_nobody_watches() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        watcher.leave()
        await asyncio.sleep(tape.LINGER_S - 1)
        ids = await theatre.publish(b"1")
        again = await theatre.watch(last_event_id=watcher.last_id)
        assert numbers(again) == told(ids)
        again.leave()
        await asyncio.sleep(tape.LINGER_S + 1)
        assert (await theatre.watch(last_event_id=again.last_id)).kinds() == ["gap"]


@in_virtual_time
async def test_a_queue_of_the_same_name_is_another_one() -> None:
    async with running() as theatre:
        watcher = await theatre.watch()
        await theatre.publish(b"1")
        await theatre.broker.drop_queue("q")
        await turns()
        await theatre.queue("q")
        again = await theatre.watch(last_event_id=watcher.last_id)
        assert again.kinds() == ["gap"]


@in_virtual_time
async def test_a_heartbeat_moves_the_id_on_past_what_was_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "WINDOW", 3)
    async with running() as theatre:
        watcher = await theatre.watch("events=message_failed&heartbeat_ms=1000")
        start = watcher.last_id
        for _ in range(10):
            await theatre.publish(b"x")
            await turns()
        assert watcher.last_id == start
        await asyncio.sleep(1.5)
        assert watcher.last_id != start
        assert watcher.kinds() == []
        again = await theatre.watch("events=message_failed", last_event_id=watcher.last_id)
        assert again.kinds() == []
        assert (await theatre.watch("events=message_failed", last_event_id=start)).kinds() == ["gap"]


# -- what is kept ------------------------------------------------------------------------------------------------------


async def kept(theatre: Theatre, queue: str) -> int:
    """How many events of the queue a stream can go back to."""
    watcher = await theatre.watch(queue=queue, last_event_id="nonsense")
    watcher.leave()
    await turns()
    return len(watcher.events()) - 1


@in_virtual_time
async def test_many_queues_share_what_is_kept_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "WINDOW", 10)
    monkeypatch.setattr(tape, "WINDOWS", 20)
    async with running() as theatre:
        for name in "abcde":
            await theatre.queue(name)
        await theatre.watch(queue="a")
        await theatre.publish(*[b"x"] * 30, queue="a")
        assert await kept(theatre, "a") == 10
        for name in "bcde":
            await theatre.watch(queue=name)
            await theatre.publish(*[b"x"] * 30, queue=name)
        assert [await kept(theatre, name) for name in "abcde"] == [4] * 5


@in_virtual_time
async def test_who_watches_many_queues_shortens_no_window_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "WINDOW", 10)
    monkeypatch.setattr(tape, "WINDOWS", 40)
    async with running() as theatre:
        await theatre.watch()
        await theatre.publish(*[b"x"] * 30)
        for name in (f"open.{number}" for number in range(30)):
            await theatre.queue(name)
            await theatre.watch(user="mia", queue=name)
        await theatre.publish(*[b"x"] * 30)
        await theatre.publish(*[b"x"] * 30, queue="open.0")
        assert (await kept(theatre, "q"), await kept(theatre, "open.0")) == (10, 1)
        together = sum(kept_by.most for kept_by in theatre.events.tapes.all())
        assert together == 10 + 30 * 1


@in_virtual_time
async def test_what_several_watch_is_kept_out_of_all_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "WINDOW", 10)
    monkeypatch.setattr(tape, "WINDOWS", 20)
    async with running() as theatre:
        names = [f"open.{number}" for number in range(5)]
        for name in names:
            await theatre.queue(name)
            await theatre.watch(user="mia", queue=name)
        assert theatre.events.tapes.most("open.0") == 4  # alone, it has all
        other = await theatre.watch(queue="open.0")
        assert (theatre.events.tapes.most("open.0"), theatre.events.tapes.most("open.1")) == (10, 2)
        other.leave()
        await turns()
        assert theatre.events.tapes.most("open.0") == 4


@in_virtual_time
async def test_what_nobody_watches_any_more_is_kept_out_of_the_share_of_who_left_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tape, "WINDOW", 10)
    monkeypatch.setattr(tape, "WINDOWS", 20)
    async with running() as theatre:
        for name in ("open.0", "open.1", "open.2"):
            await theatre.queue(name)
            (await theatre.watch(user="mia", queue=name)).leave()
        await turns()
        assert theatre.events.tapes.most("open.0") == 6
        await theatre.watch(queue="open.0")  # taken up by another one, who pays for it now
        assert [theatre.events.tapes.most(name) for name in ("open.0", "open.1")] == [10, 5]
        await asyncio.sleep(tape.LINGER_S + 1)
        assert [one.queue for one in theatre.events.tapes.all()] == ["open.0"]


@in_virtual_time
async def test_who_leaves_many_queues_has_none_of_others_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "MOST_LINGERING", 3)
    async with running() as theatre:
        (await theatre.watch()).leave()
        for name in (f"open.{number}" for number in range(9)):
            await theatre.queue(name)
            (await theatre.watch(user="mia", queue=name)).leave()
            await turns()
        assert sorted(theatre.broker.events.watched) == ["open.7", "open.8", "q"]


@in_virtual_time
async def test_of_the_queues_that_nobody_watches_the_first_ones_left_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tape, "MOST_LINGERING", 2)
    async with running() as theatre:
        for name in "abc":
            await theatre.queue(name)
            (await theatre.watch(queue=name)).leave()
            await turns()
        assert sorted(theatre.broker.events.watched) == ["b", "c"]
