"""The one tree of errors that a user of the broker can see.

Every error has a stable ``code``, the HTTP status that goes with it and whether trying the same call again can help.
Transports turn them into RFC 9457 problem documents with `problem()`; nothing else decides on a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One fault in a request: an RFC 6901 pointer to the value, and what is wrong with it."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details. Times in milliseconds."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool = msgspec.field()
    retry_after_ms: int | None = None
    errors: Sequence[FieldError] = ()


class BrokerError(Exception):
    """Base of all errors that are answered to a client; never raised itself."""

    code = "internal"
    status = 500
    retryable = False

    def __init__(self, detail: str, *, retry_after_ms: int | None = None, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.errors = tuple(errors)


class Internal(BrokerError):
    """A fault of the broker's own; the detail never tells more than that."""

    retryable = True


class Malformed(BrokerError):
    """The body is not what its media type promises, or is empty where one is due."""

    code, status = "malformed", 400


class Unauthenticated(BrokerError):
    """Who you are is unknown, or no longer true."""

    code, status = "unauthenticated", 401


class Forbidden(BrokerError):
    """You may know of it, but not do this with it."""

    code, status = "forbidden", 403


class NotFound(BrokerError):
    """It does not exist, or you may not know that it does."""

    code, status = "not_found", 404


class MethodNotAllowed(BrokerError):
    """The path exists, the method on it does not."""

    code, status = "method_not_allowed", 405

    def __init__(self, detail: str, allow: str) -> None:
        super().__init__(detail)
        self.allow = allow


class Conflict(BrokerError):
    """The request is right but does not fit what is there already."""

    code, status = "conflict", 409


class NotProcessing(BrokerError):
    """A settle without a lease for a message that nobody is processing."""

    code, status = "not_processing", 409


class LeaseLost(BrokerError):
    """The lease is no longer the message's newest one, or is somebody else's."""

    code, status = "lease_lost", 409


class AlreadySettled(BrokerError):
    """The lease was used already, for another verdict."""

    code, status = "already_settled", 409


class RefreshRaced(BrokerError):
    """Two refreshes with one token at the same moment; the other one won."""

    code, status, retryable = "refresh_raced", 409, True


class RequestTimeout(BrokerError):
    """The request did not come in time; nothing was done."""

    code, status, retryable = "request_timeout", 408, True


class TargetTooLong(BrokerError):
    """The path and query of the request."""

    code, status = "too_large", 414


class HeadTooLarge(BrokerError):
    """The head of the request, or the number of its fields."""

    code, status = "too_large", 431


class TooLarge(BrokerError):
    """The body, or the content in it, is larger than the broker takes."""

    code, status = "too_large", 413


class UnsupportedMediaType(BrokerError):
    """The body's media type or encoding is not taken here."""

    code, status = "unsupported_media_type", 415


class Invalid(BrokerError):
    """Well-formed, but a value is not allowed; `errors` says which."""

    code, status = "invalid", 422


class RateLimited(BrokerError):
    """Too many requests; come back after ``retry_after_ms``."""

    code, status, retryable = "rate_limited", 429, True


class Draining(BrokerError):
    """The broker is stopping and takes no more of these."""

    code, status, retryable = "draining", 503, True


class Overloaded(BrokerError):
    """The broker has more work than it may hold; nothing was taken on."""

    code, status, retryable = "overloaded", 503, True


class StorageFull(BrokerError):
    """The disk has no room for another message. Certainly not stored."""

    code, status, retryable = "storage_full", 507, True


class QueueFull(BrokerError):
    """The queue holds ``max_messages`` already. Certainly not stored."""

    code, status, retryable = "queue_full", 507, True


class ConfigError(Exception):
    """A setting is wrong; the command exits with 78 and this text."""


class DataDamaged(Exception):
    """The stored data is not sound; the command exits with 65 and this text. Nothing was changed."""


class DataDirUnusable(Exception):
    """The data directory cannot be used, or another broker holds it; the command exits with 73 and this text."""


class StorageFailed(Exception):
    """The storage failed in a way after which nothing is known: the broker must stop (exit 74)."""


def invalid(pointer: str, detail: str) -> Invalid:
    """The `Invalid` error of one field."""
    return Invalid(f"{pointer or '/'}: {detail}", errors=[FieldError(pointer, detail)])


def problem(error: BrokerError, instance: str = "") -> Problem:
    """The RFC 9457 document of an error; `instance` names the request (its id, for instance)."""
    return Problem(
        type=f"urn:streambroker:problem:{error.code}",
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail,
        instance=instance,
        code=error.code,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
        errors=error.errors,
    )
