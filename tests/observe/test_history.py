"""Percentiles of what a histogram counted lately."""

from __future__ import annotations

import psutil
import pytest

from streambroker.core.histogram import Histogram
from streambroker.observe.history import Percentiles, Recent, percentiles
from streambroker.observe.usage import Usage

BOUNDS = (10.0, 20.0, 40.0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((100, 0, 0, 0), (5.0, 9.5, 9.9)),  # spread evenly from nothing to the first bound
        ((0, 100, 0, 0), (15.0, 19.5, 19.9)),
        ((50, 0, 50, 0), (10.0, 38.0, 39.6)),  # half of them are no larger than the first bound
        ((0, 0, 0, 7), (40.0, 40.0, 40.0)),  # more is not known of them than that they exceed the last
        ((98, 0, 0, 2), (5.102040816326531, 9.693877551020408, 40.0)),
    ],
    ids=str,
)
def test_percentiles_lie_where_the_values_do(counts: tuple[int, ...], expected: tuple[float, ...]) -> None:
    assert percentiles(BOUNDS, counts) == pytest.approx(expected)


def test_one_value_is_every_percentile_of_itself() -> None:
    found = percentiles(BOUNDS, (0, 1, 0, 0))
    assert found is not None
    assert all(10 <= value <= 20 for value in found)


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentiles(BOUNDS, (0, 0, 0, 0)) is None


def test_what_was_counted_before_the_last_look_does_not_count() -> None:
    histogram = Histogram(*BOUNDS)
    recent = Recent(histogram)
    assert recent.look() is None
    histogram.add_all([30] * 1_000)
    assert recent.look() == Percentiles(30.0, 39.0, 39.8)
    histogram.add(5)
    latest = recent.look()
    assert latest is not None and latest.p99 <= 10
    assert recent.look() is None


def test_what_a_histogram_held_already_is_not_recent() -> None:
    histogram = Histogram(*BOUNDS)
    histogram.add(5)
    assert Recent(histogram).look() is None


def test_seconds_are_told_in_milliseconds() -> None:
    histogram = Histogram(0.001, 0.002)
    recent = Recent(histogram, to_ms=1_000)
    histogram.add_all([0.0015] * 100)
    found = recent.look()
    assert found is not None and 1 <= found.p50 <= 2


def test_usage_is_of_the_last_look() -> None:
    usage = Usage()
    assert usage.memory_mb > 1
    before = usage.memory_mb
    ballast = bytearray(b"x") * (64 * 1024 * 1024)
    assert usage.memory_mb == before
    usage.look()
    now = psutil.Process().memory_info().rss / 1024**2
    assert usage.memory_mb == pytest.approx(now, abs=16)
    assert usage.cpu_percent >= 0
    assert len(ballast) > 0
