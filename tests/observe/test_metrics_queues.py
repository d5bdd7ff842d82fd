"""What metrics tell of queues; and that ten thousand of them cost no more than two hundred (D31)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from streambroker.broker.rates import Meter, Traffic
from streambroker.observe.exposition import text
from streambroker.observe.labels import MAX_LABELS, OTHER
from streambroker.observe.queue_metrics import MAX_OTHERS_ASKED, QueueCollector, QueueSources

NOW = 1_700_000_000_000


class Queues:
    """Some queues, and who asked for their ages."""

    def __init__(self, names: Sequence[str]) -> None:
        self.traffic = {name: Traffic(Meter(NOW), 1) for name in names}
        self.depths = {name: [1, 2, 3, 4, 5] for name in names}
        self.asked: list[str] = []
        self.published_at: dict[str, int] = {}

    def oldest(self, names: Sequence[str]) -> Mapping[str, int]:
        self.asked += names
        return {name: self.published_at.get(name, NOW - 1_000) for name in names}

    def collector(self) -> QueueCollector:
        return QueueCollector(QueueSources(lambda: self.traffic, lambda: self.depths, self.oldest, lambda: NOW))


def samples(collector: QueueCollector) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text(collector.collect()).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def of(found: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return found[f"streambroker_{name}", tuple(sorted(labels.items()))]


def test_a_queue_tells_where_its_messages_stand() -> None:
    queues = Queues(["work"])
    queues.published_at["work"] = NOW - 2_500
    found = samples(queues.collector())
    statuses = {"pending": 3, "processing": 3, "processed": 4, "failed": 5}
    assert {status: of(found, "queue_messages", queue="work", status=status) for status in statuses} == statuses
    assert of(found, "queue_delayed_messages", queue="work") == 2
    assert of(found, "queue_oldest_ready_age_seconds", queue="work") == 2.5
    assert of(found, "queue_consumers", queue="work") == 1
    assert of(found, "messages_in_flight") == 3
    assert of(found, "queues") == 1


def test_an_ack_is_a_settle_that_was_no_nack() -> None:
    queues = Queues(["work"])
    meter = queues.traffic["work"].meter
    meter.settled, meter.requeued, meter.rejected, meter.released, meter.lost, meter.lapsed = 10, 3, 2, 4, 5, 6
    found = samples(queues.collector())
    outcomes = {"acked": 5, "requeued": 3, "rejected": 2, "released": 4, "connection_lost": 5, "lease_expired": 6}
    assert {o: of(found, "messages_settled_total", queue="work", outcome=o) for o in outcomes} == outcomes


def test_a_queue_without_ready_messages_has_no_age_and_nobody_asks_for_it() -> None:
    queues = Queues(["empty"])
    queues.depths["empty"] = [0, 2, 3, 4, 5]
    assert of(samples(queues.collector()), "queue_oldest_ready_age_seconds", queue="empty") == 0
    assert queues.asked == []


def test_a_queue_that_is_known_to_one_side_only_is_told_of_all_the_same() -> None:
    queues = Queues(["new", "old"])
    del queues.depths["new"]
    del queues.traffic["old"]
    found = samples(queues.collector())
    assert of(found, "queue_messages", queue="new", status="pending") == 0
    assert not any(("queue", "old") in labels for _, labels in found)


def test_the_others_are_added_up_and_the_oldest_of_them_counts() -> None:
    names = [f"q{number}" for number in range(MAX_LABELS + 3)]
    queues = Queues(names)
    for name in names[3:]:
        queues.traffic[name].meter.published = 1
    queues.published_at["q1"] = NOW - 60_000
    found = samples(queues.collector())
    assert of(found, "queue_messages", queue=OTHER, status="failed") == 15
    assert of(found, "queue_consumers", queue=OTHER) == 3
    assert of(found, "queue_oldest_ready_age_seconds", queue=OTHER) == 60


def test_ten_thousand_queues_with_the_longest_names_stay_within_a_mebibyte() -> None:
    queues = Queues([f"{number:0128}" for number in range(10_000)])
    for traffic in queues.traffic.values():
        traffic.meter.published = traffic.meter.delivered = 10**12
    for depth in queues.depths.values():
        depth[:] = [10**9] * 5
    collector = queues.collector()
    began = time.thread_time()
    written = text(collector.collect())
    took = time.thread_time() - began
    labels = {
        sample.labels["queue"]
        for family in text_string_to_metric_families(written.decode())
        for sample in family.samples
        if "queue" in sample.labels
    }
    assert len(labels) <= MAX_LABELS + 1
    assert OTHER in labels
    assert len(written) < 700 * 1024  # what is not about queues needs a third at most
    assert len(queues.asked) <= MAX_LABELS + MAX_OTHERS_ASKED
    # 40 ms of computing on the machine that this was written on: here it is only to be no matter of seconds.
    assert took < 1
