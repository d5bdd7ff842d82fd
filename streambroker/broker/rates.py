"""Rates over the last minute, from plain counters: all that is done for a message is to add one."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

WINDOW_MS = 60_000
SAMPLE_MS = 5_000


class Rates(NamedTuple):
    """Per second, over a minute."""

    published: float
    delivered: float
    settled: float


class Meter:
    """Counts what passed through one queue since the start; whoever counts adds to the three numbers.

    `sample()` is called every `SAMPLE_MS`; the oldest sample within the window is what a rate is measured from.
    """

    __slots__ = ("_samples", "delivered", "published", "settled")

    def __init__(self, now: int) -> None:
        self.published = self.delivered = self.settled = 0
        self._samples: deque[tuple[int, int, int, int]] = deque(maxlen=WINDOW_MS // SAMPLE_MS)
        self.sample(now)

    def sample(self, now: int) -> None:
        """Note where the counts stand."""
        self._samples.append((now, self.published, self.delivered, self.settled))

    def rates(self, now: int) -> Rates:
        """Per second over the last minute, or since the meter began where that is less (at least a second)."""
        at, *then = self._samples[0]
        seconds = max(now - at, 1_000) / 1_000
        counts = (self.published, self.delivered, self.settled)
        return Rates(*(round((count - before) / seconds, 3) for count, before in zip(counts, then, strict=True)))
