"""A transport that answers requests from a script, for what a real broker cannot be made to do on demand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx

from streambroker.client.http import Http
from streambroker.client.models import QueueEvent
from streambroker.client.retrying import RetryPolicy
from streambroker.client.tokens import TokenSource

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def problem(code: str, status: int, **members: Any) -> httpx.Response:
    """An answer as the broker refuses."""
    document = {"type": f"urn:streambroker:problem:{code}", "code": code, "status": status, "detail": "no", **members}
    headers = {"content-type": "application/problem+json", "x-request-id": "req-7"}
    return httpx.Response(status, content=json.dumps(document).encode(), headers=headers)


class Script(httpx.AsyncBaseTransport):
    """Gives the answers in turn, the last one for ever. `requests` are those that came, `bodies` what they held."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self._answers = answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


class Waits:
    """In place of `asyncio.sleep`: remembers how long, and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def http(script: Script, tokens: TokenSource | None = None, waits: Waits | None = None, **options: Any) -> Http:
    """A client of the script; the dice of jitter always show one half."""
    return Http(
        "http://127.0.0.1:1", tokens, transport=script, sleep=waits or Waits(), chance=lambda: 0.5,
        retry=RetryPolicy(attempts=3, base_s=1, most_s=8), **options,
    )  # fmt: skip


def paths(script: Script) -> Sequence[str]:
    """Method and path of what was asked."""
    return [f"{request.method} {request.url.path}" for request in script.requests]


async def drained(events: AsyncIterator[QueueEvent], found: list[QueueEvent] | None = None) -> None:
    """Take events, into `found`, to their end."""
    async for event in events:
        if found is not None:
            found.append(event)
