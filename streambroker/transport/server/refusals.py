"""Answers that the server gives itself, because what came is no request that the application could answer."""

from __future__ import annotations

import secrets
from http import HTTPStatus

from streambroker.core.errors import BrokerError, Forbidden, Internal, Malformed, Overloaded, TooLarge
from streambroker.transport.problems import problem_reply

_RETRY_AFTER_MS = 5_000


class TargetTooLong(TooLarge):
    """The path and query of the request."""

    status = 414


class HeadTooLarge(TooLarge):
    """The head of the request, or the number of its fields."""

    status = 431


class UpgradeRequired(Malformed):
    """A WebSocket handshake of another version (RFC 6455, section 4.4)."""

    status = 426


class RequestTimeout(BrokerError):
    """The request did not come in time; nothing was done."""

    code, status, retryable = "request_timeout", 408, True


def too_many(most: int) -> Overloaded:
    """The error of one connection too many."""
    return Overloaded(f"{most:,} connections are open, the most that there may be", retry_after_ms=_RETRY_AFTER_MS)


_OF_STATUS: dict[int, type[BrokerError]] = {
    400: Malformed,
    403: Forbidden,
    414: TargetTooLong,
    426: UpgradeRequired,
    431: HeadTooLarge,
}


def refused_handshake(status: int, detail: str) -> BrokerError:
    """The error that says why a WebSocket was not opened."""
    return _OF_STATUS.get(status, Internal)(detail)


def body_of(error: BrokerError) -> bytes:
    """The RFC 9457 document."""
    return problem_reply(error, _request_id()).body


def answer(error: BrokerError) -> bytes:
    """A whole response, after which the connection is closed."""
    request_id = _request_id()
    reply = problem_reply(error, request_id)
    lines = [
        b"HTTP/1.1 %d %b" % (reply.status, HTTPStatus(reply.status).phrase.encode()),
        *(b"%b: %b" % header for header in reply.headers),
        b"content-length: %d" % len(reply.body),
        b"cache-control: no-store",
        b"x-content-type-options: nosniff",
        b"x-request-id: %b" % request_id,
        b"connection: close",
    ]
    return b"\r\n".join([*lines, b"", reply.body])


def _request_id() -> bytes:
    return secrets.token_hex(8).encode()
