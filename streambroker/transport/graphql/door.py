"""GraphQL over HTTP: `POST /graphql` (the GraphQL over HTTP specification, draft of 2025)."""

from __future__ import annotations

import re

from streambroker.core.errors import Malformed, UnsupportedMediaType
from streambroker.protocol.json import encode
from streambroker.transport.gate import Gate
from streambroker.transport.graphql.engine import Engine, Refused
from streambroker.transport.graphql.request import Operations, Request
from streambroker.transport.graphql.schemas import RESPONSE
from streambroker.transport.graphql.verbatim import decoded
from streambroker.transport.graphql.wire import Envelope, envelope
from streambroker.transport.http import Call, ClientLeft, Reply

_QUALITY = re.compile(r";\s*q=([01](?:\.\d{0,3})?)\s*$", re.IGNORECASE)


class GraphQLDoor:
    """The handler over one engine. `max_body` bounds requests."""

    def __init__(self, engine: Engine, operations: Operations, gate: Gate, max_body: int) -> None:
        self._engine = engine
        self._operations = operations
        self._gate = gate
        self._max_body = max_body

    async def post(self, call: Call) -> Reply:
        """See `doors.Doors.post`."""
        body = await call.body(self._max_body)
        if not body:
            raise Malformed("the body is empty; this call takes a JSON object with the member `query`")
        if call.media_type() is None or not call.is_json():
            raise UnsupportedMediaType("send the request as Content-Type: application/json")
        request = Request(self._operations, self._gate, call.scope, call.receive, call.user)
        try:
            return await self._answered(request, call, envelope(decoded(body)))
        finally:
            request.sent()  # from here on it counts with all answers that the server has to send

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


def prefers_response(accept: str) -> bool:
    """Whether an `Accept` header wants GraphQL's own media type at least as much as plain JSON."""
    wanted: dict[str, float] = {}
    for part in accept.split(","):
        media = part.partition(";")[0].strip().lower()
        quality = _QUALITY.search(part)
        wanted[media] = float(quality[1]) if quality else 1.0
    own = wanted.get(RESPONSE, 0.0)
    return own > 0 and own >= wanted.get("application/json", 0.0)
