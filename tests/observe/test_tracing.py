"""Spans of publishes, deliveries and settles: what is in them, what they hang together with, what they may cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from streambroker.broker.tracing import context_of
from streambroker.core.errors import BrokerError
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Attributes, Draft, Message
from streambroker.core.names import format_id
from streambroker.core.policy import QueueConfig
from streambroker.observe.tracing import MAX_LINKS, Tracing, parsed
from streambroker.protocol.json import encode
from tests.broker.virtual import clock
from tests.broker.world import World, running

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECORDED, NOT_RECORDED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


def numbered(number: int, flags: str = "01") -> str:
    """A trace context that differs from those of other numbers."""
    return f"00-{number:032x}-{number:016x}-{flags}"


class Traced:
    """A broker with tracing, and what was recorded of it."""

    def __init__(self, world: World, exporter: InMemorySpanExporter, tracer: Tracing) -> None:
        self.world = world
        self._exporter = exporter
        self._tracer = tracer

    async def publish(self, *contexts: str | None, parent: str | None = None, content: bytes = b"1") -> list[int]:
        """One message for each context, published together."""
        ids = self.world.broker.new_ids(len(contexts), clock())
        drafts = [
            Draft(number, content, attributes=None if own is None else encode(Attributes(traceparent=own)))
            for number, own in zip(ids, contexts, strict=True)
        ]
        return list((await self.world.broker.publish("q", drafts, parent=parent)).ids)

    async def settle(self, messages: Sequence[Message], event: Event = Event.ACK, lease: str | None = None) -> None:
        items = [Settlement(m.id, event, lease or m.lease, until=clock() + 1_000) for m in messages]
        await self.world.broker.settle(items)

    def spans(self) -> list[ReadableSpan]:
        """All that was recorded, in the order in which it ended. Nothing is recorded after this."""
        self._tracer.close()
        return list(self._exporter.get_finished_spans())


@asynccontextmanager
async def traced(ratio: float = 1.0, **config: Any) -> AsyncIterator[Traced]:
    exporter = InMemorySpanExporter()
    tracer = Tracing(exporter, ratio, "broker.test", 8_000)
    async with running(tracer=tracer) as world:
        await world.queue(**config)
        yield Traced(world, exporter, tracer)
    tracer.close()


def values(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def text_of(context: Any) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def links(span: ReadableSpan) -> list[str]:
    return [text_of(link.context) for link in span.links]


EVERYWHERE = {
    "messaging.system": "streambroker",
    "messaging.destination.name": "q",
    "server.address": "broker.test",
    "server.port": 8_000,
}


# ---- what is in a span


async def test_a_message_leaves_a_span_when_it_is_published_delivered_and_settled() -> None:
    async with traced() as broker:
        (number,) = await broker.publish(None, content=b'"secret"')
        messages = await broker.world.take()
        await broker.settle(messages)
        publish, receive, settle = broker.spans()
    named = {**EVERYWHERE, "messaging.message.id": format_id(number)}
    assert [(span.name, span.kind) for span in (publish, receive, settle)] == [
        ("publish q", SpanKind.PRODUCER),
        ("receive q", SpanKind.CONSUMER),
        ("settle q", SpanKind.CLIENT),
    ]
    operation, kind = "messaging.operation.name", "messaging.operation.type"
    assert values(publish) == {**named, operation: "publish", kind: "send"}
    assert values(receive) == {**named, operation: "receive", kind: "receive"}
    assert values(settle) == {
        **named,
        operation: "settle",
        kind: "settle",
        "messaging.streambroker.disposition": "ack",
    }
    assert all(span.start_time <= span.end_time for span in (publish, receive, settle))  # type: ignore[operator]


async def test_a_batch_is_one_span_that_counts_its_messages() -> None:
    async with traced() as broker:
        await broker.publish(None, None, None)
        messages = await broker.world.take(limit=3)
        await broker.settle(messages)
        spans = broker.spans()
    assert [span.name for span in spans] == ["publish q", "receive q", "settle q"]
    assert all(values(span)["messaging.batch.message_count"] == 3 for span in spans)
    assert all("messaging.message.id" not in values(span) for span in spans)


async def test_each_consumer_that_gets_messages_has_a_span_and_who_gets_none_has_not() -> None:
    async with traced() as broker:
        peers = [await broker.world.connect() for _ in range(2)]
        for peer in peers:
            await peer.call("subscribe", queue="q", credit=1)
        assert await broker.world.take(wait_ms=0) == []
        await broker.publish(None, None)
        for peer in peers:
            await peer.deliveries(1)
        names = [span.name for span in broker.spans()]
    assert names.count("receive q") == 2


async def test_a_publish_that_is_refused_says_why() -> None:
    async with traced(max_messages=1) as broker:
        await broker.publish(None)
        with pytest.raises(BrokerError):
            await broker.publish(None)
        stored, refused = broker.spans()
    assert stored.status.status_code is StatusCode.UNSET
    assert refused.status.status_code is StatusCode.ERROR
    assert values(refused)["error.type"] == "queue_full"
    assert "messaging.message.id" not in values(refused)


async def test_a_settle_that_is_refused_says_why_and_still_links_to_its_message() -> None:
    async with traced() as broker:
        await broker.publish(RECORDED)
        messages = await broker.world.take()
        await broker.settle(messages, lease="another")
        await broker.settle(messages)
        refused, granted = broker.spans()[-2:]
    assert values(refused)["error.type"] == "lease_lost"
    assert refused.status.status_code is StatusCode.ERROR
    assert "error.type" not in values(granted)
    assert links(refused) == links(granted) == [RECORDED]


@pytest.mark.parametrize("event", [Event.ACK, Event.REQUEUE, Event.REJECT, Event.RELEASE, Event.EXTEND])
async def test_a_settle_tells_what_was_done(event: Event) -> None:
    async with traced() as broker:
        await broker.publish(None)
        await broker.settle(await broker.world.take(), event)
        assert values(broker.spans()[-1])["messaging.streambroker.disposition"] == event.name.lower()


async def test_messages_of_several_queues_that_are_settled_together_are_of_none() -> None:
    async with traced() as broker:
        await broker.world.queue("other")
        await broker.publish(None)
        await broker.world.publish(b"1", queue="other")
        messages = [*await broker.world.take("q"), *await broker.world.take("other")]
        await broker.settle(messages)
        settle = broker.spans()[-1]
    assert settle.name == "settle"
    assert "messaging.destination.name" not in values(settle)


async def test_an_ack_over_a_websocket_leaves_a_span_too() -> None:
    async with traced() as broker:
        peer = await broker.world.connect()
        await peer.call("subscribe", queue="q")
        await broker.publish(RECORDED)
        (message,) = await peer.deliveries(1)
        await peer.call("ack", ids=[message["message_id"]])
        settle = broker.spans()[-1]
    assert settle.name == "settle q"
    assert links(settle) == [RECORDED]


# ---- what it hangs together with


async def test_a_message_without_a_context_carries_that_of_its_publish() -> None:
    async with traced() as broker:
        await broker.publish(None)
        messages = await broker.world.take()
        await broker.settle(messages)
        publish, receive, settle = broker.spans()
    carried = text_of(publish.context)
    assert context_of(messages[0].attributes) == carried
    assert links(receive) == links(settle) == [carried]
    assert receive.parent is None
    assert settle.parent is None


async def test_a_context_of_a_messages_own_is_kept_and_linked_to() -> None:
    async with traced() as broker:
        await broker.publish(RECORDED, parent=numbered(7))
        messages = await broker.world.take()
        publish, receive = broker.spans()
    assert context_of(messages[0].attributes) == RECORDED
    assert publish.parent is not None
    assert text_of(publish.parent) == numbered(7)
    assert publish.context is not None
    assert publish.context.trace_id == 7
    assert publish.kind is SpanKind.CLIENT  # its context is nobody's creation context
    assert links(publish) == links(receive) == [RECORDED]


async def test_the_requests_context_that_became_the_messages_is_parent_and_not_linked_to() -> None:
    async with traced() as broker:
        await broker.publish(RECORDED, parent=RECORDED)
        (publish,) = broker.spans()
    assert publish.parent is not None
    assert text_of(publish.parent) == RECORDED
    assert links(publish) == []


async def test_attributes_of_a_message_stay_what_they_were_when_it_gets_a_context() -> None:
    given = b'{"content_type":"text/plain","headers":{"n": 1.50, "s":"\\u00e9"},"dedup_id":"d"}'
    async with traced() as broker:
        ids = broker.world.broker.new_ids(1, clock())
        await broker.world.broker.publish("q", [Draft(ids[0], b"1", attributes=given)], digests=(b"x",))
        (message,) = await broker.world.take()
        (publish, _) = broker.spans()
    assert message.attributes == given[:-1] + f',"traceparent":"{text_of(publish.context)}"}}'.encode()


async def test_the_messages_of_one_delivery_are_linked_to_each_once() -> None:
    contexts = [numbered(number) for number in (1, 2, 1, 3)]
    async with traced() as broker:
        await broker.publish(*contexts)
        messages = await broker.world.take(limit=4)
        await broker.settle(messages)
        publish, receive, settle = broker.spans()
    assert links(publish) == links(receive) == links(settle) == [numbered(1), numbered(2), numbered(3)]


async def test_a_message_that_is_delivered_again_links_to_the_same_context() -> None:
    async with traced() as broker:
        await broker.publish(RECORDED)
        for _ in range(2):
            await broker.settle(await broker.world.take(), Event.RELEASE)
        spans = broker.spans()
    assert [span.name for span in spans[1:]] == ["receive q", "settle q"] * 2
    assert [links(span) for span in spans[1:]] == [[RECORDED]] * 4


def test_a_settle_of_what_another_process_delivered_has_no_link() -> None:
    tracer = Tracing(exporter := InMemorySpanExporter())
    tracer.settled("q", {Event.ACK}, [1], 1, None)
    tracer.close()
    (settle,) = exporter.get_finished_spans()
    assert links(settle) == []


# ---- what is recorded


async def test_who_publishes_decides_whether_it_is_recorded() -> None:
    async with traced() as broker:
        await broker.publish(None, parent=NOT_RECORDED)
        messages = await broker.world.take()
        await broker.settle(messages)
        assert broker.spans() == []
    carried = parsed(context_of(messages[0].attributes))
    assert carried is not None
    assert f"{carried.trace_id:032x}" == TRACE
    assert not carried.trace_flags.sampled


async def test_what_the_publisher_records_is_recorded_whatever_the_ratio() -> None:
    async with traced(ratio=0) as broker:
        await broker.publish(None, parent=RECORDED)
        await broker.publish(RECORDED)
        messages = await broker.world.take(limit=2)
        await broker.settle(messages)
        assert [span.name for span in broker.spans()] == ["publish q", "publish q", "receive q", "settle q"]


async def test_a_ratio_of_nothing_records_nothing_of_its_own() -> None:
    async with traced(ratio=0) as broker:
        await broker.publish(None)
        messages = await broker.world.take()
        await broker.settle(messages)
        assert broker.spans() == []
    assert context_of(messages[0].attributes) is not None  # others learn from it that it is not recorded


async def test_one_recorded_message_among_many_gets_its_batch_recorded() -> None:
    async with traced(ratio=0) as broker:
        await broker.publish(*(numbered(n, "00") for n in range(1, 200)), numbered(200))
        messages = await broker.world.take(limit=200)
        await broker.settle(messages)
        spans = broker.spans()
    assert [span.name for span in spans] == ["publish q", "receive q", "settle q"]
    assert all(links(span) == [numbered(200)] for span in spans)


# ---- contexts that are none


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-٠١",
    ],
)
async def test_what_is_no_context_is_carried_and_not_linked_to(text: str) -> None:
    assert parsed(text) is None
    async with traced() as broker:
        await broker.publish(text, parent=text)
        messages = await broker.world.take()
        publish, receive = broker.spans()
    assert context_of(messages[0].attributes) == text
    assert publish.parent is None
    assert links(publish) == links(receive) == []


def test_a_later_version_may_say_more() -> None:
    assert parsed(f"01-{TRACE}-{SPAN}-01-what.comes") == parsed(RECORDED) is not None


@given(st.text(max_size=600))
def test_no_text_breaks_the_parser(text: str) -> None:
    assert parsed(text) is None


async def test_a_span_has_no_more_links_than_it_may_have() -> None:
    async with traced() as broker:
        await broker.publish(*(numbered(number) for number in range(1, MAX_LINKS + 100)))
        await broker.world.take(limit=1_000)
        assert [len(span.links) for span in broker.spans()] == [MAX_LINKS] * 2


async def test_without_a_tracer_a_message_is_stored_as_it_came() -> None:
    async with running() as world:
        await world.broker.create_queue("q", QueueConfig())
        await world.publish(b"1")
        (message,) = await world.take()
    assert message.attributes is None
