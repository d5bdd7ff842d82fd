"""A histogram made of plain numbers: what it costs to count a value is two comparisons and two additions.

Values come in runs that fall between the same two bounds; only where a run ends are the bounds looked through.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf, nan

_FEW = 8


class Histogram:
    """Counts values by the bounds that they do not exceed, in whatever unit the bounds have.

    Whoever owns it adds to it; anybody else may read it at any time, from any thread, without a lock. `counts` has one
    place more than `bounds`, for what exceeds them all, and is not cumulative.
    """

    __slots__ = ("_above", "_place", "_to", "bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0
        self._place = 0
        self._above = self._to = nan  # the bounds of that place; none of its values is known yet

    def add(self, value: float) -> None:
        """Count one value."""
        if not self._above < value <= self._to:
            self._look_up(value)
        self.counts[self._place] += 1
        self.total += value

    def _look_up(self, value: float) -> None:
        place = self._place = bisect_left(self.bounds, value)
        self._above = self.bounds[place - 1] if place else -inf
        self._to = self.bounds[place] if place < len(self.bounds) else inf

    def add_all(self, values: Sequence[float]) -> None:
        """Count many: by looking bounds up among the values, which are sorted, where those are the fewer."""
        counts, at = self.counts, 0
        if len(values) < _FEW:
            for value in values:
                counts[bisect_left(self.bounds, value)] += 1
        else:
            ordered = sorted(values)
            for place, bound in enumerate(self.bounds):
                to = bisect_right(ordered, bound, at)
                counts[place] += to - at
                at = to
                if at == len(ordered):
                    break
            else:
                counts[-1] += len(ordered) - at
        self.total += sum(values)
