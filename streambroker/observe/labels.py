"""Which queues are told apart in metrics.

Each value of a label costs a Prometheus server memory for as long as it keeps data, and clients name queues. So a fixed
number of queues have a label of their own, and all others share one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import nlargest
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple, Protocol

MAX_LABELS = 200
MAX_LETTERS = 16 * 1024
"""Of all labels together: longer names than 80 letters leave room for fewer, so that the text stays under 1 MiB."""
OTHER = "_other"
"""The label of the others: no queue's name begins with an underscore."""


class Counts(NamedTuple):
    """What passed through a queue; see `broker.rates.Meter`."""

    published: int = 0
    deduplicated: int = 0
    dropped: int = 0
    delivered: int = 0
    redelivered: int = 0
    settled: int = 0
    requeued: int = 0
    rejected: int = 0
    released: int = 0
    lost: int = 0
    lapsed: int = 0
    expired: int = 0
    dead_lettered: int = 0
    failed: int = 0


class Meter(Protocol):
    """Where it is counted: the fields of `Counts`, which grow."""

    published: int
    deduplicated: int
    dropped: int
    delivered: int
    redelivered: int
    settled: int
    requeued: int
    rejected: int
    released: int
    lost: int
    lapsed: int
    expired: int
    dead_lettered: int
    failed: int


_counts_of: Callable[[Meter], tuple[int, ...]] = attrgetter(*Counts._fields)
_NOTHING = Counts()


class Labels:
    """Owned by whoever calls `update`, one call at a time.

    While all queues fit, each has its label. Else labels go to those with the most traffic since the start, and none to
    a queue without any; a queue keeps its label until it is deleted. No sum of counts ever falls but by a labelled
    queue that goes: what a queue had counted before it got its label, or before it was deleted without one, stays
    with `OTHER`.
    """

    def __init__(self, most: int = MAX_LABELS) -> None:
        self._most = most
        self._own: dict[str, tuple[Meter, tuple[int, ...]]] = {}  # and what of its counts is `OTHER`'s
        self._others: dict[str, Meter] = {}
        self._past = _NOTHING

    @property
    def names(self) -> list[str]:
        """The queues with a label of their own."""
        return list(self._own)

    def __contains__(self, name: str) -> bool:
        return name in self._own

    def update(self, meters: Mapping[str, Meter]) -> None:
        """These are the queues now."""
        for name in [name for name, (meter, _) in self._own.items() if meters.get(name) is not meter]:
            del self._own[name]
        for name in [name for name, meter in self._others.items() if meters.get(name) is not meter]:
            self._keep(self._others.pop(name))
        waiting = {name: meter for name, meter in meters.items() if name not in self._own}
        for name in self._chosen(waiting):
            meter = waiting.pop(name)
            counted = self._keep(meter) if self._others.pop(name, None) is not None else _NOTHING
            self._own[name] = meter, counted
        self._others = waiting

    def _keep(self, meter: Meter) -> tuple[int, ...]:
        counts = _counts_of(meter)
        self._past = _sum(self._past, counts)
        return counts

    def _chosen(self, waiting: Mapping[str, Meter]) -> list[str]:
        room, letters = self._most - len(self._own), MAX_LETTERS - sum(map(len, self._own))
        if len(waiting) <= room and sum(map(len, waiting)) <= letters:
            return list(waiting)
        busy = {name: traffic for name, meter in waiting.items() if (traffic := meter.published + meter.delivered)}
        chosen = nlargest(room, busy, key=busy.__getitem__)
        return [name for name, length in zip(chosen, accumulate(map(len, chosen)), strict=True) if length <= letters]

    def counts(self) -> dict[str, Counts]:
        """What each label has counted; `OTHER` last, where there is something to tell."""
        told = {
            name: Counts._make(count - before for count, before in zip(_counts_of(meter), counted, strict=True))
            for name, (meter, counted) in self._own.items()
        }
        if self._others or any(self._past):
            told[OTHER] = _sum(self._past, *map(_counts_of, self._others.values()))
        return told


def _sum(*rows: tuple[int, ...]) -> Counts:
    return Counts._make(map(sum, zip(*rows, strict=True)))
