"""Spans over the wire: a real broker, and a collector of the test's own that takes OTLP over HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue
from tests.wire.people import grant, somebody
from tests.wire.sockets import open_socket

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
PATIENCE_S = 30


class Collector:
    """Takes spans at ``/v1/traces`` of a loopback port, and keeps them and the bytes they came in."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self.requests: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._came = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector._take(self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_request(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        assert path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            self.requests.append(body)
            self.headers.append(headers)
            for resource in request.resource_spans:
                self.resource = {a.key: a.value.string_value for a in resource.resource.attributes}
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self._came.notify_all()

    def take(self, *names: str) -> list[Span]:
        """The spans of these names, in that order, once they are all there."""

        def found() -> dict[str, Span]:
            return {span.name: span for span in self.spans}

        with self._came:
            assert self._came.wait_for(lambda: set(names) <= found().keys(), PATIENCE_S), sorted(found())
            return [found()[name] for name in names]


def values(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


def linked(span: Span) -> list[str]:
    return [f"00-{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links]


def context(span: Span) -> str:
    return f"00-{span.trace_id.hex()}-{span.span_id.hex()}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    taking = Collector()
    thread = threading.Thread(target=taking.server.serve_forever)
    thread.start()
    try:
        yield taking
    finally:
        taking.server.shutdown()
        thread.join()
        taking.server.server_close()


@contextmanager
def tracing_to(url: str, data_dir: Path, **env: str) -> Iterator[BrokerProcess]:
    env = {**NO_LIMITS, "STREAMBROKER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "20", "NO_PROXY": "*", **env}
    with BrokerProcess(data_dir, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[BrokerProcess]:
    headers = "x-tenant=blue"
    with tracing_to(collector.url, tmp_path_factory.mktemp("traced"), OTEL_EXPORTER_OTLP_HEADERS=headers) as running:
        yield running


@pytest.fixture(scope="module")
def client(traced: BrokerProcess) -> Iterator[httpx.Client]:
    with traced.client() as logged_in:
        yield logged_in


def ack(client: httpx.Client, message: dict[str, Any]) -> None:
    reply = client.post(f"/messages/{message['message_id']}/ack", json={"lease": message["lease"]})
    assert reply.status_code == 200, reply.text


def names_for(queue: Queue) -> list[str]:
    return [f"{operation} {queue.name}" for operation in ("publish", "receive", "settle")]


def test_spans_of_a_message_hang_together_with_the_request_that_published_it(
    client: httpx.Client, collector: Collector
) -> None:
    queue = Queue(client)
    published = queue.post("/messages", {"content": 1}, headers={"traceparent": TRACEPARENT}).json()
    message = queue.take()
    ack(client, message)
    assert message["traceparent"] == TRACEPARENT
    publish, receive, settle = collector.take(*names_for(queue))
    assert (publish.trace_id.hex(), publish.parent_span_id.hex()) == (TRACE, SPAN)
    assert publish.kind == Span.SPAN_KIND_CLIENT
    assert receive.kind == Span.SPAN_KIND_CONSUMER
    for span in (receive, settle):
        assert linked(span) == [f"00-{TRACE}-{SPAN}"]
        assert span.parent_span_id == b""
    for span in (publish, receive, settle):
        assert values(span)["messaging.message.id"] == published["message_id"]
        assert span.end_time_unix_nano >= span.start_time_unix_nano > 0


def test_a_message_that_came_without_a_context_leads_its_consumer_to_the_publish(
    traced: BrokerProcess, client: httpx.Client, collector: Collector
) -> None:
    queue = Queue(client)
    with open_socket(traced.ws_url + "/ws", token=traced.token()) as ws:
        ws.op("welcome")
        ws.ok("subscribe", queue=queue.name)
        ws.ok("publish", queue=queue.name, messages=[{"content": 1, "headers": {"n": 1.50}}])
        (message,) = ws.deliveries(1)
        ws.ok("ack", ids=[message["message_id"]])
    publish, receive, settle = collector.take(*names_for(queue))
    assert publish.kind == Span.SPAN_KIND_PRODUCER
    assert message["traceparent"].startswith(context(publish))
    assert message["headers"] == {"n": 1.50}
    assert linked(receive) == linked(settle) == [context(publish)]
    assert values(settle)["messaging.streambroker.disposition"] == "ack"


def test_a_batch_goes_by_one_span(client: httpx.Client, collector: Collector) -> None:
    queue = Queue(client)
    queue.publish_many(*range(5))
    assert len(queue.take_many(5)) == 5
    for span in collector.take(*names_for(queue)[:2]):
        assert values(span)["messaging.batch.message_count"] == 5


def test_nothing_of_a_message_or_a_user_is_in_a_span(client: httpx.Client, collector: Collector) -> None:
    queue = Queue(client)
    secret = "do-not-show-this"
    with somebody(client, grants=[grant("*", "publish", "consume", "view")]) as person:
        own = Queue(person.client, queue.name)
        fields = ("key", "dedup_id", "correlation_id", "reply_to", "content_type")
        own.publish({secret: secret}, headers={secret: secret}, **dict.fromkeys(fields, secret))
        message = own.take()
        reply = person.client.post(
            f"/messages/{message['message_id']}/nack", json={"reason": secret, "lease": message["lease"]}
        )
        assert reply.status_code == 200
        spans = collector.take(*names_for(queue))
        sent = b"".join(collector.requests)
        assert secret.encode() not in sent
        assert person.name.encode() not in sent
        assert message["lease"].encode() not in sent
    known = {
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.destination.name",
        "messaging.message.id",
        "messaging.streambroker.disposition",
        "server.address",
    }
    assert {name for span in spans for name in values(span)} == known


def test_the_collector_learns_who_sends_and_gets_the_headers_it_wants(
    client: httpx.Client, collector: Collector
) -> None:
    queue = Queue(client)
    queue.publish()
    collector.take(f"publish {queue.name}")
    assert collector.resource["service.name"] == "streambroker"
    assert collector.resource["service.instance.id"]
    assert all(headers["x-tenant"] == "blue" for headers in collector.headers)


def test_what_waits_is_sent_before_the_end(tmp_path: Path, collector: Collector) -> None:
    hour = "3600000"
    name = {"OTEL_SERVICE_NAME": "orders-broker"}
    with tracing_to(collector.url, tmp_path, OTEL_BSP_SCHEDULE_DELAY=hour, **name) as broker, broker.client() as client:
        queue = Queue(client, "sent-at-the-end")
        queue.publish()
        assert broker.terminate() == 0
    collector.take("publish sent-at-the-end")
    assert collector.resource["service.name"] == "orders-broker"


# ---- a collector that is not there


def goes_on(broker: BrokerProcess, wait: Callable[[], None]) -> None:
    """Messages pass before and after `wait`, and the broker stops as it was asked to."""
    with broker.client() as client:
        queue = Queue(client)
        for _ in range(2):
            ids = [queue.publish(number) for number in range(50)]
            messages = [queue.take() for _ in ids]
            assert [message["message_id"] for message in messages] == ids
            for message in messages:
                ack(client, message)
            wait()
        assert client.get("/readyz").status_code == 200
    assert broker.terminate() == 0


def test_a_collector_that_never_answers_fails_no_request_and_no_stop(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        accepted: list[socket.socket] = []

        def asked() -> None:
            if not accepted:
                accepted.append(silent.accept()[0])  # from now on an export is under way that does not end

        with tracing_to(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path) as broker:
            goes_on(broker, asked)
        for connection in accepted:
            connection.close()


def test_a_collector_that_is_away_fails_no_request_and_no_stop(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    with tracing_to(f"http://127.0.0.1:{port}", tmp_path) as broker:
        goes_on(broker, lambda: None)


def test_without_a_collector_a_message_carries_no_context_but_its_own(api: httpx.Client) -> None:
    queue = Queue(api)
    queue.publish()
    assert queue.take()["traceparent"] is None
