"""How long things took lately: percentiles of one interval after the other, for charts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from streambroker.core.histogram import Histogram


class Percentiles(NamedTuple):
    """Half, 95 and 99 of a hundred values are no larger; in milliseconds."""

    p50: float
    p95: float
    p99: float


def percentiles(bounds: Sequence[float], counts: Sequence[int]) -> Percentiles | None:
    """Percentiles of the values that a histogram with these bounds counted, None where there were none.

    As exact as the bounds are close: values are taken to be spread evenly between two of them (as Prometheus'
    `histogram_quantile` does), and what exceeds them all to be the last one.
    """
    if not any(counts):
        return None
    sums = list(accumulate(counts))
    return Percentiles(*(_quantile(bounds, counts, sums, share) for share in (0.5, 0.95, 0.99)))


def _quantile(bounds: Sequence[float], counts: Sequence[int], sums: Sequence[int], share: float) -> float:
    rank = share * sums[-1]
    index = next(index for index, so_far in enumerate(sums) if so_far >= rank and counts[index])
    if index == len(bounds):
        return bounds[-1]
    below = bounds[index - 1] if index else 0.0
    return below + (bounds[index] - below) * (rank - (sums[index] - counts[index])) / counts[index]


class Recent:
    """What a histogram counted since the last look: the difference of two snapshots.

    `to_ms` is how many milliseconds make one of the histogram's units. Looked at by one owner only.
    """

    def __init__(self, histogram: Histogram, to_ms: float = 1) -> None:
        self._histogram = histogram
        self._bounds = [bound * to_ms for bound in histogram.bounds]
        self._before = histogram.counts.copy()

    def look(self) -> Percentiles | None:
        """Percentiles since the last call."""
        now = self._histogram.counts.copy()
        counts = [count - before for count, before in zip(now, self._before, strict=True)]
        self._before = now
        found = percentiles(self._bounds, counts)
        return None if found is None else Percentiles(*(round(value, 3) for value in found))
