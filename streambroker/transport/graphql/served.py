"""What executes GraphQL, over HTTP and over WebSocket: all that needs the extra, and takes its time to import."""

from __future__ import annotations

from collections.abc import Callable

from streambroker.core.access import Principal
from streambroker.transport.gate import Gate
from streambroker.transport.graphql.door import GraphQLDoor
from streambroker.transport.graphql.engine import Engine
from streambroker.transport.graphql.request import Operations
from streambroker.transport.graphql.sockets import SubscriptionDoor
from streambroker.transport.presence import Presence
from streambroker.transport.resource import Counters


class Served:
    """Both doors over one engine; arguments as for `doors.Doors`. `max_body` bounds requests over HTTP."""

    def __init__(
        self,
        operations: Operations,
        gate: Gate,
        authenticate: Callable[[str], Principal],
        presence: Presence,
        counters: Counters,
        wall: Callable[[], int],
        max_body: int,
    ) -> None:
        engine = Engine()
        self.http = GraphQLDoor(engine, operations, gate, max_body)
        self.sockets = SubscriptionDoor(engine, operations, gate, authenticate, presence, counters, wall)
