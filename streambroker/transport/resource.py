"""Paths as ASGI applications: who asks, how often, with which method; then the handler."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Protocol

from starlette.types import Receive, Scope, Send

from streambroker.core.errors import BrokerError, Internal, MethodNotAllowed, NotFound
from streambroker.transport.counting import Requests, Tally
from streambroker.transport.gate import Gate
from streambroker.transport.http import Call, ClientLeft, Endpoint, Streaming
from streambroker.transport.limiting import Kind
from streambroker.transport.problems import Reply, head_of, problem_reply, refuse, respond

log = logging.getLogger(__name__)

_CLIENT_LEFT = 499


class Listener(Protocol):
    """Hears of requests that were answered: the access log."""

    @property
    def hears_from(self) -> int:
        """The lowest status that it wants to hear of; the others are counted all the same."""
        ...

    def note(
        self,
        method: str,
        route: str,
        status: int,
        user: str | None,
        request_id: bytes,
        duration_ms: float,
        subject: Mapping[str, str],
        /,
    ) -> None:
        """A request was answered."""
        ...


class Counters:
    """What `/stats` tells of requests: plain integers, owned by the event loop. `listener` may hear of them, too.

    `earlier` are the requests of earlier runs, which only the total holds.
    """

    def __init__(self, listener: Listener | None = None, requests: Requests | None = None) -> None:
        self.earlier = 0
        self.long_polls = 0
        self.streams = 0
        self.graphql = 0
        self.requests = requests or Requests()
        self._listener = listener
        self._hears_from = math.inf if listener is None else listener.hears_from

    def answered(self, scope: Scope, tally: Tally, status: int, began: float) -> None:
        """A request was answered, that came at `began` by `perf_counter`. `tally` is its route's."""
        took_s = perf_counter() - began
        tally.note(status, took_s)
        if status >= self._hears_from and self._listener is not None:
            user, request_id = scope.get("streambroker.user"), scope["streambroker.request_id"]
            # Of what was refused the path may hold anything: a secret, put where a name belongs.
            subject = _subject(scope) if status < 400 else {}
            self._listener.note(tally.method, tally.template, status, user, request_id, took_s * 1_000, subject)

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


def _subject(scope: Scope) -> dict[str, str]:
    """The queue and the message that the path names."""
    given: Mapping[str, str] = scope.get("path_params", {})
    return {name: given[name] for name in ("queue", "message_id") if name in given}


class Resource:
    """Picks the method, asks who it is, runs the handler, sends the answer."""

    def __init__(self, template: str, endpoints: Sequence[Endpoint], gate: Gate, counters: Counters) -> None:
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        if (get := self._endpoints.get("GET")) and get.head:
            self._endpoints["HEAD"] = get
        self._template = template
        self._gate = gate
        self._counters = counters
        self._tallies = {method: counters.requests.of(method, template) for method in self._endpoints}
        self._allow = ", ".join(sorted(self._endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        method = scope["method"]
        endpoint = self._endpoints.get(method)
        try:
            answer = await self._answer(endpoint, scope, receive)
        except ClientLeft:
            self._counters.answered(scope, self._tally(method), _CLIENT_LEFT, began)
            return
        except BrokerError as error:
            answer = problem_reply(error, scope["streambroker.request_id"])
        except Exception:
            request_id = scope["streambroker.request_id"].decode("latin-1")
            log.exception("%s %s failed", self._tally(method).method, self._template, extra={"request_id": request_id})
            fault = Internal("the broker failed at this; its log says why, under this request's id")
            answer = problem_reply(fault, scope["streambroker.request_id"])
        self._counters.answered(scope, self._tally(method), answer.status, began)
        whole = scope.get("streambroker.answer")
        if not isinstance(answer, Reply):
            await answer.answer(scope, send, self._gate.told(scope))
        elif whole is None:
            await respond(scope, send, answer, self._gate.told(scope))
        else:
            body = b"" if method == "HEAD" else answer.body
            await whole(answer.status, head_of(scope, answer, self._gate.told_lines(scope)), body)

    def _tally(self, method: str) -> Tally:
        # Which methods there are that the path does not take is the client's to choose: all are one.
        return self._tallies.get(method) or self._counters.requests.of("*", self._template)

    async def _answer(self, endpoint: Endpoint | None, scope: Scope, receive: Receive) -> Reply | Streaming:
        if endpoint is None:
            await self._gate.pass_in(scope, Kind.DEFAULT)
            raise MethodNotAllowed(f"{scope['method']} is not for this path; it takes {self._allow}", self._allow)
        gate, kind = self._gate, endpoint.limit
        principal = None
        if endpoint.public:
            await gate.admit(scope, None, kind)
        elif kind is None or (principal := gate.at_once(scope, kind)) is None:
            principal = await gate.pass_in(scope, kind)
        call = Call(scope, receive, principal, gate)
        # Probes are answered whatever a load balancer adds to them.
        if scope["query_string"] and endpoint.query is None and kind is not None:
            return await _without_query(endpoint, call)
        return await endpoint.handler(call)


async def _without_query(endpoint: Endpoint, call: Call) -> Reply | Streaming:
    """For a call that takes no parameters: raises `Invalid` where there are some.

    What may not be seen is refused first where the call only looks; one that changes something must not begin.
    """
    looked = await endpoint.handler(call) if endpoint.method == "GET" else None
    call.without_query()
    return await endpoint.handler(call) if looked is None else looked


class Nowhere:
    """The application of every path that there is not: strangers do not learn which paths exist."""

    def __init__(self, gate: Gate, counters: Counters) -> None:
        self._gate = gate
        self._counters = counters
        self._tally = counters.requests.of("*", "unknown")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        error: BrokerError = NotFound("there is nothing at this path; GET /openapi.json lists what there is")
        try:
            await self._gate.pass_in(scope, Kind.DEFAULT)
        except BrokerError as other:
            error = other
        self._counters.answered(scope, self._tally, error.status, began)
        if scope["type"] == "websocket":
            await refuse(scope, send, error)
        else:
            await respond(scope, send, problem_reply(error, scope["streambroker.request_id"]), self._gate.told(scope))
