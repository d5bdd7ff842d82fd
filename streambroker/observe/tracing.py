"""Spans of what happens to messages, sent by OTLP over HTTP to a collector (the extra ``otel``).

The only module that knows of OpenTelemetry. It is imported where `otlp_endpoint` is set, and nowhere else. Names and
attributes follow OpenTelemetry's semantic conventions for messaging spans; docs/tracing.md lists them.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from time import time_ns
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes, AttributeValue

from streambroker import __version__
from streambroker.core.lifecycle import Event
from streambroker.core.names import format_id

log = logging.getLogger(__name__)

MAX_LINKS = 32
"""Links of one span: what a span of a large batch may weigh while it waits for the collector."""
MAX_DELIVERED = 50_000
"""Deliveries whose contexts are remembered until they are settled; beyond that the oldest are forgotten."""
CLOSE_S = 2
"""How long the end of the process waits for the collector, in seconds."""

_PATH = "/v1/traces"
_SYSTEM = "streambroker"
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_Values = dict[str, AttributeValue]


class Tracing:
    """A `broker.tracing.Tracer`. Owned by the event loop; what is sent is sent by a thread of its own.

    Spans wait for that thread in a queue of bounded length; when it is full, the oldest is dropped. `ratio` is the
    share of traces that is recorded where nobody else has decided.
    """

    def __init__(self, exporter: SpanExporter, ratio: float = 1.0, address: str = "", port: int = 0) -> None:
        sampler = ParentBased(LinkBased(TraceIdRatioBased(ratio)))
        # At the exit of the process nobody waits for the collector but `close`.
        self._provider = TracerProvider(sampler=sampler, resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_SYSTEM, __version__)
        self._server: _Values = {"server.address": address} if address else {}
        if port:
            self._server["server.port"] = port
        self._delivered: OrderedDict[int, str] = OrderedDict()

    @classmethod
    def to(cls, endpoint: str, ratio: float, host: str, port: int) -> Tracing:
        """Spans go to the collector at `endpoint`, a base URL. `host` and `port` (0: unknown) are the broker's own.

        Raises `ValueError` where a variable of OpenTelemetry's (``OTEL_…``) is wrong.
        """
        # Each attempt that fails would be a line; that a batch is lost is said by an error.
        logging.getLogger(OTLPSpanExporter.__module__).setLevel(logging.ERROR)
        return cls(OTLPSpanExporter(spans_url(endpoint)), ratio, _known_as(host), port)

    def close(self) -> None:
        """Send what waits; returns after `CLOSE_S` at the latest, and what is left then is lost. Blocks."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            log.warning("the collector of spans does not answer; the last spans are lost")

    # -- what the broker tells: `broker.tracing.Tracer` ----------------------------------------------------------------

    def publishing(self, queue: str, parent: str | None, contexts: Sequence[str | None]) -> Publishing:
        """See `Tracer`."""
        around, links = parsed(parent), _links(contexts)
        if around is not None:
            links = [link for link in links if link.context != around]
        # Whose context a message is known by is its producer, in the words of the conventions.
        kind = SpanKind.PRODUCER if None in contexts else SpanKind.CLIENT
        values = self._values("publish", "send", queue, len(contexts))
        span = self._tracer.start_span(f"publish {queue}", _within(around), kind, values, links)
        return Publishing(span)

    def delivered(self, queue: str, contexts: Mapping[int, str | None], took_ms: int) -> None:
        """See `Tracer`."""
        for number, context in contexts.items():
            if context is not None:
                self._remember(number, context)
        values = self._values("receive", "receive", queue, len(contexts)) | _single(list(contexts))
        now = time_ns()
        links = _links(contexts.values())
        began = now - max(took_ms, 0) * 1_000_000
        self._tracer.start_span(f"receive {queue}", Context(), SpanKind.CONSUMER, values, links, began).end(now)

    def settled(
        self, queue: str | None, events: Collection[Event], ids: Sequence[int], began_ns: int, refusal: str | None
    ) -> None:
        """See `Tracer`."""
        goes_on = events == {Event.EXTEND} or refusal is not None
        known = self._delivered.get if goes_on else self._delivered.pop
        links = _links([known(number, None) for number in ids])
        values = self._values("settle", "settle", queue, len(ids)) | _single(ids)
        values[f"messaging.{_SYSTEM}.disposition"] = ",".join(sorted(event.name.lower() for event in events))
        name = "settle" if queue is None else f"settle {queue}"
        span = self._tracer.start_span(name, Context(), SpanKind.CLIENT, values, links, began_ns)
        if refusal is not None:
            _fail(span, refusal)
        span.end(max(time_ns(), began_ns))

    def _values(self, name: str, kind: str, queue: str | None, count: int) -> _Values:
        values: _Values = {
            "messaging.system": _SYSTEM,
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            **self._server,
        }
        if queue is not None:
            values["messaging.destination.name"] = queue
        if count != 1:
            values["messaging.batch.message_count"] = count
        return values

    def _remember(self, number: int, context: str) -> None:
        self._delivered[number] = context
        self._delivered.move_to_end(number)
        if len(self._delivered) > MAX_DELIVERED:
            self._delivered.popitem(last=False)


