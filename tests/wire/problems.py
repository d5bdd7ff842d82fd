"""Checks of RFC 9457 problem objects, the same for an HTTP reply and for a WebSocket ``error`` frame."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import httpx

STATUS = {
    "malformed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "not_processing": 409,
    "lease_lost": 409,
    "already_settled": 409,
    "refresh_raced": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid": 422,
    "rate_limited": 429,
    "draining": 503,
    "overloaded": 503,
    "storage_full": 507,
    "queue_full": 507,
}
# Sending the very same request again can not help with these.
NEVER_RETRYABLE = {
    "malformed",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "too_large",
    "unsupported_media_type",
    "invalid",
    "already_settled",
}
_LEAK = re.compile(r"Traceback|sqlite|SELECT |INSERT |UPDATE \w+ SET|\.py\b|/home/|/tmp/|site-packages", re.IGNORECASE)


def assert_text(value: Any, where: Any) -> None:
    assert isinstance(value, str), where
    assert value, where


def check_problem(problem: Any, code: str | Iterable[str], *, pointer: str = "", names: str = "") -> None:
    """Assert that ``problem`` is a whole problem object with this ``code``.

    ``pointer`` must be one of its ``errors[].pointer`` (RFC 6901; a fragment's leading ``#`` is ignored); ``names`` is
    a field that one of the errors must name in its pointer or its detail.
    """
    codes = {code} if isinstance(code, str) else set(code)
    assert isinstance(problem, dict), problem
    assert problem.get("code") in codes, problem
    assert problem["status"] == STATUS[problem["code"]], problem
    for member in ("type", "title", "detail", "instance"):
        assert_text(problem.get(member), problem)
    assert isinstance(problem.get("retryable"), bool), problem
    if problem["code"] in NEVER_RETRYABLE:
        assert problem["retryable"] is False, problem
    assert not _LEAK.search(str({k: v for k, v in problem.items() if k != "instance"})), problem
    errors = problem.get("errors", [])
    assert isinstance(errors, list), problem
    for error in errors:
        assert isinstance(error["pointer"], str), problem
        assert_text(error["detail"], problem)
    if pointer:
        assert pointer in [error["pointer"].removeprefix("#") for error in errors], (pointer, problem)
    if names:
        assert any(names in error["pointer"] or names in error["detail"] for error in errors), (names, problem)


def check_refusal(
    reply: httpx.Response, code: str | Iterable[str], *, pointer: str = "", names: str = ""
) -> dict[str, Any]:
    """Assert that an HTTP reply is this problem, with the headers that go with it; returns the problem."""
    codes = {code} if isinstance(code, str) else set(code)
    assert reply.status_code in {STATUS[c] for c in codes}, (reply.status_code, reply.text[:2000])
    assert reply.headers["content-type"].split(";")[0].strip() == "application/problem+json", reply.headers
    problem: dict[str, Any] = reply.json()
    check_problem(problem, codes, pointer=pointer, names=names)
    assert problem["status"] == reply.status_code
    assert reply.headers.get("x-request-id")
    if reply.status_code == 401:
        assert reply.headers["www-authenticate"].lower().startswith("bearer")
    if reply.status_code == 405:
        assert reply.headers.get("allow")
    return problem
