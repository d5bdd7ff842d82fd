"""Histograms count a value under the first bound that it does not exceed."""

from __future__ import annotations

from streambroker.core.histogram import Histogram


def test_a_value_on_a_bound_belongs_under_it() -> None:
    histogram = Histogram(1, 10)
    for value in (0, 1, 1.5, 10, 10.5, 1_000):
        histogram.add(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == 1_023


def test_many_values_at_once_count_as_one_by_one() -> None:
    values = [0.5, 3, 3, 99]
    one, many = Histogram(1, 5), Histogram(1, 5)
    for value in values:
        one.add(value)
    many.add_all(values)
    many.add_all([])
    assert (many.counts, many.total) == (one.counts, one.total)
