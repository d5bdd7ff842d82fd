"""How the broker is: for probes, for people, for the dashboard to come."""

from __future__ import annotations

import time

import psutil

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Decision, decide
from streambroker.core.errors import Draining
from streambroker.transport import schemas
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.resource import Counters
from streambroker.transport.websocket import Sockets


class StatusDoor:
    """Handlers over the broker and the counters."""

    def __init__(self, broker: Broker, sockets: Sockets, counters: Counters) -> None:
        self._broker = broker
        self._sockets = sockets
        self._counters = counters
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark that the next one measures from
        self._started = time.monotonic()

    async def healthz(self, call: Call) -> Reply:
        """Alive."""
        return reply(schemas.Health("alive"))

    async def readyz(self, call: Call) -> Reply:
        """Ready to take requests; 503 while starting or draining."""
        if self._broker.draining:
            raise Draining("the broker is stopping", retry_after_ms=5_000)
        return reply(schemas.Health("ready"))

    async def stats(self, call: Call) -> Reply:
        """What the broker does, as far as one may see its queues."""
        queues: dict[str, schemas.QueueStats] = {}
        for queue in self._broker.queues():
            if decide(call.user, Action.VIEW, queue.name) is Decision.ALLOW:
                depth = await self._broker.depth(queue.name)
                queues[queue.name] = schemas.QueueStats(
                    depth.ready + depth.delayed, depth.leased, depth.processed, depth.failed
                )
        counters = self._counters
        return reply(
            schemas.Stats(
                sum(q.pending for q in queues.values()),
                sum(q.processing for q in queues.values()),
                sum(q.failed for q in queues.values()),
                sum(q.processed for q in queues.values()),
                counters.total,
                self._process.cpu_percent(),
                round(self._process.memory_info().rss / 1024 / 1024, 1),
                round(time.monotonic() - self._started, 3),
                counters.by_route,
                counters.by_status,
                schemas.Connections(len(self._sockets.open), counters.long_polls, 0),
                queues,
            )
        )

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
                codes=("draining",),
                limit=None,
            ),
            Endpoint("GET", "/stats", self.stats, "What the broker does", answers={200: schemas.Stats}),
        ]
