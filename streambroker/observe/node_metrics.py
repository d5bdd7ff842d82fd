"""What metrics tell of the broker as a whole: how long things take, its storage, its clients."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streambroker import __version__
from streambroker.core.histogram import Histogram


class Storage(Protocol):
    """What a store tells of itself at one moment; see `store.figures.StoreFigures`."""

    @property
    def turn_messages(self) -> Histogram: ...
    @property
    def turn_seconds(self) -> Histogram: ...
    @property
    def sync_seconds(self) -> Histogram: ...
    @property
    def waiting_messages(self) -> int: ...
    @property
    def waiting_bytes(self) -> int: ...
    @property
    def database_bytes(self) -> int: ...
    @property
    def log_bytes(self) -> int: ...
    @property
    def free_bytes(self) -> int: ...
    @property
    def disk_full(self) -> bool: ...
    @property
    def quota_used_up(self) -> bool: ...


class Requests(Protocol):
    """Requests that were answered; see `transport.counting.Requests`. May be asked from any thread."""

    def counts(self) -> Iterable[tuple[str, str, int, int]]:
        """Method, route template, status, how many."""
        ...

    def durations(self) -> Iterable[tuple[str, str, str, Histogram]]:
        """Method, route template, class of status such as ``2xx``, seconds."""
        ...


@dataclass(frozen=True, slots=True)
class NodeSources:
    """Where the figures come from; each may be asked from any thread.

    `confirm` and `lag` are in seconds, `delivery` in milliseconds. `connections`, `auth_failures` and `rate_limited`
    are by kind, `webhook_deliveries` by outcome, `cut_off` by reason. `clocks_ms`: the broker's
    clock and the machine's, since 1970.
    """

    confirm: Histogram
    delivery: Histogram
    lag: Histogram
    storage: Callable[[], Storage]
    requests: Requests
    connections: Callable[[], Mapping[str, int]]
    auth_failures: Callable[[], Mapping[str, int]]
    rate_limited: Callable[[], Mapping[str, int]]
    draining: Callable[[], bool]
    webhook_deliveries: Callable[[], Mapping[str, int]] = dict
    webhook_requests: Callable[[], int] = int
    cut_off: Callable[[], Mapping[str, int]] = dict
    clocks_ms: Callable[[], tuple[int, int]] = lambda: (0, 0)


class NodeCollector(Collector):
    """Tells of the broker as a whole. The values of its labels are the broker's own words, so they are bounded."""

    def __init__(self, sources: NodeSources) -> None:
        self._sources = sources
        self._build = {
            "version": __version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        }

    def collect(self) -> Iterator[Metric]:
        """All families."""
        sources = self._sources
        yield InfoMetricFamily("streambroker_build", "Versions of the broker and what it runs on.", self._build)
        yield GaugeMetricFamily("streambroker_draining", "1 while the broker stops.", value=sources.draining())
        yield from _clocks(*sources.clocks_ms())
        yield _histogram(
            "streambroker_publish_confirm_seconds",
            "From a decoded publish until it is durable.",
            sources.confirm,
        )
        yield _histogram(
            "streambroker_delivery_latency_seconds",
            "From when a message could be delivered (its publish, or the end of its delay) until it first was.",
            sources.delivery,
            per_second=1_000,
        )
        yield _histogram(
            "streambroker_event_loop_lag_seconds",
            "How late the event loop was, asked once a second.",
            sources.lag,
        )
        yield from _storage(sources.storage())
        yield from _requests(sources.requests)
        yield _by(
            GaugeMetricFamily("streambroker_connections", "Open connections and parked polls.", labels=["kind"]),
            sources.connections(),
        )
        yield _by(
            CounterMetricFamily("streambroker_auth_failures", "Credentials that were refused.", labels=["kind"]),
            sources.auth_failures(),
        )
        yield _by(
            CounterMetricFamily(
                "streambroker_rate_limited", "Requests and frames that a rate limit refused.", labels=["kind"]
            ),
            sources.rate_limited(),
        )
        yield _by(
            CounterMetricFamily(
                "streambroker_slow_clients_cut_off",
                "Connections that were ended because the client did not read, by why.",
                labels=["reason"],
            ),
            sources.cut_off(),
        )
        yield _by(
            CounterMetricFamily(
                "streambroker_webhook_deliveries", "Requests to webhooks, by what came of them.", labels=["outcome"]
            ),
            sources.webhook_deliveries(),
        )
        yield GaugeMetricFamily(
            "streambroker_webhook_requests",
            "Requests to webhooks that are under way.",
            value=sources.webhook_requests(),
        )


