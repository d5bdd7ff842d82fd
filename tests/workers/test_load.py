"""The load programs, and the percentiles that they tell."""

from __future__ import annotations

import re

import pytest

from streambroker.client import SyncClient
from tests.harness import BrokerProcess
from tests.workers.programs import finished, running
from workers.load import Latencies, Load


def test_percentiles_are_right_to_a_hundredth() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.quantile(0.5) == pytest.approx(0.5, rel=0.012)
    assert latencies.quantile(0.99) == pytest.approx(0.99, rel=0.012)
    assert latencies.quantile(1) == latencies.most == 1
    assert Latencies().quantile(0.5) == 0


def test_a_load_without_an_end_has_no_share() -> None:
    assert Load("done", None, None).share is None
    assert Load("done", 10, None).share == 0


@pytest.mark.system
def test_what_the_producer_confirms_the_consumer_acks(broker: BrokerProcess, client: SyncClient) -> None:
    produced = finished(broker, "load_producer", "--queue", "l", "--count", "500", "--size", "300", "--in-flight", "50")
    assert "500 confirmed in" in produced
    assert re.search(r"confirmation, p99 .*ms", produced)
    consumed = finished(broker, "load_consumer", "--queue", "l", "--count", "500", "--credit", "100")
    assert "500 acked in" in consumed
    assert re.search(r"delivered again .* 0 ", consumed)
    counts = client.queues.get("l").counts
    assert (counts.pending, counts.processing, counts.processed) == (0, 0, 500)


@pytest.mark.system
def test_ctrl_c_still_shows_the_summary(broker: BrokerProcess, client: SyncClient) -> None:
    with running(broker, "load_producer", "--queue", "endless", "--rate", "50") as producer:
        for message in client.consume("endless"):
            message.ack()
            break
    producer.says("confirmed in")
    producer.says("stopped")
