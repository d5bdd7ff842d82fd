"""A histogram made of plain numbers: what it costs to count a value is a look-up among the bounds and two additions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable


class Histogram:
    """Counts values by the bounds that they do not exceed, in whatever unit the bounds have.

    Whoever owns it adds to it; anybody else may read it at any time, from any thread, without a lock. `counts` has one
    place more than `bounds`, for what exceeds them all, and is not cumulative.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all(self, values: Iterable[float]) -> None:
        """Count many."""
        bounds, counts, total = self.bounds, self.counts, 0.0
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            total += value
        self.total += total
