"""The one tree of errors that the SDK raises: one class for each problem `code` of the broker, and what has none.

Everything is a `StreambrokerError`. What the broker refused is an `ApiError` with the fields of its RFC 9457 document;
what never reached an answer is `ConnectionLost` or `StreambrokerTimeout`, after which nobody knows what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class FieldFault(msgspec.Struct, frozen=True):
    """One fault of a request: an RFC 6901 pointer to the value, and what is wrong with it."""

    pointer: str = ""
    detail: str = ""


class ProblemDocument(msgspec.Struct, frozen=True):
    """An RFC 9457 document as the broker answers it; members that are missing or unknown do no harm."""

    code: str = ""
    status: int = 0
    title: str = ""
    detail: str = ""
    instance: str = ""
    retryable: bool = False
    retry_after_ms: int | None = None
    errors: tuple[FieldFault, ...] = ()


class StreambrokerError(Exception):
    """Base of everything that the SDK raises.

    `retryable` says whether the same call can succeed later as it is. `outcome_unknown` is true where the broker may
    have done what was asked: publish again with the same `dedup_id` then.
    """

    code = ""
    status = 0
    retryable = False
    outcome_unknown = False
    retry_after_ms: int | None = None
    errors: Sequence[FieldFault] = ()
    request_id = ""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class ConnectionLost(StreambrokerError):
    """No connection could be made, or it ended before the answer came. `sent`: the request may have been received."""

    retryable = True

    def __init__(self, detail: str = "the connection to the broker was lost", *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent
        self.outcome_unknown = sent


class Untrusted(ConnectionLost):
    """The certificate that the broker shows is not trusted, or not of its name; nothing was sent."""

    retryable = False

    def __init__(self, detail: str = "the broker's certificate is not trusted") -> None:
        super().__init__(detail, sent=False)


class StreambrokerTimeout(StreambrokerError, TimeoutError):
    """The call's time was over before the answer came; nobody knows what became of it."""

    retryable = True
    outcome_unknown = True


class ProtocolError(StreambrokerError):
    """The answer is not what a streambroker says: another server, or a proxy, has answered."""


class Reject(StreambrokerError):
    """Raise it in a worker to give a message up for good: it fails, or goes to the dead-letter queue, without retry."""


class ApiError(StreambrokerError):
    """The broker refused. `code` is stable, `detail` is for people; `request_id` finds the request in its log.

    `foreign`: something in between has answered, or there is no streambroker at all; the class fits the status.
    """

    def __init__(self, problem: ProblemDocument, request_id: str = "") -> None:
        super().__init__(problem.detail or problem.title or f"the broker answered {problem.status}")
        self.foreign = not problem.code
        self.code = problem.code or type(self).code
        self.status = problem.status or type(self).status
        self.retryable = problem.retryable
        self.retry_after_ms = problem.retry_after_ms
        self.errors = problem.errors
        self.request_id = request_id or problem.instance.rpartition(":")[2]

    def __reduce__(self) -> tuple[type[ApiError], tuple[ProblemDocument, str]]:
        # So that it comes whole out of a process pool.
        return type(self), (self._document(), self.request_id)

    def _document(self) -> ProblemDocument:
        return ProblemDocument(
            "" if self.foreign else self.code,
            self.status,
            detail=self.detail,
            retryable=self.retryable,
            retry_after_ms=self.retry_after_ms,
            errors=tuple(self.errors),
        )


class BadRequest(ApiError):
    """The request is wrong; the same again will be refused again."""


class Malformed(BadRequest):
    """The body is not JSON, or empty where one is due."""

    code, status = "malformed", 400


class MethodNotAllowed(BadRequest):
    """The path exists, the method on it does not: the broker is older or newer than this SDK."""

    code, status = "method_not_allowed", 405


class TooLarge(BadRequest):
    """The content is larger than the broker takes (`max_message_bytes`)."""

    code, status = "too_large", 413


