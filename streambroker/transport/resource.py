"""Paths as ASGI applications: who asks, how often, with which method; then the handler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.types import Receive, Scope, Send

from streambroker.core.access import Principal
from streambroker.core.errors import BrokerError, Internal, MethodNotAllowed, NotFound, RateLimited, Unauthenticated
from streambroker.transport.counting import Refused, Requests
from streambroker.transport.http import Call, ClientLeft, Endpoint, bearer
from streambroker.transport.limiting import Kind, RateLimits, network
from streambroker.transport.problems import Reply, problem_reply, respond

log = logging.getLogger(__name__)

_CLIENT_LEFT = 499


class Note(Protocol):
    """Hears of every request that was answered: the access log."""

    def __call__(
        self, method: str, route: str, status: int, user: str | None, request_id: bytes, duration_ms: float, /
    ) -> None: ...


class Counters:
    """What `/stats` tells of requests: plain integers, owned by the event loop. `note` hears of each, too."""

    def __init__(self, note: Note | None = None) -> None:
        self.total = 0
        self.by_route: dict[str, int] = {}
        self.by_status: dict[str, int] = {}
        self.long_polls = 0
        self.requests = Requests()
        self._note = note

    def answered(self, scope: Scope, method: str, route: str, status: int, began: float) -> None:
        """A request was answered, that came at `began` by `time.perf_counter`. `route` is a template, never a path."""
        self.total += 1
        name = f"{method} {route}"
        self.by_route[name] = self.by_route.get(name, 0) + 1
        text = str(status)
        self.by_status[text] = self.by_status.get(text, 0) + 1
        took_s = time.perf_counter() - began
        self.requests.note(name, status, took_s)
        if self._note is not None:
            user = scope.get("streambroker.user")
            self._note(method, route, status, user, scope["streambroker.request_id"], took_s * 1_000)


class Gate:
    """Who may pass, and how often: asked before every handler."""

    def __init__(self, authenticate: Callable[[str], Principal], rates: RateLimits) -> None:
        self.refused = Refused()
        self._authenticate = authenticate
        self._rates = rates

    def recognize(self, scope: Scope) -> Principal:
        """Who asks. Raises `Unauthenticated`."""
        principal = self._authenticate(bearer(scope["streambroker.headers"]))
        scope["streambroker.user"] = principal.username
        return principal

    async def admit(self, scope: Scope, principal: Principal | None, kind: Kind | None) -> None:
        """Count a request of a user, or of an address where nobody is known. Raises `RateLimited`."""
        if kind is None:
            return
        who = f"u:{principal.username}" if principal is not None else f"a:{network(scope['streambroker.address'])}"
        scope["streambroker.limited"] = (kind, who)
        if not self._rates.take(kind, who):
            try:
                await self._rates.refill(kind, who)
            except RateLimited:
                self.refused.limited(kind)
                raise

    async def pass_in(self, scope: Scope, kind: Kind | None) -> Principal:
        """Who asks, counted. Raises `Unauthenticated`, which is counted for the address, and `RateLimited`."""
        try:
            principal = self.recognize(scope)
        except Unauthenticated:
            self.refused.unknown(scope["streambroker.headers"].get(b"authorization"))
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
        self._template = template
        self._gate = gate
        self._counters = counters
        self._allow = ", ".join(sorted(self._endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        endpoint = self._endpoints.get(scope["method"])
        method = "*" if endpoint is None else scope["method"]  # which ones there are is the client's to choose
        try:
            answer = await self._answer(endpoint, scope, receive)
        except ClientLeft:
            self._counters.answered(scope, method, self._template, _CLIENT_LEFT, began)
            return
        except BrokerError as error:
            answer = problem_reply(error, scope["streambroker.request_id"])
        except Exception:
            request_id = scope["streambroker.request_id"].decode("latin-1")
            log.exception("%s %s failed", method, self._template, extra={"request_id": request_id})
            fault = Internal("the broker failed at this; its log says why, under this request's id")
            answer = problem_reply(fault, scope["streambroker.request_id"])
        self._counters.answered(scope, method, self._template, answer.status, began)
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
        began = time.perf_counter()
        error: BrokerError = NotFound("there is nothing at this path; GET /openapi.json lists what there is")
        try:
            await self._gate.pass_in(scope, Kind.DEFAULT)
        except BrokerError as other:
            error = other
        self._counters.answered(scope, "*", "unknown", error.status, began)
        await respond(scope, send, problem_reply(error, scope["streambroker.request_id"]), self._gate.told(scope))
