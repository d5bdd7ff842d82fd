"""Who comes in by `graphql-transport-ws`, and who is here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from streambroker.core.access import Principal
from streambroker.core.errors import BrokerError, RateLimited, Unauthenticated
from streambroker.transport.gate import Gate
from streambroker.transport.graphql.connection import Connection
from streambroker.transport.graphql.engine import Engine
from streambroker.transport.graphql.request import Operations
from streambroker.transport.limiting import Kind
from streambroker.transport.presence import Presence
from streambroker.transport.problems import refuse
from streambroker.transport.resource import Counters


class SubscriptionDoor:
    """The ASGI application of the WebSocket; what each connection is given. `wall` is milliseconds since 1970."""

    def __init__(
        self,
        engine: Engine,
        operations: Operations,
        gate: Gate,
        authenticate: Callable[[str], Principal],
        presence: Presence,
        counters: Counters,
        wall: Callable[[], int],
    ) -> None:
        self.engine = engine
        self.operations = operations
        self.gate = gate
        self.authenticate = authenticate
        self.presence = presence
        self.wall = wall
        self._counters = counters
        self._open: set[Connection] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            connection = Connection(self, scope, receive, send)
        except BrokerError as error:
            await refuse(scope, send, await self._counted(scope, error))
            return
        await connection.run()

    def entered(self, connection: Connection) -> None:
        """A connection was accepted."""
        self._open.add(connection)
        self._counters.graphql += 1

    def left(self, connection: Connection) -> None:
        """It has ended."""
        self._open.discard(connection)
        self._counters.graphql -= 1

    async def _counted(self, scope: Scope, error: BrokerError) -> BrokerError:
        """The answer to an upgrade that is refused: failed logins count for their address, as they do over REST."""
        if isinstance(error, Unauthenticated):
            try:
                await self.gate.admit(scope, None, Kind.DEFAULT)
            except RateLimited as limited:
                return limited
        return error

    async def close_all(self, code: int, reason: str) -> None:
        """Close every connection, and wait until what they did has ended."""
        connections = list(self._open)
        for connection in connections:
            connection.close(code, reason)
        if connections:
            await asyncio.wait([connection.ended for connection in connections], timeout=5)
