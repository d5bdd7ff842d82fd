"""Rates over the last minute, from plain counters: nothing is kept per message."""

from __future__ import annotations

from typing import NamedTuple

_SLOTS = 12
_SLOT_MS = 5_000


class Rates(NamedTuple):
    """Per second, over a minute."""

    published: float
    delivered: float
    settled: float


class Meter:
    """Counts what passed through one queue, in slots of five seconds; reads as a rate over the last minute."""

    __slots__ = ("_born", "_delivered", "_published", "_settled", "_slot")

    def __init__(self, now: int) -> None:
        self._born = now
        self._slot = now // _SLOT_MS
        self._published = [0] * _SLOTS
        self._delivered = [0] * _SLOTS
        self._settled = [0] * _SLOTS

    def count(self, now: int, published: int = 0, delivered: int = 0, settled: int = 0) -> None:
        """So many more, now."""
        slot = self._advance(now)
        self._published[slot] += published
        self._delivered[slot] += delivered
        self._settled[slot] += settled

    def rates(self, now: int) -> Rates:
        """Per second over the last minute, or since the meter began where that is less (at least a second)."""
        self._advance(now)
        seconds = min(max(now - self._born, 1_000), _SLOTS * _SLOT_MS) / 1_000
        return Rates(*(round(sum(slots) / seconds, 3) for slots in (self._published, self._delivered, self._settled)))

    def _advance(self, now: int) -> int:
        current = now // _SLOT_MS
        for passed in range(self._slot + 1, min(current, self._slot + _SLOTS) + 1):
            index = passed % _SLOTS
            self._published[index] = self._delivered[index] = self._settled[index] = 0
        self._slot = max(current, self._slot)
        return self._slot % _SLOTS
