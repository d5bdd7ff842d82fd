"""Arithmetic of figures: medians, percentiles, and ratios taken round by round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The median, NaN of nothing."""
    return statistics.median(values) if values else math.nan


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the sorted ``ordered`` lies (nearest rank), NaN of nothing."""
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def ratios(ours: Sequence[float], reference: Sequence[float]) -> list[float]:
    """``ours / reference`` of each round; the rounds of both sides ran next to each other."""
    return [mine / other for mine, other in zip(ours, reference, strict=True) if other]


def human(value: float) -> str:
    """Three significant digits, thousands separated."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
