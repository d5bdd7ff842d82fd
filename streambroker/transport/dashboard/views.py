"""What users see of the broker as a whole: for all with the same rights it is made once."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from streambroker.broker.rates import Meter
from streambroker.core.access import Action, Decision, Principal, decide, may_view_all
from streambroker.core.message import State
from streambroker.protocol.json import encode
from streambroker.protocol.times import rfc3339
from streambroker.transport.dashboard import frames
from streambroker.transport.dashboard.frames import PercentilesOut, Point, Refusing
from streambroker.transport.roster import Consumer, Roster
from streambroker.transport.status import Depth, Status, together

T = TypeVar("T")

POINTS = 300
"""How much history is kept: five minutes."""
MOST_CONSUMERS = 1_000
"""Consumers that the feed tells of; more are on the pages of `GET /consumers`."""

ALL = "all"
"""The key of who may view all queues."""


def key_of(principal: Principal) -> Hashable:
    """The same for all principals that see the same."""
    return ALL if may_view_all(principal) else (principal.grants, principal.ceiling)


@dataclass(frozen=True, slots=True)
class Moment:
    """What was measured at the end of one interval. `requests` counts those in it; `at` in ms since 1970.

    `meters` are of all queues, and the same object as long as none comes or goes.
    """

    at: int
    elapsed_ms: int
    requests: int
    meters: Mapping[str, Meter]
    depths: Mapping[str, Depth]
    delivery_ms: PercentilesOut | None
    publish_ms: PercentilesOut | None
    refusing: Refusing | None


class Passed(NamedTuple):
    """Messages that passed through queues."""

    published: int = 0
    delivered: int = 0
    settled: int = 0


class Flow:
    """Adds up what passes through a changing set of queues, so that none that comes or goes makes a jump."""

    def __init__(self, meters: Mapping[str, Meter]) -> None:
        self._meters = meters
        self._before = _passed(meters.values())

    def since(self, meters: Mapping[str, Meter]) -> Passed:
        """What passed since the last call through the queues that there were or are; the same object: the same ones."""
        kept = self._meters
        now = _passed(kept.values())
        gained = [count - before for count, before in zip(now, self._before, strict=True)]
        if meters is not kept:
            fresh = [meter for name, meter in meters.items() if kept.get(name) is not meter]
            gained = [gain + more for gain, more in zip(gained, _passed(fresh), strict=True)]
            self._meters = meters
            now = _passed(meters.values())
        self._before = now
        return Passed(*gained)


class View:
    """What all see who have the rights of `principal`. Owned by the feed, which calls `advance` each interval."""

    def __init__(self, principal: Principal | None, meters: Mapping[str, Meter]) -> None:
        self.all = principal is None or may_view_all(principal)
        self.watchers = 0
        self.idle = 0
        """Intervals since the last watcher left."""
        self._principal = principal
        self._judged: dict[str, bool] = {}
        self._every = meters
        self._mine = self.of(meters)
        self._flow = Flow(self._mine)
        self._depth: Depth = ()
        self._points: deque[bytes] = deque(maxlen=POINTS)
        self._moment: Moment | None = None
        self._tick: str | None = None
        self._history: str | None = None
        self._consumers: str | None = None
        self._consumers_fresh = False

    def sees(self, queue: str) -> bool:
        """Whether the queue may be told of."""
        if self.all or self._principal is None:
            return True
        seen = self._judged.get(queue)
        if seen is None:
            seen = self._judged[queue] = decide(self._principal, Action.VIEW, queue) is Decision.ALLOW
        return seen

    def of(self, queues: Mapping[str, T]) -> Mapping[str, T]:
        """Of queues those that may be told of."""
        return queues if self.all else {name: one for name, one in queues.items() if self.sees(name)}

    def advance(self, moment: Moment, status: Status) -> None:
        """An interval is over."""
        if moment.meters is not self._every:
            if len(self._judged) > 2 * len(moment.meters) + 100:
                self._judged.clear()  # of queues that came and went
            self._every, self._mine = moment.meters, self.of(moment.meters)
        depths = moment.depths
        seen = depths.values() if self.all else [depths[name] for name in self._mine if name in depths]
        self._depth = together(seen)
        self._moment = moment
        self._points.append(encode(self._point(moment, status)))
        self._tick = self._history = None
        self._consumers_fresh = False

    def _point(self, moment: Moment, status: Status) -> Point:
        depth, passed = self._depth, self._flow.since(self._mine)
        usage, elapsed_ms, whole = status.usage, moment.elapsed_ms, self.all
        return Point(
            rfc3339(moment.at),
            moment.requests if whole else 0,
            _per_second(passed.published, elapsed_ms),
            _per_second(passed.delivered, elapsed_ms),
            _per_second(passed.settled, elapsed_ms),
            depth[State.READY] + depth[State.DELAYED],
            depth[State.LEASED],
            depth[State.FAILED],
            depth[State.PROCESSED],
            usage.cpu_percent if whole else 0.0,
            usage.memory_mb if whole else 0.0,
            moment.delivery_ms if whole else None,
            moment.publish_ms if whole else None,
        )

    # -- frames, each made when the first one asks for it --------------------------------------------------------------

    def tick(self, status: Status) -> str | None:
        """The frame of the latest interval; None before the first one is over."""
        if self._tick is None and self._moment is not None:
            figures = status.figures(self._depth, self.all)
            self._tick = frames.tick(self._points[-1], figures, self._moment.refusing).decode()
        return self._tick

    def history(self) -> str:
        """The frame of the points before the latest, which comes with `tick`."""
        if self._history is None:
            self._history = frames.history(list(self._points)[:-1]).decode()
        return self._history

    def consumers(self, roster: Roster) -> str:
        """The frame of the consumers; the very same as long as nothing has changed."""
        if not self._consumers_fresh:
            items: list[Consumer] = []
            for seat in roster.seats():
                if len(items) == MOST_CONSUMERS:
                    break
                if self.sees(seat.queue):
                    items.append(seat.shown())
            made = frames.consumers(items).decode()
            if made != self._consumers:
                self._consumers = made
            self._consumers_fresh = True
        assert self._consumers is not None
        return self._consumers


def _per_second(count: int, elapsed_ms: int) -> float:
    return round(count * 1_000 / elapsed_ms, 1)


def _passed(meters: Iterable[Meter]) -> Passed:
    published = delivered = settled = 0
    for meter in meters:
        published += meter.published
        delivered += meter.delivered
        settled += meter.settled
    return Passed(published, delivered, settled)
