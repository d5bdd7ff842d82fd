"""The stream of events: its text, and following it across lost connections."""

from __future__ import annotations

import json
from collections.abc import Sequence

import httpx
import pytest

from streambroker.client.errors import Forbidden, NotFound, ProtocolError
from streambroker.client.events import follow
from streambroker.client.eventstream import MAX_EVENT_CHARS, EventStreamParser, ServerSentEvent
from streambroker.client.models import QueueEvent
from streambroker.client.tokens import FixedToken
from tests.client.answers import Script, Waits, drained, http, problem

TEXT = ": hi\nretry: 10\nid: 1\nevent: new_message\ndata: a\ndata:b\n\nid: 2\r\ndata: c\r\n\r\ndata: cut off"
EVENTS = [ServerSentEvent("new_message", "a\nb", "1"), ServerSentEvent("message", "c", "2")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_events_are_the_same_however_the_bytes_come(size: int) -> None:
    parser, found = EventStreamParser(), list[ServerSentEvent]()
    for start in range(0, len(TEXT), size):
        found += parser.feed(TEXT[start : start + size].encode())
    assert found == EVENTS
    assert (parser.last_id, parser.retry_ms) == ("2", 10)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_end_in_three_ways(end: str) -> None:
    parser = EventStreamParser()
    text = f"event: e{end}data: ü{end}{end}".encode()
    found = [event for byte in text for event in parser.feed(bytes([byte]))]
    assert found == [ServerSentEvent("e", "ü", "")]


def test_an_event_that_is_cut_off_does_not_move_the_last_id_on() -> None:
    parser = EventStreamParser("7")
    assert list(parser.feed(b"id: 8\ndata: half")) == []
    assert parser.last_id == "7"


def test_an_id_without_data_moves_the_last_id_on() -> None:
    parser = EventStreamParser()
    assert list(parser.feed(b"id: 8\n\n")) == []
    assert parser.last_id == "8"


@pytest.mark.parametrize(
    "text", [b"data: " + b"x" * MAX_EVENT_CHARS + b"x", b"data: xxxxxxx\n" * (MAX_EVENT_CHARS // 7 + 1)]
)
def test_an_event_without_an_end_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(EventStreamParser().feed(text))


def stream(*events: tuple[str, str, dict[str, object]], more: str = "") -> httpx.Response:
    text = "".join(f"event: {name}\nid: {id_}\ndata: {json.dumps(data)}\n\n" for name, id_, data in events)
    return httpx.Response(200, content=(text + more).encode(), headers={"content-type": "text/event-stream"})


async def watched(script: Script, waits: Waits | None = None, kinds: Sequence[str] = ()) -> list[QueueEvent]:
    """The events until the broker refuses."""
    found: list[QueueEvent] = []
    client = http(script, FixedToken("key"))
    events = follow(client, "q", kinds=kinds, chance=lambda: 0.0, sleep=waits or Waits())
    with pytest.raises(NotFound):
        await drained(events, found)
    return found


async def test_it_comes_back_after_the_last_event_that_was_whole() -> None:
    first = stream(("new_message", "e1", {"message_id": "m1", "attempt": 0, "of_tomorrow": []}), more="id: e2\ndata: {")
    second = stream(("message_processed", "e2", {"message_id": "m1", "attempt": 1}))
    script, waits = Script(first, second, problem("not_found", 404)), Waits()
    events = await watched(script, waits)
    assert [(event.event, event.id, event.message_id) for event in events] == [
        ("new_message", "e1", "m1"),
        ("message_processed", "e2", "m1"),
    ]
    assert [request.headers.get("last-event-id") for request in script.requests] == [None, "e1", "e2"]
    assert len(waits.seconds) == 2


async def test_it_waits_as_long_as_the_broker_asks() -> None:
    waits = Waits()
    await watched(Script(stream(more="retry: 2000\n\n"), problem("not_found", 404)), waits)
    assert waits.seconds == [2.0]


async def test_a_gap_is_told() -> None:
    gap = stream(("gap", "e9", {"queue": "q", "lost": 3, "at": "2026-11-22T10:00:00.000Z"}))
    (event,) = await watched(Script(gap, problem("not_found", 404)))
    assert (event.event, event.lost) == ("gap", 3)


async def test_the_end_of_the_queue_is_the_end() -> None:
    script = Script(stream(("end", "", {"queue": "q", "reason": "queue_deleted"})))
    assert await watched(script) == []
    assert len(script.requests) == 1


async def test_a_token_that_ends_while_one_watches_is_renewed() -> None:
    class Renewing(FixedToken):
        renewed: Sequence[str | None] = ()

        async def renew(self, refused: str | None) -> str | None:
            self.renewed = [*self.renewed, refused]
            return "newer"

    tokens = Renewing("old")
    script = Script(stream(("end", "", {"queue": "q", "reason": "expired"})), problem("forbidden", 403))
    with pytest.raises(Forbidden):
        await anext(follow(http(script, tokens), "q", sleep=Waits()))
    assert tokens.renewed == ["old"]


async def test_kinds_are_asked_for() -> None:
    script = Script(problem("not_found", 404))
    await watched(script, kinds=["message_failed", "new_message"])
    assert script.requests[0].url.params["events"] == "message_failed,new_message"


async def test_what_is_no_stream_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        await anext(follow(http(Script(httpx.Response(200, json={}))), "q", sleep=Waits()))