class UnsupportedMediaType(BadRequest):
    """The body's media type is not taken there."""

    code, status = "unsupported_media_type", 415


class Invalid(BadRequest):
    """A value is not allowed; `errors` says which."""

    code, status = "invalid", 422


class Unauthenticated(ApiError):
    """No token, or one that is no longer good; a wrong password."""

    code, status = "unauthenticated", 401


class Forbidden(ApiError):
    """You may know of it, but not do this with it."""

    code, status = "forbidden", 403


class NotFound(ApiError):
    """It does not exist, or you may not know that it does."""

    code, status = "not_found", 404


class Conflict(ApiError):
    """The request is right but does not fit what is there already."""

    code, status = "conflict", 409


class NotProcessing(Conflict):
    """A settle without a lease for a message that nobody is processing."""

    code = "not_processing"


class LeaseLost(Conflict):
    """The lease is not the message's newest one: somebody else was handed the message, or it is gone."""

    code = "lease_lost"


class AlreadySettled(Conflict):
    """The lease was used already, for another verdict."""

    code = "already_settled"


class RefreshRaced(Conflict):
    """The refresh token was used by somebody else a moment ago; nothing is lost."""

    code = "refresh_raced"


class Unavailable(ApiError):
    """Not now; the same call can succeed later, see `retry_after_ms`."""


class RequestTimeout(Unavailable):
    """The request did not come to its end in time; nothing of it was done."""

    code, status = "request_timeout", 408


class RateLimited(Unavailable):
    """More than a rate limit or quota allows; certainly not done."""

    code, status = "rate_limited", 429


class Draining(Unavailable):
    """The broker is stopping."""

    code, status = "draining", 503


class Overloaded(Unavailable):
    """The broker is starting, or has more work than it may hold; nothing was taken on."""

    code, status = "overloaded", 503


class StorageFull(Unavailable):
    """The disk has no room for another message; certainly not stored."""

    code, status = "storage_full", 507


class QueueFull(Unavailable):
    """The queue holds `max_messages` already; certainly not stored."""

    code, status = "queue_full", 507


class ServerError(ApiError):
    """A fault of the broker's or of a proxy; what became of the request is unknown."""

    code, status = "internal", 500
    outcome_unknown = True


BY_CODE: dict[str, type[ApiError]] = {
    kind.code: kind
    for kind in (
        Malformed, MethodNotAllowed, TooLarge, UnsupportedMediaType, Invalid, Unauthenticated, Forbidden, NotFound,
        Conflict, NotProcessing, LeaseLost, AlreadySettled, RefreshRaced, RequestTimeout, RateLimited, Draining,
        Overloaded, StorageFull, QueueFull, ServerError,
    )
}  # fmt: skip
"""The class of every code of the contract; `internal` is `ServerError`."""

_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 405: MethodNotAllowed, 408: RequestTimeout,
    409: Conflict, 413: TooLarge, 414: TooLarge, 415: UnsupportedMediaType, 422: Invalid, 429: RateLimited,
    431: TooLarge, 503: Unavailable, 507: Unavailable,
}  # fmt: skip


def kind_of(code: str, status: int) -> type[ApiError]:
    """The class for a code; for one that this SDK does not know, the class that fits the status."""
    if (kind := BY_CODE.get(code)) is not None:
        return kind
    if (kind := _BY_STATUS.get(status)) is not None:
        return kind
    return ServerError if status >= 500 else BadRequest


def from_problem(problem: ProblemDocument, request_id: str = "") -> ApiError:
    """The error of a problem document, from REST or out of an `error` frame."""
    return kind_of(problem.code, problem.status)(problem, request_id)


def from_code(code: str, detail: str = "") -> ApiError:
    """The error of a bare code, as one result of a batch of settles has it."""
    kind = kind_of(code, 0)
    return kind(ProblemDocument(code, kind.status, detail=detail or code.replace("_", " ")))
