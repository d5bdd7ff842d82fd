"""The broker's refusals as the errors of the SDK, so that a program catches the same with and without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from streambroker.client.errors import ApiError, FieldFault, ProblemDocument, from_code, from_problem
from streambroker.core.errors import BrokerError, problem

_DETAILS = {
    "not_found": "there is no such message",
    "not_processing": "nobody is processing the message; give the lease that it was delivered with",
    "lease_lost": "the lease is not the message's newest one",
    "already_settled": "the lease was used already, for another verdict",
}


def as_api_error(error: BrokerError) -> ApiError:
    """What the SDK raises for it."""
    told = problem(error)
    return from_problem(
        ProblemDocument(
            told.code,
            told.status,
            told.title,
            told.detail,
            told.instance,
            told.retryable,
            told.retry_after_ms,
            tuple(FieldFault(fault.pointer, fault.detail) for fault in told.errors),
        )
    )


def refused(code: str) -> NoReturn:
    """Raise the error of a settle that was refused."""
    raise from_code(code, _DETAILS.get(code, ""))


@contextmanager
def told_as_client() -> Iterator[None]:
    """Raise `ApiError` where the broker raises `BrokerError`."""
    try:
        yield
    except BrokerError as error:
        raise as_api_error(error) from None
