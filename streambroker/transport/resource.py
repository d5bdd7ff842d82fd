"""Paths as ASGI applications: who asks, how often, with which method; then the handler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from starlette.types import Receive, Scope, Send

from streambroker.core.access import Principal
from streambroker.core.errors import BrokerError, Internal, MethodNotAllowed, NotFound, Unauthenticated
from streambroker.transport.http import Call, ClientLeft, Endpoint, bearer
from streambroker.transport.limiting import Kind, RateLimits, network
from streambroker.transport.problems import Reply, problem_reply, refuse, respond

log = logging.getLogger(__name__)


class Counters:
    """What `/stats` tells of requests: plain integers, owned by the event loop."""

    def __init__(self) -> None:
        self.total = 0
        self.by_route: dict[str, int] = {}
        self.by_status: dict[str, int] = {}
        self.long_polls = 0

    def count(self, route: str, status: int) -> None:
        """One request was answered."""
        self.total += 1
        self.by_route[route] = self.by_route.get(route, 0) + 1
        text = str(status)
        self.by_status[text] = self.by_status.get(text, 0) + 1


class Gate:
    """Who may pass, and how often: asked before every handler."""

    def __init__(self, authenticate: Callable[[str], Principal], rates: RateLimits) -> None:
        self._authenticate = authenticate
        self._rates = rates

    def recognize(self, scope: Scope) -> Principal:
        """Who asks. Raises `Unauthenticated`."""
        return self._authenticate(bearer(scope["streambroker.headers"]))

    async def admit(self, scope: Scope, principal: Principal | None, kind: Kind | None) -> None:
        """Count a request of a user, or of an address where nobody is known. Raises `RateLimited`."""
        if kind is None:
            return
        who = f"u:{principal.username}" if principal is not None else f"a:{network(scope['streambroker.address'])}"
        scope["streambroker.limited"] = (kind, who)
        if not self._rates.take(kind, who):
            await self._rates.refill(kind, who)

    async def pass_in(self, scope: Scope, kind: Kind | None) -> Principal:
        """Who asks, counted. Raises `Unauthenticated`, which is counted for the address, and `RateLimited`."""
        try:
            principal = self.recognize(scope)
        except Unauthenticated:
            await self.admit(scope, None, Kind.DEFAULT)
            raise
        await self.admit(scope, principal, kind)
        return principal

    def told(self, scope: Scope) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that tell a client how it stands with its limit."""
        limited = scope.get("streambroker.limited")
        standing = None if limited is None else self._rates.standing(*limited)
        return () if standing is None else standing.headers()


class Resource:
    """Picks the method, asks who it is, runs the handler, sends the answer."""

    def __init__(self, template: str, endpoints: Sequence[Endpoint], gate: Gate, counters: Counters) -> None:
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        if (get := self._endpoints.get("GET")) and get.head:
            self._endpoints["HEAD"] = get
        self._routes = {method: f"{method} {template}" for method in self._endpoints}
        self._template = template
        self._gate = gate
        self._counters = counters
        self._allow = ", ".join(sorted(self._endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        try:
            try:
                answer = await self._answer(self._endpoints.get(method), scope, receive)
            except ClientLeft:
                raise
            except BrokerError as error:
                answer = problem_reply(error, scope["streambroker.request_id"])
            except Exception:
                log.exception("%s %s failed", method, self._template)
                fault = Internal("the broker failed at this; its log says why, under this request's id")
                answer = problem_reply(fault, scope["streambroker.request_id"])
        except ClientLeft:
            self._counters.count(self._routes.get(method, "* " + self._template), 499)
            return
        self._counters.count(self._routes.get(method, "* " + self._template), answer.status)
        await respond(scope, send, answer, self._gate.told(scope))

    async def _answer(self, endpoint: Endpoint | None, scope: Scope, receive: Receive) -> Reply:
        if endpoint is None:
            await self._gate.pass_in(scope, Kind.DEFAULT)
            raise MethodNotAllowed(f"{scope['method']} is not for this path; it takes {self._allow}", self._allow)
        principal = None
        if endpoint.public:
            await self._gate.admit(scope, None, endpoint.limit)
        else:
            principal = await self._gate.pass_in(scope, endpoint.limit)
        return await endpoint.handler(Call(scope, receive, principal))


class Nowhere:
    """The application of every path that there is not: strangers do not learn which paths exist."""

    def __init__(self, gate: Gate, counters: Counters) -> None:
        self._gate = gate
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: BrokerError = NotFound("there is nothing at this path; GET /openapi.json lists what there is")
        try:
            await self._gate.pass_in(scope, Kind.DEFAULT)
        except BrokerError as other:
            error = other
        self._counters.count("* unknown", error.status)
        await refuse(scope, send, error)
