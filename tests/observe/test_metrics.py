"""Metrics are collected off the loop, for whoever asks within a second once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streambroker.core.histogram import Histogram
from streambroker.observe.lag import TICK_S, LoopLag
from streambroker.observe.metrics import Metrics
from streambroker.observe.node_metrics import NodeCollector, NodeSources
from streambroker.store.figures import StoreFigures, Turns, sync_times
from streambroker.transport.counting import Refused, Requests
from streambroker.transport.limiting import Kind


class Looks(Collector):
    """Counts how often it was asked, and by which thread; collects when it may."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[int] = set()
        self.may = threading.Event()
        self.may.set()
        self.error: Exception | None = None

    def collect(self) -> Iterator[Metric]:
        self.count += 1
        self.threads.add(threading.get_ident())
        assert self.may.wait(30)
        if self.error is not None:
            raise self.error
        yield GaugeMetricFamily("looks", "How often.", value=self.count)


async def test_it_collects_in_another_thread_and_tells_of_the_process() -> None:
    looks = Looks()
    text = await Metrics([looks]).text()
    assert b"\nlooks 1\n" in text
    assert b"\nprocess_resident_memory_bytes " in text
    assert threading.get_ident() not in looks.threads


async def test_whoever_asks_at_the_same_time_shares_one_collection() -> None:
    looks = Looks()
    looks.may.clear()
    metrics = Metrics([looks])
    asking = [asyncio.ensure_future(metrics.text()) for _ in range(10)]
    await asyncio.sleep(0)
    looks.may.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    assert looks.count == 1


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    looks = Looks()
    looks.may.clear()
    metrics = Metrics([looks])
    leaver, stayer = asyncio.ensure_future(metrics.text()), asyncio.ensure_future(metrics.text())
    await asyncio.sleep(0)
    leaver.cancel()
    looks.may.set()
    assert b"looks 1" in await stayer


async def test_after_a_second_it_looks_again_also_where_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    looks = Looks()
    metrics = Metrics([looks])
    looks.error = OSError("no disk")
    with pytest.raises(OSError, match="no disk"):
        await metrics.text()
    looks.error = None
    now += 0.5
    with pytest.raises(OSError, match="no disk"):
        await metrics.text()
    now += 0.5
    assert b"looks 2" in await metrics.text()
    now += 0.9
    assert b"looks 2" in await metrics.text()


async def test_a_loop_that_is_late_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    slept = asyncio.Queue[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + await slept.get()

    monkeypatch.setattr("streambroker.observe.lag.asyncio.sleep", sleep)
    lag = LoopLag(lambda: now)
    running = asyncio.create_task(lag.run())
    for late in (0.0, 0.3, -0.001):
        slept.put_nowait(late)
    async with asyncio.timeout(30):
        while now < 3 * TICK_S:
            await asyncio.wait([running], timeout=0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sum(lag.seconds.counts) == 3
    assert lag.seconds.total == pytest.approx(0.3)


def node(requests: Requests, refused: Refused) -> NodeCollector:
    delivery, turns = Histogram(1, 1_000), Turns()
    delivery.add_all([1, 500, 5_000])
    figures = StoreFigures(turns.messages, turns.seconds, sync_times(), 1, 2, 3, 4, 5, True, False)
    return NodeCollector(
        NodeSources(
            Histogram(1),
            delivery,
            Histogram(1),
            lambda: figures,
            requests,
            lambda: {"websocket": 7},
            lambda: refused.auth_failures(requests),
            refused.rate_limited,
            lambda: False,
        )
    )


async def collected(collector: NodeCollector) -> dict[str, float]:
    text = (await Metrics([collector]).text()).decode()
    return {
        s.name + "".join(f" {key}={value}" for key, value in sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


async def test_histograms_are_cumulative_and_in_seconds() -> None:
    found = await collected(node(Requests(), Refused()))
    name = "streambroker_delivery_latency_seconds"
    assert [found[f"{name}_bucket le={bound}"] for bound in ("0.001", "1.0", "+Inf")] == [1, 2, 3]
    assert found[f"{name}_count"] == 3
    assert found[f"{name}_sum"] == pytest.approx(5.501)


async def test_storage_that_is_full_says_of_what() -> None:
    found = await collected(node(Requests(), Refused()))
    assert found["streambroker_store_full reason=disk"] == 1
    assert found["streambroker_store_full reason=quota"] == 0
    assert found["streambroker_store_wal_bytes"] == 4


async def test_requests_count_by_route_and_status_and_take_time_by_its_class() -> None:
    requests = Requests()
    for status, took in ((200, 0.5), (204, 2), (404, 0.1)):
        requests.of("GET", "/queues/{queue}").note(status, took)
    found = await collected(node(requests, Refused()))
    labels = "method=GET route=/queues/{queue} status="
    assert [found[f"streambroker_http_requests_total {labels}{status}"] for status in (200, 204, 404)] == [1, 1, 1]
    assert found[f"streambroker_http_request_duration_seconds_count {labels}2xx"] == 2
    assert found[f"streambroker_http_request_duration_seconds_sum {labels}2xx"] == 2.5
    assert found[f"streambroker_http_request_duration_seconds_count {labels}4xx"] == 1


async def test_who_was_turned_away_is_counted_by_what_was_tried() -> None:
    requests, refused = Requests(), Refused()
    requests.of("POST", "/login").note(401, 0.1)
    for given in (None, b"", b"Bearer sbk_1", b"sbk_2", b"Bearer eyJ", b"eyJ", b"Basic x"):
        refused.unknown(given)
    refused.limited(Kind.MESSAGES, 5)
    refused.limited(Kind.LOGIN)
    found = await collected(node(requests, refused))
    kinds = ("none", "api_key", "token", "login", "refresh")
    assert [found[f"streambroker_auth_failures_total kind={kind}"] for kind in kinds] == [2, 2, 3, 1, 0]
    assert [found[f"streambroker_rate_limited_total kind={kind}"] for kind in ("default", "login", "messages")] == [
        0,
        1,
        5,
    ]
