"""The door to the metrics, and a port of their own on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from streambroker.core.access import may_view_all
from streambroker.core.errors import BrokerError, Forbidden, MethodNotAllowed, NotFound
from streambroker.transport import server
from streambroker.transport.front import Front, Hosts
from streambroker.transport.http import Call, Endpoint, Reply
from streambroker.transport.problems import refuse, respond

LOOPBACK = "127.0.0.1"
_MOST_CONNECTIONS = 16
_HEARTBEAT_MS = 10_000
_CLOSE_S = 5

Text = Callable[[], Awaitable[bytes]]


class MetricsDoor:
    """`GET /metrics` among the other paths. `text` makes the metrics, `content_type` is what they are written in."""

    def __init__(self, text: Text, content_type: str) -> None:
        self._text = text
        self._headers = ((b"content-type", content_type.encode()),)

    async def metrics(self, call: Call) -> Reply:
        """All metrics, for whoever may view all queues."""
        if not may_view_all(call.user):
            raise Forbidden("metrics tell of every queue; they take the grant to view *")
        return await self.reply()

    async def reply(self) -> Reply:
        """All metrics, for whoever has been let in."""
        return Reply(200, await self._text(), self._headers)

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        return [Endpoint("GET", "/metrics", self.metrics, "Metrics for Prometheus", answers={200: str})]


class MetricsPort:
    """`GET /metrics` on a port of its own, which only this machine can reach and which asks for no token.

    Listens from the beginning, `port` 0 on a free one; raises `OSError`. Call `close()`.
    """

    def __init__(self, door: MetricsDoor, port: int) -> None:
        self._door = door
        self._socket = server.listen(LOOPBACK, port)
        self.port: int = self._socket.getsockname()[1]
        # A page that a browser shows could otherwise reach it under a name of its own (DNS rebinding).
        front = Front(self._answer, Hosts(()))
        self._server = server.Server(server.configured(front, _HEARTBEAT_MS, 1, most_connections=_MOST_CONNECTIONS))
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def close(self) -> None:
        """Stop."""
        self._server.should_exit = True
        await asyncio.wait([self._serving], timeout=_CLOSE_S)
        self._socket.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: BrokerError
        if scope["type"] != "http" or scope["path"] != "/metrics":
            error = NotFound("there is nothing here but GET /metrics")
        elif scope["method"] not in ("GET", "HEAD"):
            error = MethodNotAllowed("metrics can only be read", "GET, HEAD")
        else:
            await respond(scope, send, await self._door.reply())
            return
        await refuse(scope, send, error)
