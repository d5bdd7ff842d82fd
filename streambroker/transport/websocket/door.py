"""Who comes in by WebSocket, and who is here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from streambroker.broker.broker import Broker
from streambroker.core.access import Principal
from streambroker.core.errors import BrokerError, RateLimited, Unauthenticated
from streambroker.protocol import frames
from streambroker.protocol.messages import Limits
from streambroker.transport.counting import Refused
from streambroker.transport.limiting import Kind, RateLimits, network
from streambroker.transport.presence import Presence
from streambroker.transport.problems import refuse
from streambroker.transport.websocket.connection import Connection


class Sockets:
    """All open connections: for the drain, and to be counted."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()

    def draining(self, deadline_ms: int) -> None:
        """Tell everybody that the broker stops."""
        for connection in self.open:
            connection.answers.say(frames.draining(deadline_ms))

    async def close_all(self, code: int, reason: str) -> None:
        """Close every connection, and wait until what they held is given back."""
        connections = list(self.open)
        for connection in connections:
            connection.close(code, reason)
        if connections:
            await asyncio.wait([connection.ended for connection in connections], timeout=5)


class WebSocketDoor:
    """The ASGI application of ``/ws`` and ``/queues/{queue}/ws``; what each connection is given."""

    def __init__(
        self,
        broker: Broker,
        authenticate: Callable[[str], Principal],
        sockets: Sockets,
        presence: Presence,
        rates: RateLimits,
        limits: Limits,
        heartbeat_ms: int,
        max_frame: int,
        wall: Callable[[], int],
        refused: Refused | None = None,
    ) -> None:
        self.broker = broker
        self.authenticate = authenticate
        self.sockets = sockets
        self.presence = presence
        self.rates = rates
        self.limits = limits
        self.heartbeat_ms = heartbeat_ms
        self.max_frame = max_frame
        self.wall = wall
        self.refused = refused or Refused()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            connection = Connection(self, scope, receive, send)
        except BrokerError as error:
            await refuse(scope, send, await self._counted(scope, error))
            return
        await connection.run()

    async def _counted(self, scope: Scope, error: BrokerError) -> BrokerError:
        """The answer to an upgrade that is refused: failed logins count for their address, as they do over REST."""
        if not isinstance(error, Unauthenticated):
            return error
        who = f"a:{network(scope['streambroker.address'])}"
        try:
            if not self.rates.take(Kind.DEFAULT, who):
                await self.rates.refill(Kind.DEFAULT, who)
        except RateLimited as limited:
            self.refused.limited(Kind.DEFAULT)
            return limited
        return error
