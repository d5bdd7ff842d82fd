"""Events through the broker and back, made and read by the SDK of the CloudEvents project, in every mode."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary_event,
    from_http_event,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from tests.wire.doors import Messages, Queue

pytestmark = pytest.mark.system

IN: dict[str, Callable[[CloudEvent], HTTPMessage]] = {"structured": to_structured_event, "binary": to_binary_event}
OUT = {"structured": {"Accept": "application/cloudevents+json"}, "binary": {"Accept": "*/*"}}
_numbers = itertools.count(1)


def made(data: Any = None, **attributes: Any) -> CloudEvent:
    given = {
        "id": f"A-{next(_numbers)}",
        "source": "/orders/eu?shop=7#a",
        "type": "com.example.order.placed",
        "time": datetime(2026, 11, 22, 10, 13, 0, 123456, tzinfo=UTC),
        **attributes,
    }
    return CloudEvent({name: value for name, value in given.items() if value is not None}, data)


def send(queue: Queue, message: HTTPMessage, **headers: str) -> httpx.Response:
    return queue.api.post(f"{queue.path}/messages", content=message.body, headers={**message.headers, **headers})


def take(queue: Queue, mode: str) -> httpx.Response:
    """Consume one message as an event."""
    params = {"wait_ms": "5000", **({"format": "cloudevents-binary"} if mode == "binary" else {})}
    reply = queue.api.get(f"{queue.path}/messages/consume", params=params, headers=OUT[mode])
    assert reply.status_code == 200, reply.text
    return reply


def read(reply: httpx.Response) -> CloudEvent:
    event = from_http_event(HTTPMessage(dict(reply.headers), reply.content))
    assert isinstance(event, CloudEvent)
    return event


DATA: dict[str, CloudEvent] = {
    "an object": made({"a": [1, 2.5, None, True], "ü": "€ 𝄞"}),
    "an object of a type of its own": made({"a": 1}, datacontenttype="application/vnd.shop+json"),
    "JSON with a parameter": made({"a": 1}, datacontenttype="application/json; charset=utf-8"),
    "text": made("Grüße, 世界\n", datacontenttype="text/plain; charset=utf-8"),
    "XML": made("<a>1</a>", datacontenttype="application/xml"),
    "bytes": made(bytes(range(256)), datacontenttype="application/octet-stream"),
    "an image": made(b"\x89PNG\r\n\x1a\n\x00", datacontenttype="image/png"),
    "nothing": made(None),
    "nothing, of a type": made(None, datacontenttype="text/plain"),
    "no time but the SDK's": made({"a": 1}, time=None),
}
ATTRIBUTES: dict[str, CloudEvent] = {
    "all of them": made({"a": 1}, subject="order 7/ä", dataschema="https://example.com/schema#1", comexampleext="x"),
    "unicode": made("x", datacontenttype="text/plain", subject='Ж "quoted" 100% 𝄞 \\', greeting="¡hola!"),
    "a partition key": made({"a": 1}, partitionkey="customer 7"),
    "a trace": made({"a": 1}, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate="a=1"),
    "an id that is long": made({"a": 1}, id="x" * 600),
    "names at their longest": made({"a": 1}, abcdefghij0123456789="20 characters"),
}


@pytest.mark.parametrize("back", OUT)
@pytest.mark.parametrize("there", IN)
@pytest.mark.parametrize("name", [*DATA, *ATTRIBUTES])
def test_an_event_comes_back_as_it_was(queue: Queue, name: str, there: str, back: str) -> None:
    event = {**DATA, **ATTRIBUTES}[name]
    sent = send(queue, IN[there](event))
    assert sent.status_code == 201, sent.text
    reply = take(queue, back)
    got = read(reply)
    expected = dict(event.get_attributes())
    attributes = dict(got.get_attributes())
    if "datacontenttype" not in expected and event.get_data() is not None and back == "binary":
        assert attributes.pop("datacontenttype") == "application/json"  # what is understood is said, in HTTP
    assert attributes == expected
    assert got.get_data() == event.get_data()
    assert ("ce-id" in reply.headers) is (back == "binary")


@pytest.mark.parametrize("there", IN)
def test_an_event_can_be_looked_at_in_both_modes(queue: Queue, api: httpx.Client, there: str) -> None:
    event = made({"a": 1}, subject="é")
    path = f"/messages/{send(queue, IN[there](event)).json()['message_id']}"
    structured = api.get(path, headers={"Accept": "application/cloudevents+json, application/json;q=0.5"})
    assert structured.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    binary = api.get(path, params={"format": "cloudevents-binary"})
    for reply in (structured, binary):
        got = from_http_event(HTTPMessage(dict(reply.headers), reply.content))
        assert got.get_id() == event.get_id()
        assert got.get_subject() == "é"
        assert got.get_data() == {"a": 1}
        assert "x-message-lease" not in reply.headers
        assert reply.headers["x-message-status"] == "pending"


def test_a_message_that_came_as_no_event_goes_out_as_one(queue: Queue) -> None:
    message_id = queue.publish({"a": 1}, key="k", headers={"colour": "grün"}, correlation_id="c 1", priority=7)
    reply = take(queue, "structured")
    event = from_structured_event(HTTPMessage(dict(reply.headers), reply.content))
    assert (event.get_id(), event.get_source(), event.get_type()) == (
        message_id,
        f"/queues/{queue.name}",
        "streambroker.message",
    )
    assert event.get_datacontenttype() == "application/json"
    assert event.get_extension("partitionkey") == "k"
    assert event.get_data() == {"a": 1}
    assert (reply.headers["x-message-id"], reply.headers["x-message-priority"]) == (message_id, "7")
    assert reply.headers["x-message-correlation-id"] == "c%201"
    assert json.loads(reply.headers["x-message-headers"]) == {"colour": "grün"}


def test_raw_bytes_go_out_as_an_event(queue: Queue) -> None:
    queue.api.post(f"{queue.path}/messages", content=b"\xff\x00", headers={"Content-Type": "image/gif"})
    reply = take(queue, "binary")
    event = from_binary_event(HTTPMessage(dict(reply.headers), reply.content))
    assert (event.get_datacontenttype(), event.get_data()) == ("image/gif", b"\xff\x00")


@pytest.mark.parametrize("mode", OUT)
def test_the_lease_of_a_delivered_event_settles_it(queue: Queue, messages: Messages, mode: str) -> None:
    send(queue, to_structured_event(made({"a": 1})))
    reply = take(queue, mode)
    headers = reply.headers
    assert (headers["x-message-queue"], headers["x-message-attempt"]) == (queue.name, "1")
    assert "x-message-lease-expires-at" in headers
    settled = messages.settle(headers["x-message-id"], "ack", lease=headers["x-message-lease"])
    assert settled["status"] == "processed"


@pytest.mark.parametrize("mode", OUT)
def test_no_event_is_no_content(queue: Queue, mode: str) -> None:
    params = {"format": "cloudevents-binary"} if mode == "binary" else {}
    reply = queue.api.get(f"{queue.path}/messages/consume", params=params, headers=OUT[mode])
    assert (reply.status_code, reply.content) == (204, b"")


# -- batches -----------------------------------------------------------------------------------------------------------

BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def as_batch(*events: CloudEvent) -> bytes:
    return b"[%b]" % b",".join([to_structured_event(event).body for event in events])


@pytest.mark.parametrize("path", ["/messages", "/messages/batch"])
def test_a_batch_goes_in_and_comes_out(queue: Queue, messages: Messages, path: str) -> None:
    events = [made({"a": 1}), made("text", datacontenttype="text/plain"), made(b"\xff", datacontenttype="image/gif")]
    stored = queue.api.post(queue.path + path, content=as_batch(*events), headers=BATCH)
    assert stored.status_code == 201, stored.text
    assert len(stored.json()["message_ids"]) == 3
    accept = {"Accept": "application/cloudevents-batch+json"}
    taken = queue.post("/messages/consume", {"max": 10}, headers=accept)
    assert taken.headers["content-type"] == "application/cloudevents-batch+json; charset=utf-8"
    for event, one in zip(events, taken.json(), strict=True):
        own = {name: one.pop(name) for name in ("sbmessageid", "sbqueue", "sbattempt", "sblease")}
        assert (own["sbqueue"], own["sbattempt"]) == (queue.name, 1)
        got = read(httpx.Response(200, headers={"content-type": "application/cloudevents+json"}, json=one))
        assert got.get_attributes() == event.get_attributes()
        assert got.get_data() == event.get_data()
        assert messages.settle(own["sbmessageid"], "ack", lease=own["sblease"])["status"] == "processed"


def test_an_empty_batch_is_nothing_to_store(queue: Queue) -> None:
    stored = queue.api.post(f"{queue.path}/messages", content=b"[]", headers=BATCH)
    assert (stored.status_code, stored.json()) == (200, {"message_ids": [], "duplicates": []})
    taken = queue.post("/messages/consume", {"max": 10}, headers={"Accept": "application/cloudevents-batch+json"})
    assert taken.json() == []


def test_a_batch_with_one_bad_event_stores_none_and_names_it(queue: Queue) -> None:
    bad = json.loads(to_structured_event(made({"a": 1})).body)
    del bad["type"]
    body = as_batch(made({"a": 1}))[:-1] + b"," + json.dumps(bad).encode() + b"]"
    refused = queue.api.post(f"{queue.path}/messages", content=body, headers=BATCH)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/1/type")
    assert queue.counts()["pending"] == 0


# -- what an event is as a message -------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", IN)
def test_consumers_of_json_see_an_event_as_a_message(queue: Queue, there: str) -> None:
    event = made({"n": 1}, subject="s", partitionkey="customer 7", comexample="x")
    send(queue, IN[there](event))
    message = queue.take()
    assert message["content"] == {"n": 1}
    assert message["key"] == "customer 7"
    assert message["dedup_id"] == f"{event.get_source()} {event.get_id()}"
    assert message["headers"] == {
        "ce-specversion": "1.0",
        "ce-id": event.get_id(),
        "ce-source": event.get_source(),
        "ce-type": event.get_type(),
        "ce-time": "2026-11-22T10:13:00.123456Z",
        "ce-subject": "s",
        "ce-partitionkey": "customer 7",
        "ce-comexample": "x",
    }


def test_a_publisher_of_json_can_make_an_event(queue: Queue) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/me", "ce-type": "t", "ce-n": 5, "other": "x"}
    queue.publish({"a": 1}, headers=headers)
    reply = take(queue, "structured")
    assert json.loads(reply.content) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/me",
        "type": "t",
        "n": 5,
        "data": {"a": 1},
    }
    assert json.loads(reply.headers["x-message-headers"]) == {"other": "x"}


@pytest.mark.parametrize("there", IN)
def test_the_same_source_and_id_is_the_same_event(queue: Queue, there: str) -> None:
    event = made({"a": 1}, id=f"same-{there}")
    first, second = send(queue, IN[there](event)), send(queue, to_structured_event(event))
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == {"message_id": first.json()["message_id"], "status": "pending", "duplicate": True}
    other = send(queue, to_structured_event(made({"a": 1}, id=f"same-{there}", source="/elsewhere")))
    assert other.status_code == 201


def test_a_dedup_id_that_is_given_goes_before_source_and_id(queue: Queue) -> None:
    event = made({"a": 1})
    for name in ("Idempotency-Key", "X-Message-Dedup-Id"):
        for there in IN.values():
            key = f"key-{next(_numbers)}"
            assert [send(queue, there(event), **{name: key}).status_code for _ in range(2)] == [201, 200]


@pytest.mark.parametrize("there", IN)
def test_options_are_given_in_headers(queue: Queue, there: str) -> None:
    options = {"X-Message-Priority": "9", "X-Message-Delay-Ms": "60000", "X-Message-Key": "own"}
    options |= {"X-Message-Headers": '{"colour":"blue"}', "X-Message-Correlation-Id": "c"}
    sent = send(queue, IN[there](made({"a": 1}, partitionkey="p")), **options)
    assert sent.status_code == 201, sent.text
    (message,) = queue.browse()
    assert (message["priority"], message["key"], message["correlation_id"]) == (9, "own", "c")
    assert (message["headers"]["colour"], message["headers"]["ce-partitionkey"]) == ("blue", "p")
    assert queue.counts()["delayed"] == 1


def test_a_trace_goes_with_the_message(queue: Queue) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    send(queue, to_binary_event(made({"a": 1}, traceparent=trace)))
    assert queue.take()["traceparent"] == trace
    send(queue, to_binary_event(made({"a": 1})), traceparent=trace)
    assert read(take(queue, "binary")).get_extension("traceparent") == trace
