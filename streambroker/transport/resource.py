"""Paths as ASGI applications: who asks, how often, with which method; then the handler."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from starlette.types import Receive, Scope, Send

from streambroker.core.errors import BrokerError, Internal, MethodNotAllowed, NotFound
from streambroker.transport.counting import Requests
from streambroker.transport.gate import Gate
from streambroker.transport.http import Call, ClientLeft, Endpoint, Streaming
from streambroker.transport.limiting import Kind
from streambroker.transport.problems import Reply, problem_reply, refuse, respond

log = logging.getLogger(__name__)

_CLIENT_LEFT = 499


class Note(Protocol):
    """Hears of every request that was answered: the access log."""

    def __call__(
        self, method: str, route: str, status: int, user: str | None, request_id: bytes, duration_ms: float, /
    ) -> None: ...


class Counters:
    """What `/stats` tells of requests: plain integers, owned by the event loop. `note` hears of each, too.

    `earlier` are the requests of earlier runs, which only the total holds.
    """

    def __init__(self, note: Note | None = None) -> None:
        self.earlier = 0
        self.long_polls = 0
        self.streams = 0
        self.requests = Requests()
        self._note = note

    def answered(self, scope: Scope, method: str, route: str, status: int, began: float) -> None:
        """A request was answered, that came at `began` by `time.perf_counter`. `route` is a template, never a path."""
        took_s = time.perf_counter() - began
        self.requests.note(method, route, status, took_s)
        if self._note is not None:
            user = scope.get("streambroker.user")
            self._note(method, route, status, user, scope["streambroker.request_id"], took_s * 1_000)

    @property
    def total(self) -> int:
        """All requests that were ever answered."""
        return self.earlier + sum(count for _, _, _, count in self.requests.counts())

    def by_route(self) -> dict[str, int]:
        """How many since the start, by method and template."""
        found: dict[str, int] = {}
        for method, template, _, count in self.requests.counts():
            route = f"{method} {template}"
            found[route] = found.get(route, 0) + count
        return found

    def by_status(self) -> dict[str, int]:
        """How many since the start, by status."""
        found: dict[str, int] = {}
        for _, _, status, count in self.requests.counts():
            found[str(status)] = found.get(str(status), 0) + count
        return found


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
        if isinstance(answer, Reply):
            await respond(scope, send, answer, self._gate.told(scope))
        else:
            await answer.answer(scope, send, self._gate.told(scope))

    async def _answer(self, endpoint: Endpoint | None, scope: Scope, receive: Receive) -> Reply | Streaming:
        if endpoint is None:
            await self._gate.pass_in(scope, Kind.DEFAULT)
            raise MethodNotAllowed(f"{scope['method']} is not for this path; it takes {self._allow}", self._allow)
        principal = None
        if endpoint.public:
            await self._gate.admit(scope, None, endpoint.limit)
        else:
            principal = await self._gate.pass_in(scope, endpoint.limit)
        return await endpoint.handler(Call(scope, receive, principal, self._gate))


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
        if scope["type"] == "websocket":
            await refuse(scope, send, error)
        else:
            await respond(scope, send, problem_reply(error, scope["streambroker.request_id"]), self._gate.told(scope))
