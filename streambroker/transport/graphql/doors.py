"""GraphQL, put together: over HTTP, over WebSocket, and the explorer."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

from starlette.routing import BaseRoute, Route, WebSocketRoute

from streambroker.broker.broker import Broker
from streambroker.core.access import Principal
from streambroker.protocol.messages import Limits
from streambroker.transport.gate import Gate
from streambroker.transport.graphql.door import GraphQLDoor
from streambroker.transport.graphql.engine import Engine
from streambroker.transport.graphql.explorer import ASSETS, PATH, Explorer, SharedPath
from streambroker.transport.graphql.request import Operations
from streambroker.transport.graphql.sockets import SubscriptionDoor
from streambroker.transport.http import Endpoint
from streambroker.transport.presence import Presence
from streambroker.transport.resource import Counters, Resource

_ENVELOPE_BYTES = 256 * 1024


class Doors:
    """See `absent.GraphQL`. `endpoints` are REST's, which carry out what is asked for; `wall` is ms since 1970."""

    def __init__(
        self,
        broker: Broker,
        endpoints: Sequence[Endpoint],
        gate: Gate,
        authenticate: Callable[[str], Principal],
        presence: Presence,
        counters: Counters,
        limits: Limits,
        wall: Callable[[], int],
    ) -> None:
        engine, operations = Engine(), Operations(endpoints, broker)
        self._http = GraphQLDoor(engine, operations, gate, limits.max_message_bytes * 4 // 3 + _ENVELOPE_BYTES)
        self._sockets = SubscriptionDoor(engine, operations, gate, authenticate, presence, counters, wall)
        self._explorer = Explorer(counters)

    def endpoints(self) -> list[Endpoint]:
        """Those that belong to the API."""
        return self._http.endpoints()

    def routes(self, resources: MutableMapping[str, Resource]) -> list[BaseRoute]:
        """Its paths; its endpoints' resource is taken out of `resources`."""
        return [
            Route(PATH, SharedPath(self._explorer, resources.pop(PATH))),
            Route(ASSETS, self._explorer),
            WebSocketRoute(PATH, self._sockets),
        ]

    async def close_all(self, code: int, reason: str) -> None:
        """Close every WebSocket, and wait until what it did has ended."""
        await self._sockets.close_all(code, reason)
