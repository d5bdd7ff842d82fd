"""GraphQL, put together: over HTTP, over WebSocket, and the explorer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from streambroker.broker.broker import Broker
from streambroker.core.access import Principal
from streambroker.protocol.messages import Limits
from streambroker.transport.gate import Gate
from streambroker.transport.graphql.explorer import ASSETS, PATH, Explorer, SharedPath
from streambroker.transport.graphql.request import Operations
from streambroker.transport.graphql.schemas import RESPONSE, GraphQLIn, GraphQLOut
from streambroker.transport.http import Call, Endpoint, Reply
from streambroker.transport.presence import Presence
from streambroker.transport.resource import Counters, Resource

if TYPE_CHECKING:
    from streambroker.transport.graphql.served import Served

_ENVELOPE_BYTES = 256 * 1024


def is_installed() -> bool:
    """Whether the extra is there that GraphQL needs."""
    return all(find_spec(name) is not None for name in ("graphql", "strawberry"))


class Doors:
    """See `absent.GraphQL`. `endpoints` are REST's, which carry out what is asked for; `wall` is ms since 1970.

    What executes GraphQL is loaded when somebody asks for the first time, in a thread: it takes a fifth of the time
    that a broker needs to start, and 10 MB, and most brokers are never asked.
    """

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
        def load() -> Served:
            from streambroker.transport.graphql.served import Served

            max_body = limits.max_message_bytes * 4 // 3 + _ENVELOPE_BYTES
            return Served(Operations(endpoints, broker), gate, authenticate, presence, counters, wall, max_body)

        self._load = load
        self._loading: asyncio.Future[Served] | None = None
        self._explorer = Explorer(counters)

    async def _served(self) -> Served:
        loading = self._loading
        if loading is None:
            loading = self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        try:
            return await asyncio.shield(loading)  # whoever leaves meanwhile breaks it off for nobody else
        except Exception:
            if self._loading is loading:
                self._loading = None  # it opens files: where there were none left, the next may have better luck
            raise

    async def post(self, call: Call) -> Reply:
        """Execute a query or a mutation. Subscriptions go over WebSocket, to the same path.

        A request that cannot be read is a problem document, as everywhere. Otherwise the answer is GraphQL's: with
        `Accept: application/graphql-response+json` its status is 400 where nothing was executed, else it is 200.
        """
        return await (await self._served()).http.post(call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The WebSocket."""
        await (await self._served()).sockets(scope, receive, send)

    def endpoints(self) -> list[Endpoint]:
        """Those that belong to the API. Their limits are counted when it is known what is asked for."""
        answers, gives = {200: GraphQLOut}, {RESPONSE: GraphQLOut}
        codes = ("rate_limited",)  # counted by what a document costs
        return [
            Endpoint(
                "POST", PATH, self.post, "Ask by GraphQL", GraphQLIn, answers, codes=codes, limit=None, gives=gives
            )
        ]

    def routes(self, resources: MutableMapping[str, Resource]) -> list[BaseRoute]:
        """Its paths; its endpoints' resource is taken out of `resources`."""
        return [
            Route(PATH, SharedPath(self._explorer, resources.pop(PATH))),
            Route(ASSETS, self._explorer),
            WebSocketRoute(PATH, self),
        ]

    async def close_all(self, code: int, reason: str) -> None:
        """Close every WebSocket, and wait until what it did has ended."""
        if self._loading is not None:
            await (await self._served()).sockets.close_all(code, reason)