def _clocks(broker_ms: int, machine_ms: int) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "streambroker_clock_seconds", "The broker's clock, by which messages live, since 1970.", value=broker_ms / 1_000
    )
    yield GaugeMetricFamily(
        "streambroker_clock_step_seconds",
        "How far the machine's clock was set since the broker started, which its own does not follow.",
        value=(machine_ms - broker_ms) / 1_000,
    )


def _storage(storage: Storage) -> Iterator[Metric]:
    yield _histogram("streambroker_group_commit_messages", "Messages that shared a commit.", storage.turn_messages)
    yield _histogram(
        "streambroker_group_commit_duration_seconds",
        "From taking a group until it is durable.",
        storage.turn_seconds,
    )
    yield _histogram(
        "streambroker_sync_duration_seconds", "Of that: writing the log and its fsync (COMMIT).", storage.sync_seconds
    )
    for name, about, value in (
        ("store_waiting_messages", "Messages that wait for a commit, of publishes.", storage.waiting_messages),
        ("store_waiting_bytes", "Bytes that wait for a commit, of publishes.", storage.waiting_bytes),
        ("store_database_bytes", "Size of the database file.", storage.database_bytes),
        ("store_wal_bytes", "Size of the write-ahead log.", storage.log_bytes),
        ("store_free_bytes", "Free space where the data is.", storage.free_bytes),
    ):
        yield GaugeMetricFamily(f"streambroker_{name}", about, value=value)
    yield _by(
        GaugeMetricFamily(
            "streambroker_store_full", "1 while publishes are refused for want of room, and of what.", labels=["reason"]
        ),
        {"disk": storage.disk_full, "quota": storage.quota_used_up},
    )


def _requests(requests: Requests) -> Iterator[Metric]:
    answered = CounterMetricFamily("streambroker_http_requests", "HTTP requests that were answered.")
    for method, route, status, count in requests.counts():
        labels = {"method": method, "route": route, "status": str(status)}
        answered.add_sample("streambroker_http_requests_total", labels, count)
    yield answered
    name = "streambroker_http_request_duration_seconds"
    took = HistogramMetricFamily(name, "From a request's head until its answer, waits of long polls among them.")
    for method, route, of_class, histogram in requests.durations():
        _add(took, {"method": method, "route": route, "status": of_class}, histogram)
    yield took


def _histogram(name: str, about: str, histogram: Histogram, per_second: int = 1) -> Metric:
    """`per_second` is how many of the histogram's units make one of the metric's."""
    family = HistogramMetricFamily(name, about)
    _add(family, {}, histogram, per_second)
    return family


def _add(family: Metric, labels: dict[str, str], histogram: Histogram, scale: int = 1) -> None:
    counts = list(accumulate(histogram.counts.copy()))  # whoever counts goes on meanwhile
    for bound, count in zip(histogram.bounds, counts, strict=False):
        family.add_sample(f"{family.name}_bucket", {**labels, "le": repr(float(bound / scale))}, count)
    family.add_sample(f"{family.name}_bucket", {**labels, "le": "+Inf"}, counts[-1])
    family.add_sample(f"{family.name}_sum", labels, histogram.total / scale)
    family.add_sample(f"{family.name}_count", labels, counts[-1])


def _by(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]) -> Metric:
    for value, count in values.items():
        family.add_metric([value], count)
    return family
