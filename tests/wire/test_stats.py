"""Figures and probes of a real broker (contract §6)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue, eventually, fresh_name
from tests.wire.people import grant, somebody

FIGURES = {
    *("pending", "processing", "failed", "processed", "total_requests", "process_cpu_percent", "process_memory_mb"),
    *("uptime_seconds", "requests_by_route", "requests_by_status", "connections", "queues"),
}


@pytest.fixture
def broker_of_its_own(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data", env=NO_LIMITS) as running:
        yield running


def stats(client: httpx.Client) -> dict[str, Any]:
    reply = client.get("/stats")
    assert reply.status_code == 200, reply.text
    figures: dict[str, Any] = reply.json()
    return figures


def test_the_total_of_requests_survives_a_restart_and_the_rest_begins_anew(broker_of_its_own: BrokerProcess) -> None:
    broker = broker_of_its_own
    with broker.client() as api:
        for _ in range(20):
            assert api.get("/queues").status_code == 200
        before = stats(api)
        assert before["total_requests"] == sum(before["requests_by_route"].values()) >= 21
    assert broker.terminate() == 0
    broker.start()
    with broker.client() as api:
        after = stats(api)
    assert after["total_requests"] == before["total_requests"] + 1 + sum(after["requests_by_route"].values())
    assert "GET /queues" not in after["requests_by_route"]
    assert after["uptime_seconds"] < before["uptime_seconds"] + 60


def test_a_crash_loses_the_last_seconds_of_a_total_and_no_message(broker_of_its_own: BrokerProcess) -> None:
    broker = broker_of_its_own
    with broker.client() as api:
        Queue(api, "q").publish_many(1, 2, 3)
        total = stats(api)["total_requests"]
    broker.kill()
    broker.start()
    with broker.client() as api:
        figures = stats(api)
    assert 0 < figures["total_requests"] <= total + 10
    assert figures["queues"]["q"]["pending"] == 3


def test_stats_are_the_sum_of_the_queues_and_change_with_them(api: httpx.Client) -> None:
    queue = Queue(api)
    queue.publish_many(1, 2, 3)
    queue.publish(4, delay_ms=60_000)
    assert stats(api).keys() == FIGURES
    assert stats(api)["queues"][queue.name] == {"pending": 4, "processing": 0, "processed": 0, "failed": 0}
    queue.take()
    figures = stats(api)
    assert figures["queues"][queue.name] == {"pending": 3, "processing": 1, "processed": 0, "failed": 0}
    for status in ("pending", "processing", "processed", "failed"):
        assert figures[status] == sum(one[status] for one in figures["queues"].values())
    assert api.delete(queue.path).is_success
    assert queue.name not in stats(api)["queues"]


def test_d12_figures_are_of_the_queues_that_one_may_view(api: httpx.Client) -> None:
    mine, other = Queue(api, fresh_name("stats.mine")), Queue(api)
    mine.publish_many(1, 2)
    other.publish(1)
    with somebody(api, grants=[grant("stats.mine*", "view")]) as person:
        figures = stats(person.client)
        assert figures["queues"].keys() == {mine.name}
        assert (figures["pending"], figures["processing"]) == (2, 0)


WHOLE = ("total_requests", "process_cpu_percent", "process_memory_mb", "requests_by_route", "requests_by_status")


def test_d12_what_others_do_is_told_to_who_may_view_everything(api: httpx.Client) -> None:
    for grants, told in (([], False), ([grant("stats.*", "view")], False), ([grant("*", "view")], True)):
        with somebody(api, grants=grants) as person:
            figures = stats(person.client)
            assert figures.keys() == FIGURES
            assert figures["uptime_seconds"] > 0
            assert {bool(figures[name]) for name in WHOLE if name != "process_cpu_percent"} == {told}
            assert told or (figures["process_cpu_percent"], set(figures["connections"].values())) == (0, {0})


def test_cpu_and_memory_are_measured_by_the_broker_and_not_by_who_asks(api: httpx.Client) -> None:
    began = time.monotonic()
    busy = [stats(api)["process_cpu_percent"] for _ in range(5)]
    seconds = int(time.monotonic() - began)
    assert all(0 <= percent <= 1_000 for percent in busy)
    assert len(set(busy)) <= 2 + seconds  # asked again within a second, it is what it was
    assert stats(api)["process_memory_mb"] > 10
    assert eventually(lambda: stats(api)["process_cpu_percent"]) > 0


def test_probes_need_no_token(stranger: httpx.Client) -> None:
    assert stranger.get("/healthz").json() == {"status": "alive"}
    assert stranger.get("/readyz").json() == {"status": "ready"}
