"""What tracing may cost, where it is switched off, and the settings that lead to a collector."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streambroker.config import SettingError, Settings, read
from streambroker.core.errors import ConfigError, StorageFailed
from streambroker.core.lifecycle import Event
from streambroker.node import Node
from streambroker.observe import tracing
from streambroker.observe.tracing import Tracing, spans_url


def test_what_is_never_settled_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MAX_DELIVERED", 3)
    tracer = Tracing(exporter := InMemorySpanExporter())
    for number in range(1, 6):
        tracer.delivered("q", {number: f"00-{number:032x}-{number:016x}-01"}, 0)
    tracer.settled("q", {Event.ACK}, [1, 2, 3, 4, 5], 1, None)
    tracer.close()
    settle = exporter.get_finished_spans()[-1]
    assert [link.context.trace_id for link in settle.links] == [3, 4, 5]


class Stuck(SpanExporter):
    """A collector that takes a first batch, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.got: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.answer.wait()
        self.got += [span.name for span in spans]
        return SpanExportResult.SUCCESS


def test_a_collector_that_does_not_answer_holds_up_nobody_and_costs_no_more_than_a_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    stuck = Stuck()
    tracer = Tracing(stuck)
    for _ in range(10):
        tracer.publishing("first", None, [None]).stored([1])
    assert stuck.asked.wait(30)
    for number in range(1_000):  # would end here if anything waited for the collector
        tracer.publishing(f"{number}", None, [None]).stored([1])
    stuck.answer.set()
    tracer.close()
    assert stuck.got == ["publish first"] * 10 + [f"publish {number}" for number in range(900, 1_000)]


def test_the_end_does_not_wait_for_a_collector_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "CLOSE_S", 0.01)
    stuck = Stuck()
    tracer = Tracing(stuck)
    tracer.publishing("q", None, [None]).stored([1])
    try:
        tracer.close()
        assert not stuck.answer.is_set()
        assert "the last spans are lost" in caplog.text
    finally:
        stuck.answer.set()


def test_switched_off_by_opentelemetrys_own_variable_nothing_is_recorded_and_nothing_carried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracer = Tracing(exporter := InMemorySpanExporter())
    publishing = tracer.publishing("q", None, [None])
    assert publishing.traceparent is None
    publishing.stored([1])
    tracer.close()
    assert exporter.get_finished_spans() == ()


def test_a_broker_without_a_collector_imports_nothing_of_opentelemetry(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from streambroker import app
from streambroker.config import Settings
from streambroker.node import Node

async def main():
    node = await Node.open(Settings(data_dir=sys.argv[1], admin_password="only for this test"), print)
    node.application()
    await node.close()

asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "google", "requests")))
"""
    argv = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- settings


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.test/ingest", "https://otel.test/ingest/v1/traces"),
        ("https://otel.test/ingest/v1/traces", "https://otel.test/ingest/v1/traces"),
    ],
)
def test_an_endpoint_is_a_base_url(endpoint: str, url: str) -> None:
    assert spans_url(endpoint) == url


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:4318", "grpc://host:4317", "http://", "http://host/?key=1", "http://user:pw@host"]
)
def test_an_endpoint_that_is_no_url_of_a_collector_stops_the_start_and_is_told(endpoint: str) -> None:
    with pytest.raises(SettingError, match="otlp_endpoint"):
        read({}, {"STREAMBROKER_OTLP_ENDPOINT": endpoint})


@pytest.mark.parametrize("ratio", ["-0.1", "1.1", "half"])
def test_a_ratio_is_between_none_and_all(ratio: str) -> None:
    assert read({}, {"STREAMBROKER_TRACE_RATIO": "0.25"}).settings.trace_ratio == 0.25
    with pytest.raises(SettingError, match="trace_ratio"):
        read({}, {"STREAMBROKER_TRACE_RATIO": ratio})


async def refusal_to_open(tmp_path: Path) -> str:
    def fail(error: StorageFailed) -> None:
        raise error

    settings = Settings(data_dir=str(tmp_path), otlp_endpoint="http://127.0.0.1:9")
    with pytest.raises(ConfigError) as refused:
        await Node.open(settings, fail)
    return str(refused.value)


async def test_an_endpoint_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "streambroker.observe.tracing", None)
    assert "pip install 'streambroker[otel]'" in await refusal_to_open(tmp_path)


async def test_a_wrong_variable_of_opentelemetrys_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "many")
    assert "OTEL_" in await refusal_to_open(tmp_path)
