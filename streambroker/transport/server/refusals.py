"""Answers that the server gives itself, because what came is no request that the application could answer."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any

from streambroker.core.errors import (
    BrokerError,
    Forbidden,
    HeadTooLarge,
    Internal,
    Malformed,
    MethodNotAllowed,
    Overloaded,
    RateLimited,
    TargetTooLong,
)
from streambroker.transport.problems import Reply, problem_reply

_RETRY_AFTER_MS = 5_000


def too_many(most: int) -> Overloaded:
    """The error of one connection too many."""
    return Overloaded(f"{most:,} connections are open, the most that there may be", retry_after_ms=_RETRY_AFTER_MS)


def too_many_strangers() -> RateLimited:
    """The error of one connection too many of an address."""
    return RateLimited(
        "too many connections of your address are open on which nobody has logged in", retry_after_ms=_RETRY_AFTER_MS
    )


_OF_STATUS: dict[int, type[BrokerError]] = {
    400: Malformed,
    403: Forbidden,
    414: TargetTooLong,
    431: HeadTooLarge,
}


def refused_handshake(status: int, detail: str) -> BrokerError:
    """The error that says why a WebSocket was not opened."""
    if status == 405:
        return MethodNotAllowed(detail, "GET")
    return _OF_STATUS.get(status, Internal)(detail)


def body_of(error: BrokerError) -> bytes:
    """The RFC 9457 document."""
    return whole_reply(error).body


def answer(error: BrokerError) -> bytes:
    """A whole response, after which the connection is closed."""
    reply = whole_reply(error)
    lines = [
        b"HTTP/1.1 %d %b" % (reply.status, HTTPStatus(reply.status).phrase.encode()),
        *(b"%b: %b" % header for header in reply.headers),
    ]
    return b"\r\n".join([*lines, b"", reply.body])


def whole_reply(error: BrokerError) -> Reply:
    """An answer with all its headers, after which the connection is closed."""
    request_id = secrets.token_hex(8).encode()
    reply = problem_reply(error, request_id)
    headers = (
        *reply.headers,
        (b"content-length", b"%d" % len(reply.body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request_id),
        (b"connection", b"close"),
    )
    return Reply(reply.status, reply.body, headers)


async def unknown_version(scope: Any, receive: Any, send: Any) -> None:
    """The application of a request in another version of HTTP."""
    refusal = whole_reply(Malformed("the request must be HTTP/1.1"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
    await send({"type": "http.response.body", "body": refusal.body})
