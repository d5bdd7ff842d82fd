"""What passed through a queue: plain counters. All that is done for a message is to add one.

Whoever counts adds to the numbers on the event loop; metrics read them from another thread, which needs no lock.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from streambroker.core.histogram import Histogram
from streambroker.core.lifecycle import Event, Fate

WINDOW_MS = 60_000
SAMPLE_MS = 5_000

# Python 3.11 takes 110 ns to find a member through its class.
_REQUEUE, _REJECT, _RELEASE, _LOSE = Event.REQUEUE, Event.REJECT, Event.RELEASE, Event.LOSE
_FAILED, _DEAD_LETTERED = Fate.FAILED, Fate.DEAD_LETTERED


class Rates(NamedTuple):
    """Per second, over a minute."""

    published: float
    delivered: float
    settled: float


class Meter:
    """Counts what passed through one queue since the start.

    `published` counts what was stored, `deduplicated` what was stored before under the same dedup id, and `dropped`
    what made room for newer messages. `delivered` counts deliveries, `redelivered` those of them that were not the
    first. Each ends as one of: `settled` (of which `requeued` and `rejected` were nacks), `released`, `lost` with its
    connection, `lapsed` with the time of its lease. `expired` counts messages whose own time was over; of all that came
    to an end without an ack, `dead_lettered` were moved to another queue and `failed` stayed.

    `sample()` is called every `SAMPLE_MS`; the oldest sample within the window is what a rate is measured from.
    """

    __slots__ = (
        "_samples", "dead_lettered", "deduplicated", "delivered", "dropped", "expired", "failed", "lapsed", "lost",
        "published", "redelivered", "rejected", "released", "requeued", "settled",
    )  # fmt: skip

    def __init__(self, now: int) -> None:
        self.published = self.deduplicated = self.dropped = 0
        self.delivered = self.redelivered = 0
        self.settled = self.requeued = self.rejected = 0
        self.released = self.lost = self.lapsed = 0
        self.expired = self.dead_lettered = self.failed = 0
        self._samples: deque[tuple[int, int, int, int]] = deque(maxlen=WINDOW_MS // SAMPLE_MS)
        self.sample(now)

    def ended(self, event: Event, fate: Fate) -> None:
        """A settle was granted, and that became of the message."""
        if event <= _REJECT:
            self.settled += 1
        if event is _REQUEUE:
            self.requeued += 1
        elif event is _REJECT:
            self.rejected += 1
        elif event is _RELEASE:
            self.released += 1
        elif event is _LOSE:
            self.lost += 1
        self._followed(fate)

    def overdue(self, leased: bool, fate: Fate) -> None:
        """What was due was done: a lease was over (`leased`), or a delay, or the message's own time."""
        if leased:
            self.lapsed += 1
        elif fate is _FAILED or fate is _DEAD_LETTERED:
            self.expired += 1
        self._followed(fate)

    def _followed(self, fate: Fate) -> None:
        if fate is _DEAD_LETTERED:
            self.dead_lettered += 1
        elif fate is _FAILED:
            self.failed += 1

    def sample(self, now: int) -> None:
        """Note where the counts stand."""
        self._samples.append((now, self.published, self.delivered, self.settled))

    def rates(self, now: int) -> Rates:
        """Per second over the last minute, or since the meter began where that is less (at least a second)."""
        at, *then = self._samples[0]
        seconds = max(now - at, 1_000) / 1_000
        counts = (self.published, self.delivered, self.settled)
        return Rates(*(round((count - before) / seconds, 3) for count, before in zip(counts, then, strict=True)))


class Traffic(NamedTuple):
    """One queue: what passed through it, and how many consumers it has."""

    meter: Meter
    consumers: int


class Waits:
    """How long all queues' messages took. Owned by the event loop."""

    def __init__(self) -> None:
        self.confirm = Histogram(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
        """From a publish that the broker was asked for until it was durable, in seconds."""
        self.delivery = Histogram(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000, 300_000, 3_600_000)
        """From when a message could first be delivered until it was, in milliseconds."""
