"""What metrics tell of queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import attrgetter
from typing import NamedTuple, Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streambroker.core.message import State
from streambroker.observe.labels import OTHER, Counts, Labels, Meter

MAX_OTHERS_ASKED = 300
"""Of how many queues without a label the age is looked up: those with the most messages ready."""


class Traffic(Protocol):
    """One queue: its meter, and how many consumers it has."""

    @property
    def meter(self) -> Meter: ...
    @property
    def consumers(self) -> int: ...


@dataclass(frozen=True, slots=True)
class QueueSources:
    """Where the figures come from; each may be called from any thread. Times in milliseconds since 1970.

    `traffic` and `depths` are by queue, the latter indexed by `State`. `oldest` tells of each queue that has messages
    ready when the oldest of them was published.
    """

    traffic: Callable[[], Mapping[str, Traffic]]
    depths: Callable[[], Mapping[str, Sequence[int]]]
    oldest: Callable[[Sequence[str]], Mapping[str, int]]
    clock: Callable[[], int]


class _Row(NamedTuple):
    """What one label tells."""

    counts: Counts
    depth: Sequence[int]
    consumers: int
    age_ms: int


class QueueCollector(Collector):
    """Tells of each queue that has a label of its own, and of all others together."""

    def __init__(self, sources: QueueSources, labels: Labels | None = None) -> None:
        self._sources = sources
        self._labels = labels or Labels()

    def collect(self) -> Iterator[Metric]:
        """All families, from one look at the sources."""
        traffic, depths = self._sources.traffic(), self._sources.depths()
        self._labels.update({name: one.meter for name, one in traffic.items()})
        rows = self._rows(traffic, depths)
        labels = {name: {"queue": name} for name in rows}
        for name, about, count in _COUNTERS:
            yield _counter(name, about, ((labels[queue], count(row.counts)) for queue, row in rows.items()))
        yield _counter(_SETTLED, _SETTLED_ABOUT, _outcomes(rows))
        yield _gauge(_MESSAGES, _MESSAGES_ABOUT, _statuses(rows))
        for name, about, of in _GAUGES:
            yield _gauge(name, about, ((labels[queue], of(row)) for queue, row in rows.items()))
        yield GaugeMetricFamily("streambroker_queues", "Queues that there are.", value=len(traffic))
        yield GaugeMetricFamily(
            "streambroker_messages_in_flight",
            "Messages that consumers hold, of all queues.",
            value=sum([row.depth[State.LEASED] for row in rows.values()]),
        )

    def _rows(self, traffic: Mapping[str, Traffic], depths: Mapping[str, Sequence[int]]) -> dict[str, _Row]:
        ages = self._ages(depths)
        rows, own = {}, set(self._labels.names)
        for name, counts in self._labels.counts().items():
            if name == OTHER:
                depth = _added([depth for queue, depth in depths.items() if queue not in own])
                consumers = sum([one.consumers for queue, one in traffic.items() if queue not in own])
                age = max([age for queue, age in ages.items() if queue not in own], default=0)
                rows[name] = _Row(counts, depth, consumers, age)
            else:
                rows[name] = _Row(counts, depths.get(name, _EMPTY), traffic[name].consumers, ages.get(name, 0))
        return rows

    def _ages(self, depths: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """How long the oldest message that is ready has waited, by queue."""
        ready = {name: depth[State.READY] for name, depth in depths.items() if depth[State.READY] > 0}
        own = [name for name in self._labels.names if name in ready]
        others = [name for name in ready if name not in self._labels]
        asked = own + nlargest(MAX_OTHERS_ASKED, others, key=ready.__getitem__)
        now = self._sources.clock()
        return {name: max(now - since, 0) for name, since in self._sources.oldest(asked).items()} if asked else {}


_EMPTY = (0,) * len(State)
_COUNTERS: tuple[tuple[str, str, Callable[[Counts], int]], ...] = (
    ("streambroker_messages_published", "Messages that were stored.", attrgetter("published")),
    (
        "streambroker_messages_deduplicated",
        "Messages that were published again under the same dedup_id.",
        attrgetter("deduplicated"),
    ),
    (
        "streambroker_messages_dropped",
        "Messages that made room for newer ones (overflow drop_oldest).",
        attrgetter("dropped"),
    ),
    (
        "streambroker_messages_delivered",
        "Deliveries, those of the same message again among them.",
        attrgetter("delivered"),
    ),
    ("streambroker_messages_redelivered", "Deliveries that were not the message's first.", attrgetter("redelivered")),
    (
        "streambroker_messages_expired",
        "Messages whose time to live was over before they were acked.",
        attrgetter("expired"),
    ),
    (
        "streambroker_messages_dead_lettered",
        "Messages that were moved to a dead-letter queue.",
        attrgetter("dead_lettered"),
    ),
    (
        "streambroker_messages_failed",
        "Messages that failed and stayed, for want of a dead-letter queue.",
        attrgetter("failed"),
    ),
)
_SETTLED = "streambroker_messages_settled"
_SETTLED_ABOUT = (
    "Deliveries that ended, by how: acked, requeued or rejected by the consumer, released when it left, or with "
    "connection_lost or lease_expired."
)
_MESSAGES = "streambroker_queue_messages"
_MESSAGES_ABOUT = "Messages that the queue holds, by status; delayed ones are pending, processing ones are in flight."
_GAUGES: tuple[tuple[str, str, Callable[[_Row], float]], ...] = (
    (
        "streambroker_queue_delayed_messages",
        "Pending messages whose time has not come.",
        lambda row: row.depth[State.DELAYED],
    ),
    (
        "streambroker_queue_oldest_ready_age_seconds",
        "How long the oldest message that could be delivered has been waiting; 0 where there is none.",
        lambda row: row.age_ms / 1_000,
    ),
    ("streambroker_queue_consumers", "Subscriptions and parked polls.", lambda row: row.consumers),
)


Samples = Iterable[tuple[dict[str, str], float]]


def _outcomes(rows: Mapping[str, _Row]) -> Samples:
    for queue, row in rows.items():
        counts = row.counts
        ended = (
            ("acked", counts.settled - counts.requeued - counts.rejected),
            ("requeued", counts.requeued),
            ("rejected", counts.rejected),
            ("released", counts.released),
            ("connection_lost", counts.lost),
            ("lease_expired", counts.lapsed),
        )
        for outcome, count in ended:
            yield {"queue": queue, "outcome": outcome}, count


def _statuses(rows: Mapping[str, _Row]) -> Samples:
    for queue, row in rows.items():
        ready, delayed, leased, processed, failed = row.depth
        pending = ready + delayed
        counts = ("pending", pending), ("processing", leased), ("processed", processed), ("failed", failed)
        for status, count in counts:
            yield {"queue": queue, "status": status}, count


def _counter(name: str, about: str, samples: Samples) -> Metric:
    family = CounterMetricFamily(name, about)
    for labels, value in samples:
        family.add_sample(f"{name}_total", labels, value)
    return family


def _gauge(name: str, about: str, samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, about)
    for labels, value in samples:
        family.add_sample(name, labels, value)
    return family


def _added(rows: Sequence[Sequence[int]]) -> Sequence[int]:
    return [sum(column) for column in zip(_EMPTY, *rows, strict=True)]
