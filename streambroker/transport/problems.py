"""Answers on the wire: how a reply is sent, and what an error looks like (RFC 9457)."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.types import Scope, Send

from streambroker.core.errors import BrokerError, MethodNotAllowed, problem
from streambroker.protocol.json import encode

Headers = tuple[tuple[bytes, bytes], ...]

_JSON = (b"content-type", b"application/json")
UNTYPED = (b"content-type", b"")
"""In place of a `Content-Type` where there is to be none."""
_PROBLEM = (b"content-type", b"application/problem+json")
# Nothing that the broker answers is to be kept by a cache, or taken for a page by a browser.
ALWAYS: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_ALWAYS_LINES = b"".join(b"%b: %b\r\n" % field for field in ALWAYS)


class Reply(NamedTuple):
    """An answer: status, body, and headers beside the usual ones; where one is `Content-Type` it comes first."""

    status: int
    body: bytes = b""
    headers: Headers = ()


def reply(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, encode(value))


def problem_reply(error: BrokerError, request_id: bytes) -> Reply:
    """The RFC 9457 answer to an error, with the headers that go with its status."""
    headers: list[tuple[bytes, bytes]] = [_PROBLEM]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if error.retry_after_ms is not None:
        headers.append((b"retry-after", str(max(1, -(-error.retry_after_ms // 1000))).encode()))
    document = problem(error, f"urn:streambroker:request:{request_id.decode('latin-1')}")
    return Reply(error.status, encode(document), tuple(headers))


async def respond(scope: Scope, send: Send, answer: Reply, more: Headers = ()) -> None:
    """Send an answer over HTTP, with `more` headers."""
    body = b"" if scope["method"] == "HEAD" else answer.body
    whole = scope.get("streambroker.answer")
    if whole is not None:
        await whole(answer.status, head_of(scope, answer, _lines(more)), body)
        return
    status, content, own = answer
    fields = [(b"x-request-id", scope["streambroker.request_id"]), *more, *own]
    if status != 204:
        if not (own and own[0][0] == b"content-type"):
            fields.append(_JSON)
        elif own[0] is UNTYPED:
            fields.remove(UNTYPED)
        fields.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": status, "headers": [*ALWAYS, *fields]})
    await send({"type": "http.response.body", "body": body})


def head_of(scope: Scope, answer: Reply, more: bytes) -> bytes:
    """The lines of an answer's head, for `transport.server.whole`; `more` are lines among them."""
    own, typed = answer.headers, b""
    if answer.status != 204:
        if not own or own[0][0] != b"content-type":
            typed = b"content-type: application/json\r\n"
        elif own[0] is UNTYPED:
            own = own[1:]
        typed = b"%bcontent-length: %d\r\n" % (typed, len(answer.body))
    return b"".join(
        (_ALWAYS_LINES, b"x-request-id: ", scope["streambroker.request_id"], b"\r\n", more, _lines(own), typed)
    )


def _lines(fields: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields]) if fields else b""


async def refuse(scope: Scope, send: Send, error: BrokerError) -> None:
    """Answer with an error: over HTTP, or in place of the upgrade of a WebSocket (ASGI's denial response)."""
    answer = problem_reply(error, scope["streambroker.request_id"])
    if scope["type"] == "http":
        await respond(scope, send, answer)
        return
    headers = [
        *answer.headers,
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", scope["streambroker.request_id"]),
    ]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
