"""How the broker is: for probes, for people, for the dashboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Decision, Principal, decide, may_view_all
from streambroker.core.errors import Draining, Overloaded
from streambroker.core.message import State
from streambroker.transport import schemas
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.resource import Counters
from streambroker.transport.websocket import Sockets

Depth = Sequence[int]
"""How many messages of a queue stand where; indexed by `State`."""
Depths = Callable[[], Mapping[str, Depth]]
_NOTHING = (0,) * len(State)
_NO_CONNECTIONS = schemas.Connections(0, 0, 0, 0)
_LOOK_AGAIN_MS = 5_000


class Usage(Protocol):
    """What the process takes; see `observe.usage.Usage`, which somebody else keeps up to date."""

    @property
    def cpu_percent(self) -> float: ...
    @property
    def memory_mb(self) -> float: ...


class Readiness:
    """Whether requests should come here. A full disk is no reason against it: consumers go on."""

    def __init__(self) -> None:
        self.storage_failed = False

    def check(self, draining: bool) -> None:
        """Return when it should; raises `Draining` or `Overloaded`, with the reason."""
        if self.storage_failed:
            fault = "the storage is failing: what is on the disk is no longer known, and the broker ends"
            raise Overloaded(fault, retry_after_ms=_LOOK_AGAIN_MS)
        if draining:
            raise Draining("the broker is draining: it is about to stop", retry_after_ms=_LOOK_AGAIN_MS)


class Status:
    """What `/stats` and the dashboard tell of the broker as a whole."""

    def __init__(self, sockets: Sockets, counters: Counters, usage: Usage) -> None:
        self.counters = counters
        self.usage = usage
        self._sockets = sockets
        self._started = time.monotonic()

    def figures(self, depth: Depth, whole: bool) -> schemas.Figures:
        """With the messages of these queues together; what others do is told only of the `whole`, else it is 0."""
        counters, usage = self.counters, self.usage
        sockets = len(self._sockets.open)
        connections = schemas.Connections(sockets, counters.long_polls, counters.streams, counters.graphql)
        return schemas.Figures(
            depth[State.READY] + depth[State.DELAYED],
            depth[State.LEASED],
            depth[State.FAILED],
            depth[State.PROCESSED],
            counters.total if whole else 0,
            usage.cpu_percent if whole else 0.0,
            usage.memory_mb if whole else 0.0,
            round(time.monotonic() - self._started, 3),
            counters.by_route() if whole else {},
            counters.by_status() if whole else {},
            connections if whole else _NO_CONNECTIONS,
        )

    def stats(self, depths: Mapping[str, Depth], whole: bool) -> schemas.Stats:
        """With each of these queues; `whole` as in `figures`."""
        figures = self.figures(together(depths.values()), whole)
        queues = {
            name: schemas.QueueStats(ready + delayed, leased, processed, failed)
            for name, (ready, delayed, leased, processed, failed) in depths.items()
        }
        return schemas.Stats(**msgspec.structs.asdict(figures), queues=queues)


def together(depths: Iterable[Depth]) -> Depth:
    """The depth of several queues as if they were one."""
    return [sum(column) for column in zip(*depths, strict=True)] or _NOTHING


class StatusDoor:
    """Handlers over the status and the counts that the store keeps in memory."""

    def __init__(self, broker: Broker, status: Status, depths: Depths, readiness: Readiness) -> None:
        self._broker = broker
        self._status = status
        self._depths = depths
        self._readiness = readiness

    async def healthz(self, call: Call) -> Reply:
        """Alive."""
        return reply(schemas.Health("alive"))

    async def readyz(self, call: Call) -> Reply:
        """Ready to take requests, or 503 with the reason why not."""
        self._readiness.check(self._broker.draining)
        return reply(schemas.Health("ready"))

    async def stats(self, call: Call) -> Reply:
        """What the broker does, as far as one may see its queues."""
        return reply(self._status.stats(_viewable(call.user, self._depths()), may_view_all(call.user)))

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        health = {200: schemas.Health}
        return [
            Endpoint(
                "GET", "/healthz", self.healthz, "Whether the broker is alive", answers=health, public=True, limit=None
            ),
            Endpoint(
                "GET",
                "/readyz",
                self.readyz,
                "Whether it is ready",
                answers=health,
                public=True,
                codes=("draining", "overloaded"),
                limit=None,
            ),
            Endpoint("GET", "/stats", self.stats, "What the broker does", answers={200: schemas.Stats}),
        ]


def _viewable(user: Principal, depths: Mapping[str, Depth]) -> Mapping[str, Depth]:
    if may_view_all(user):
        return depths
    return {name: depth for name, depth in depths.items() if decide(user, Action.VIEW, name) is Decision.ALLOW}
