"""The comparison of answers and frames with the description can fail: each kind of fault is seen."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.wire.conformance import Description, Undescribed
from tests.wire.doors import Queue


def answer(method: str, path: str, status: int, body: Any = None, **headers: str) -> httpx.Response:
    """An answer as a client gets it, with the headers that every one has."""
    given = {"x-request-id": "1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = httpx.Request(method, f"http://127.0.0.1{path}")
    content = {"content": b""} if body is None else {"json": body}
    return httpx.Response(status, headers=given, request=request, **content)


PROBLEM = {
    "type": "urn:streambroker:problem:not_found",
    "title": "Not Found",
    "status": 404,
    "detail": "there is none",
    "instance": "urn:streambroker:request:1",
    "code": "not_found",
    "retryable": False,
}


def test_a_right_answer_is_right(api: httpx.Client, queue: Queue, description: Description) -> None:
    queue.publish()
    for path in (queue.path, f"{queue.path}/messages", f"{queue.path}/messages/consume", "/queues", "/stats"):
        description.check(api.get(path))
    description.check(api.get("/queues/no-such-queue"))
    description.check(api.head("/queues"))
    description.check(api.put("/queues"))
    description.check(answer("DELETE", queue.path, 204))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (answer("GET", "/healthz", 418), "418 is not described"),
        (answer("GET", "/no/such/path", 200, {}), "no such operation"),
        (answer("PUT", "/queues", 200, {}), "no such operation"),
        (answer("GET", "/healthz", 200, {"status": "alive", "secret": 1}), "secret"),
        (answer("GET", "/v1/healthz", 200, {}), "status"),
        (answer("GET", "/healthz", 200, {"status": 1}), "status"),
        (answer("GET", "/healthz", 200, {"status": "alive"}, x_powered_by="us"), "x-powered-by"),
        (answer("GET", "/queues/q", 204), "204 is not described"),
        (answer("DELETE", "/queues/q", 204, {"a": 1}), "a body"),
        (answer("GET", "/queues/q", 401, PROBLEM, content_type="application/problem+json"), "www-authenticate"),
        (answer("GET", "/queues/q", 404, PROBLEM, content_type="application/json"), "application/json"),
        (
            answer("GET", "/queues/q", 404, {**PROBLEM, "code": "lost"}, content_type="application/problem+json"),
            "lost",
        ),
        (
            answer("GET", "/queues/q", 404, {**PROBLEM, "sql": "SELECT"}, content_type="application/problem+json"),
            "sql",
        ),
    ],
)
def test_a_wrong_answer_is_seen(description: Description, wrong: httpx.Response, why: str) -> None:
    with pytest.raises(Undescribed, match=why):
        description.check(wrong)


def test_a_code_of_another_operation_is_seen(description: Description) -> None:
    problem = {**PROBLEM, "status": 409, "code": "lease_lost"}
    kind = {"content_type": "application/problem+json"}
    description.check(answer("POST", "/messages/0199d3a4e7c00000/ack", 409, problem, **kind))
    with pytest.raises(Undescribed, match="409"):
        description.check(answer("POST", "/queues", 409, problem, **kind))


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "no-such-op"},
        {"op": "subscribe", "queue": "q"},  # a client's
        {"op": "pong", "at": 1},
        {"op": "lease_lost", "sub": "s", "ids": ["x"], "reason": "bored"},
        {"op": "deliver", "sub": "s", "messages": [{"message_id": "x"}]},
        {"op": "ok"},
        "pong",
    ],
    ids=str,
)
def test_a_wrong_frame_is_seen(description: Description, frame: Any) -> None:
    description.check_frame({"op": "pong"})
    with pytest.raises(Undescribed):
        description.check_frame(frame)


def test_every_client_of_this_folder_is_watched(api: httpx.Client) -> None:
    """One that gets a wrong answer fails its test, without having looked."""
    transport = httpx.MockTransport(lambda request: answer("GET", "/healthz", 418))
    with httpx.Client(transport=transport, base_url=api.base_url) as client, pytest.raises(Undescribed):
        client.get("/healthz")
