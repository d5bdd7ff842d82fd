"""Errors of the client, told on the command line: what is wrong, what to do, and the exit code."""

from __future__ import annotations

import sys

import msgspec

from streambroker.cli.exits import Exit
from streambroker.cli.output import Output, plain
from streambroker.client.errors import (
    ApiError,
    BadRequest,
    ConnectionLost,
    FieldFault,
    Forbidden,
    NotFound,
    ProtocolError,
    QueueFull,
    ServerError,
    StorageFull,
    StreambrokerError,
    StreambrokerTimeout,
    Unauthenticated,
    Unavailable,
    Untrusted,
)

_CODES: tuple[tuple[type[StreambrokerError], Exit], ...] = (
    (Unauthenticated, Exit.NOT_ALLOWED),
    (Forbidden, Exit.NOT_ALLOWED),
    (BadRequest, Exit.USAGE),
    (Unavailable, Exit.NOT_NOW),
    (ServerError, Exit.UNAVAILABLE),
    (ApiError, Exit.REFUSED),
    (ConnectionLost, Exit.UNAVAILABLE),
    (StreambrokerTimeout, Exit.UNAVAILABLE),
    (ProtocolError, Exit.UNAVAILABLE),
)
_ADVICE: tuple[tuple[type[StreambrokerError], str], ...] = (
    (Untrusted, "--cacert FILE names the certificates to trust"),
    (ConnectionLost, "is a broker running there? --url or STREAMBROKER_URL says where it is"),
    (StreambrokerTimeout, "--timeout gives it longer; what became of the call is not known"),
    (ProtocolError, "is that the URL of a streambroker?"),
    (Unauthenticated, "give --username, or an API key by --token or STREAMBROKER_TOKEN"),
    (Forbidden, "somebody with the right to do so has to, or to grant it"),
    (NotFound, "`streambroker queue list` tells which queues you may see"),
    (QueueFull, "consume or purge some, or raise it by `streambroker queue set --max-messages`"),
    (StorageFull, "the broker's disk needs room"),
)


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as ``--json`` tells it, in one line on stderr."""

    error: str
    code: str
    status: int
    exit_code: int
    retryable: bool
    retry_after_ms: int | None
    request_id: str
    errors: tuple[FieldFault, ...]
    message_id: str | None = None


def exit_code(error: StreambrokerError) -> Exit:
    """The exit code of an error."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), Exit.REFUSED)
    # What is no streambroker cannot know that something is wrong, or not there.
    return Exit.UNAVAILABLE if _is_foreign(error) and code in (Exit.REFUSED, Exit.USAGE) else code


def _is_foreign(error: StreambrokerError) -> bool:
    return isinstance(error, ApiError) and error.foreign


def told(error: StreambrokerError, out: Output, about: str | None = None) -> int:
    """Tell an error on stderr, and what of several it is about; its exit code."""
    code = exit_code(error)
    if out.json:
        refusal = Refusal(
            error.detail, error.code, error.status, code, error.retryable, error.retry_after_ms, error.request_id,
            tuple(error.errors), about,
        )  # fmt: skip
        sys.stderr.write(msgspec.json.encode(refusal).decode() + "\n")
    else:
        sentence = _sentence(error)
        subject = "" if about is None or about in sentence else f"{about}: "
        sys.stderr.write(f"streambroker: {plain(subject + sentence)}\n")
    return code


def _sentence(error: StreambrokerError) -> str:
    if _is_foreign(error) and exit_code(error) is Exit.UNAVAILABLE:
        return f"{error.detail}; is that the URL of a streambroker?"
    if isinstance(error, NotFound) and "no queue" not in error.detail:
        return error.detail  # of a message, a user or a webhook the list of queues tells nothing
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
    if error.retry_after_ms is not None:
        advice = f"try again in {max(1, -(-error.retry_after_ms // 1_000))} s"
    elif not advice and isinstance(error, Unavailable):
        advice = "try again later"
    return f"{error.detail.rstrip('.')}; {advice}" if advice else error.detail
