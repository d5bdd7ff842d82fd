"""Every engine: looking at messages page by page leases nothing and misses nothing."""

from __future__ import annotations

import pytest

from streambroker.core.errors import Invalid
from streambroker.core.lifecycle import Event
from streambroker.core.message import State, Status
from tests.store.subjects import START, Bench, ids

BAD_CURSORS = ["", "x", "0", "00", "00" + "0" * 15, "00" + "g" * 16, "a0" + "0" * 16, "0-" + "0" * 16, "٣0" + "0" * 16]


async def filled(bench: Bench) -> list[int]:
    """Ten messages in all states and several priorities; their ids in the order of a browse."""
    await bench.failed()
    await bench.publish(*bench.drafts(2, priority=9))
    processed, leased = await bench.take(2)
    await bench.ack(processed)
    drafts = [bench.draft(priority=priority) for priority in (0, 9, 5, 0)]
    later = [bench.draft(priority=priority, available_at=START + 50) for priority in (0, 1)]
    await bench.publish(*drafts, *later)
    ordered = sorted(drafts, key=lambda d: (-d.priority, d.id)) + sorted(later, key=lambda d: (-d.priority, d.id))
    failed = [m.id for m in await bench.all(status=Status.FAILED)]
    return [*ids(ordered), leased.id, processed.id, *failed]


async def test_a_browse_goes_by_state_and_then_in_the_order_of_delivery(bench: Bench) -> None:
    expected = await filled(bench)
    assert ids(await bench.all()) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 9, 10, 500])
async def test_pages_of_any_size_hold_everything_once(bench: Bench, limit: int) -> None:
    expected = await filled(bench)
    assert ids(await bench.all(limit=limit)) == expected


async def test_the_last_page_has_no_cursor(bench: Bench) -> None:
    await bench.publish(*bench.drafts(4))
    page, cursor = await bench.store.browse("q", None, None, None, 4, None)
    assert (len(page), cursor) == (4, None)
    page, cursor = await bench.store.browse("q", None, None, None, 3, None)
    assert len(page) == 3
    assert cursor is not None
    page, cursor = await bench.store.browse("q", None, None, None, 3, cursor)
    assert (len(page), cursor) == (1, None)


@pytest.mark.parametrize(
    ("status", "states"),
    [
        (Status.PENDING, {State.READY, State.DELAYED}),
        (Status.PROCESSING, {State.LEASED}),
        (Status.PROCESSED, {State.PROCESSED}),
        (Status.FAILED, {State.FAILED}),
    ],
)
async def test_a_status_shows_its_states_only(bench: Bench, status: Status, states: set[State]) -> None:
    await filled(bench)
    expected = [message.id for message in await bench.all() if message.state in states]
    assert expected
    assert ids(await bench.all(status=status)) == ids(await bench.all(status=status, limit=1)) == expected


async def test_a_key_shows_its_messages_only(bench: Bench) -> None:
    mine, other, none = bench.draft(key="a"), bench.draft(key="A"), bench.draft()
    await bench.publish(mine, other, none)
    assert ids(await bench.all(key="a")) == [mine.id]
    assert await bench.all(key="") == []


@pytest.mark.parametrize("needle", [b"need", b"\x00\xff", b"%", b"_"])
async def test_contains_looks_for_bytes(bench: Bench, needle: bytes) -> None:
    found, other = bench.draft(b"hay " + needle + b" hay"), bench.draft(b"NEED \x00 hay")
    await bench.publish(other, found)
    assert ids(await bench.all(contains=needle)) == [found.id]


async def test_filters_add_up_over_pages(bench: Bench) -> None:
    drafts = [bench.draft(b"%d" % (number % 3), key=f"k{number % 2}", priority=number % 4) for number in range(24)]
    await bench.publish(*drafts)
    expected = [d.id for d in sorted(drafts, key=lambda d: (-d.priority, d.id)) if d.key == "k1" and d.content == b"2"]
    assert len(expected) == 4
    for limit in (1, 2, 4, 5):
        assert ids(await bench.all(key="k1", contains=b"2", status=Status.PENDING, limit=limit)) == expected


async def test_a_cursor_goes_on_where_its_message_was(bench: Bench) -> None:
    drafts = bench.drafts(4)
    await bench.publish(*drafts)
    page, cursor = await bench.store.browse("q", None, None, None, 2, None)
    await bench.take(2)  # the page's own messages move on
    page, _ = await bench.store.browse("q", Status.PENDING, None, None, 9, cursor)
    assert ids(page) == ids(drafts[2:])


async def test_a_browse_leases_nothing(bench: Bench) -> None:
    await filled(bench)
    before = await bench.all()
    assert await bench.all() == before
    assert [await bench.store.get(message.id) for message in before] == before


async def test_a_browsed_message_is_a_copy(bench: Bench) -> None:
    draft = bench.draft()
    await bench.publish(draft)
    (await bench.stored(draft.id)).state = State.FAILED
    (await bench.all())[0].state = State.FAILED
    (await bench.take_one()).state = State.FAILED
    assert (await bench.stored(draft.id)).state is State.LEASED


async def test_an_unknown_queue_shows_nothing(bench: Bench) -> None:
    assert await bench.store.browse("unknown", None, None, None, 5, None) == ([], None)


@pytest.mark.parametrize("cursor", BAD_CURSORS)
async def test_what_is_no_cursor_is_refused(bench: Bench, cursor: str) -> None:
    with pytest.raises(Invalid):
        await bench.store.browse("q", None, None, None, 5, cursor)


async def test_a_dead_letter_is_seen_in_its_new_queue_only(bench: Bench) -> None:
    await bench.queue(dead_letter_queue="dead")
    await bench.publish(bench.draft())
    message = await bench.take_one()
    await bench.settle(message, Event.REJECT)
    assert await bench.all() == []
    assert ids(await bench.all("dead")) == [message.id]
    assert (await bench.stored(message.id)).queue == "dead"
