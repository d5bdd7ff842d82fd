"""What happens in the queues whose events somebody watches, one interval at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from streambroker.broker.events import Observers, QueueEvent
from streambroker.transport.dashboard import frames

MOST = 200
"""Events of one queue that are told of one interval; the rest is counted."""


class Happenings:
    """The events of one queue; `broker.events.Observer`."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.watchers = 0
        self.seen = 0
        """Events of all intervals that are over."""
        self._count = 0
        self._gathered: list[QueueEvent] = []
        self._items = b""
        self._kept = 0

    def happened(self, events: Iterator[QueueEvent], count: int) -> None:
        """See `Observer`."""
        self._count += count
        self._gathered += islice(events, MOST - len(self._gathered))

    def advance(self) -> None:
        """An interval is over: it can be told."""
        gathered, self._gathered = self._gathered, []
        self.seen += self._count
        self._kept, self._count = len(gathered), 0
        self._items = b",".join([frames.event(event) for event in gathered])

    def frame(self, since: int) -> str | None:
        """The last interval for somebody who has been told of `since` events before; None where nothing happened."""
        if self.seen == since:
            return None
        return frames.events(self.queue, self._items, max(self.seen - since - self._kept, 0)).decode()


class Watched:
    """Owns the `Happenings` of each queue that somebody watches; the broker makes events of no others."""

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._queues: dict[str, Happenings] = {}

    def begin(self, queue: str) -> Happenings:
        """Somebody watches the queue from now on."""
        happenings = self._queues.get(queue)
        if happenings is None:
            happenings = self._queues[queue] = Happenings(queue)
            self._observers.watch(queue, happenings)
        happenings.watchers += 1
        return happenings

    def end(self, happenings: Happenings) -> None:
        """And does so no more."""
        happenings.watchers -= 1
        if not happenings.watchers:
            del self._queues[happenings.queue]
            self._observers.unwatch(happenings.queue, happenings)

    def advance(self) -> None:
        """An interval is over."""
        for happenings in self._queues.values():
            happenings.advance()