class Publishing:
    """See `broker.tracing.Publishing`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        text = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        self.traceparent = text if context.is_valid else None

    def stored(self, ids: Sequence[int]) -> None:
        """See `broker.tracing.Publishing`."""
        self._span.set_attributes(_single(ids))
        self._span.end()

    def refused(self, code: str) -> None:
        """See `broker.tracing.Publishing`."""
        _fail(self._span, code)
        self._span.end()


class LinkBased(Sampler):
    """Records what is linked to something that is recorded, and not what is linked only to what is not; `otherwise`
    decides where there are no links. So who reads a recorded trace finds what became of its messages."""

    def __init__(self, otherwise: Sampler) -> None:
        self._otherwise = otherwise

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See `Sampler`."""
        if not links:
            return self._otherwise.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        sampled = any(link.context.trace_flags.sampled for link in links)
        return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP, attributes)

    def get_description(self) -> str:
        """See `Sampler`."""
        return f"LinkBased{{{self._otherwise.get_description()}}}"


def spans_url(endpoint: str) -> str:
    """Where a collector takes spans: `endpoint` with the path that OTLP over HTTP prescribes, if it is not there."""
    path = urlsplit(endpoint).path.rstrip("/")
    return endpoint if path.endswith(_PATH) else endpoint.rstrip("/") + _PATH


def parsed(traceparent: str | None) -> SpanContext | None:
    """The context that the text stands for (W3C Trace Context §3.2); None where it stands for none."""
    match = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == "00" and match[5]):
        return None
    return SpanContext(int(match[2], 16), int(match[3], 16), is_remote=True, trace_flags=TraceFlags(int(match[4], 16)))


def _links(contexts: Iterable[str | None]) -> list[Link]:
    """Links to all the contexts there are, each once: those that are recorded, as far as they go; else one that is not,
    from which the sampler learns it."""
    found = [context for text in dict.fromkeys(contexts) if (context := parsed(text)) is not None]
    recorded = [Link(context) for context in found if context.trace_flags.sampled]
    return recorded[:MAX_LINKS] or [Link(context) for context in found[:1]]


def _known_as(host: str) -> str:
    """The name of a server that listens on `host`: the machine's where that is every address."""
    try:
        return socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host


def _within(parent: SpanContext | None) -> Context:
    return Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())


def _single(ids: Sequence[int]) -> _Values:
    return {"messaging.message.id": format_id(ids[0])} if len(ids) == 1 else {}


def _fail(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR))


def _resource() -> Resource:
    """What the spans are from; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` may say otherwise."""
    own = Resource({"service.name": _SYSTEM, "service.version": __version__, "service.instance.id": str(uuid.uuid4())})
    return Resource.create().merge(own).merge(OTELResourceDetector().detect())
