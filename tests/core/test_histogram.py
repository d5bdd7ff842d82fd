"""Histograms count a value under the first bound that it does not exceed."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from streambroker.core.histogram import Histogram


def test_a_value_on_a_bound_belongs_under_it() -> None:
    histogram = Histogram(1, 10)
    for value in (0, 1, 1.5, 10, 10.5, 1_000):
        histogram.add(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == 1_023


@given(st.lists(st.floats(-20, 20) | st.sampled_from([0, 1, 1.5, 5, 5.5, 10, 11]), max_size=30))
def test_where_the_value_before_it_was_counted_does_not_matter(values: list[float]) -> None:
    histogram, bounds = Histogram(1, 5, 10), (1, 5, 10)
    for value in values:
        histogram.add(value)
    assert histogram.counts == [
        sum(low < value <= high for value in values)
        for low, high in zip((-math.inf, *bounds), (*bounds, math.inf), strict=True)
    ]


@given(st.lists(st.integers(0, 12) | st.integers(), max_size=30))
def test_many_values_at_once_count_as_one_by_one(values: list[int]) -> None:
    one, many = Histogram(1, 5, 10), Histogram(1, 5, 10)
    for value in values:
        one.add(value)
    many.add_all(values)
    assert (many.counts, many.total) == (one.counts, one.total)
