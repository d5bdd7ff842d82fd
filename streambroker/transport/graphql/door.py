"""GraphQL over HTTP: `POST /graphql` (the GraphQL over HTTP specification, draft of 2025)."""

from __future__ import annotations

import re

from starlette.types import Scope, Send

from streambroker.core.errors import Malformed, UnsupportedMediaType
from streambroker.protocol.json import encode
from streambroker.transport.gate import Gate
from streambroker.transport.graphql.engine import Engine, Refused
from streambroker.transport.graphql.explorer import PATH
from streambroker.transport.graphql.request import Operations, Request
from streambroker.transport.graphql.verbatim import decoded
from streambroker.transport.graphql.wire import Envelope, GraphQLIn, GraphQLOut, envelope
from streambroker.transport.http import Call, ClientLeft, Endpoint, Reply, Streaming
from streambroker.transport.problems import ALWAYS, Headers

RESPONSE = "application/graphql-response+json"
PORTION = 256 * 1024
"""A larger answer is sent in portions of that size."""
_QUALITY = re.compile(r";\s*q=([01](?:\.\d{0,3})?)\s*$", re.IGNORECASE)


class GraphQLDoor:
    """Handlers over one engine. `max_body` bounds requests."""

    def __init__(self, engine: Engine, operations: Operations, gate: Gate, max_body: int) -> None:
        self._engine = engine
        self._operations = operations
        self._gate = gate
        self._max_body = max_body

    async def post(self, call: Call) -> Reply | Streaming:
        """Execute a query or a mutation. Subscriptions go over WebSocket, to the same path.

        A request that cannot be read is a problem document, as everywhere. Otherwise the answer is GraphQL's: with
        `Accept: application/graphql-response+json` its status is 400 where nothing was executed, else it is 200.
        """
        body = await call.body(self._max_body)
        if not body:
            raise Malformed("the body is empty; this call takes a JSON object with the member `query`")
        if call.media_type() is None or not call.is_json():
            raise UnsupportedMediaType("send the request as Content-Type: application/json")
        request = Request(self._operations, self._gate, call.scope, call.receive, call.user)
        try:
            reply = await self._answered(request, call, envelope(decoded(body)))
        except BaseException:
            request.sent()
            raise
        if len(reply.body) > PORTION:
            return _Large(reply, request)
        request.sent()
        return reply

    async def _answered(self, request: Request, call: Call, given: Envelope) -> Reply:
        modern = prefers_response(call.header(b"accept") or "")
        try:
            answer, status = await self._engine.answer(request, given), 200
        except Refused as refused:
            answer, status = refused.answer, 400 if modern else 200
        if request.left:
            raise ClientLeft
        media = f"{RESPONSE}; charset=utf-8" if modern else "application/json; charset=utf-8"
        return Reply(status, encode(answer), ((b"content-type", media.encode()),))

    def endpoints(self) -> list[Endpoint]:
        """What this door serves. Its limits are counted when it is known what is asked for."""
        answers, gives = {200: GraphQLOut}, {RESPONSE: GraphQLOut}
        codes = ("rate_limited",)  # counted by what a document costs
        return [
            Endpoint(
                "POST", PATH, self.post, "Ask by GraphQL", GraphQLIn, answers, codes=codes, limit=None, gives=gives
            )
        ]


class _Large:
    """An answer that is sent in portions, so that it is known when the client has read most of it."""

    def __init__(self, reply: Reply, request: Request) -> None:
        self.status = reply.status
        self._reply = reply
        self._request = request

    async def answer(self, scope: Scope, send: Send, headers: Headers) -> None:
        """See `Streaming`."""
        body = memoryview(self._reply.body)
        own = ((b"x-request-id", scope["streambroker.request_id"]), (b"content-length", b"%d" % len(body)))
        fields = [*ALWAYS, *own, *headers, *self._reply.headers]
        try:
            await send({"type": "http.response.start", "status": self.status, "headers": fields})
            for at in range(0, len(body), PORTION):
                part = bytes(body[at : at + PORTION])
                await send({"type": "http.response.body", "body": part, "more_body": at + PORTION < len(body)})
        finally:
            self._request.sent()


def prefers_response(accept: str) -> bool:
    """Whether an `Accept` header wants GraphQL's own media type at least as much as plain JSON."""
    wanted: dict[str, float] = {}
    for part in accept.split(","):
        media = part.partition(";")[0].strip().lower()
        quality = _QUALITY.search(part)
        wanted[media] = float(quality[1]) if quality else 1.0
    own = wanted.get(RESPONSE, 0.0)
    return own > 0 and own >= wanted.get("application/json", 0.0)
