"""What `/graphql` answers where it is not served: what to do about it."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Protocol

from starlette.routing import BaseRoute, Route

from streambroker.core.errors import NotFound
from streambroker.transport.gate import Gate
from streambroker.transport.http import Call, Endpoint, Reply
from streambroker.transport.resource import Counters, Resource

OFF = "GraphQL is switched off on this broker; start it with graphql=on"
NOT_INSTALLED = "GraphQL is not installed with this broker: pip install 'streambroker[graphql]', and start it again"


class GraphQL(Protocol):
    """What a node serves at `/graphql`."""

    def endpoints(self) -> Sequence[Endpoint]:
        """Those that belong to the API."""
        ...

    def routes(self, resources: MutableMapping[str, Resource]) -> list[BaseRoute]:
        """Its paths; what belongs to them is taken out of `resources`, those of the API's endpoints."""
        ...

    async def close_all(self, code: int, reason: str) -> None:
        """Close every WebSocket."""
        ...


class Absent:
    """Nothing but the reason `why`, for whoever is somebody; see `GraphQL`."""

    def __init__(self, why: str, gate: Gate, counters: Counters) -> None:
        self._why = why
        self._gate = gate
        self._counters = counters

    def endpoints(self) -> list[Endpoint]:
        """None: it is no part of the API."""
        return []

    def routes(self, resources: MutableMapping[str, Resource]) -> list[BaseRoute]:
        """The one path that says why."""
        said = [Endpoint(method, "/graphql", self._refuse, "GraphQL is not served") for method in ("GET", "POST")]
        return [Route("/graphql", Resource("/graphql", said, self._gate, self._counters))]

    async def close_all(self, code: int, reason: str) -> None:
        """There are none."""

    async def _refuse(self, call: Call) -> Reply:
        """GraphQL is not served here."""
        raise NotFound(self._why)
