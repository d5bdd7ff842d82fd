"""What every worker needs of the wire: an account, calls that survive a broker's restart, a delivery, a clean stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
from collections.abc import Coroutine, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Account:
    """Where the broker is, and as whom to talk to it."""

    url: str
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A leased message, as far as a worker looks at it."""

    message_id: str
    lease: str
    content: Any
    attempt: int
    reply_to: str | None
    correlation_id: str | None

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> Delivery:
        return cls(
            message["message_id"],
            message["lease"],
            message["content"],
            message["attempt"],
            message["reply_to"],
            message["correlation_id"],
        )

    def reply(self, content: Any, worker: str) -> dict[str, Any]:
        """The answer to this message; its `dedup_id` makes a second one, after a redelivery, a duplicate.

        Who did the work is in the headers: the same id with another content would be refused.
        """
        return {
            "content": content,
            "headers": {"worker": worker, "attempt": str(self.attempt)},
            "correlation_id": self.correlation_id,
            "dedup_id": f"reply-{self.message_id}",
        }


class RefusedError(Exception):
    """The broker's answer is no, and asking again would not change it."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(f"{problem.get('code', 'unknown')}: {problem.get('detail') or problem.get('title', '')}")
        self.code: str = problem.get("code", "unknown")
        self.retryable: bool = problem.get("retryable", False)


class Login(httpx.Auth):
    """Logs in at the first request, and again when the access token is no longer taken."""

    requires_response_body = True

    def __init__(self, account: Account) -> None:
        self.account = account
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            reply = yield request
            if reply.status_code != httpx.codes.UNAUTHORIZED:
                return
        reply = yield self._login_request()
        if reply.is_success:
            self._token = reply.json()["access_token"]
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request

    def _login_request(self) -> httpx.Request:
        credentials = {"username": self.account.username, "password": self.account.password}
        return httpx.Request("POST", f"{self.account.url}/login", json=credentials)


def rest(account: Account) -> httpx.AsyncClient:
    """An HTTP client for this account; its read time-out leaves room for a parked poll of a minute."""
    return httpx.AsyncClient(
        base_url=account.url, auth=Login(account), timeout=httpx.Timeout(10, read=70), trust_env=False
    )


async def fresh_token(client: httpx.AsyncClient, account: Account) -> str:
    """A new access token, for a WebSocket."""
    credentials = {"username": account.username, "password": account.password}
    token: str = (await call(client, "POST", "/login", json=credentials, auth=None))["access_token"]
    return token


def backoff(base_s: float = 0.1, max_s: float = 10) -> Iterator[float]:
    """Seconds to wait before each further try: doubling, bounded, spread so that a crowd does not come back at once."""
    delay = base_s
    while True:
        yield delay * random.uniform(0.5, 1)
        delay = min(max_s, delay * 2)


async def call(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    """The JSON of a 2xx answer; asks again while the broker is away or busy.

    Only for requests that may be repeated: a publish with a `dedup_id`, a settle with a lease, anything that reads.
    Raises ``RefusedError`` on an answer that is final. Never gives up by itself: bound it with ``asyncio.timeout``.
    """
    for delay in backoff():
        try:
            reply = await client.request(method, path, **options)
        except httpx.TransportError:
            await asyncio.sleep(delay)
            continue
        if reply.is_success:
            return reply.json()
        problem = problem_of(reply)
        if not problem.get("retryable", False):
            raise RefusedError(problem)
        await asyncio.sleep(max(delay, problem.get("retry_after_ms", 0) / 1000))
    raise AssertionError("backoff has no end")


def problem_of(reply: httpx.Response) -> dict[str, Any]:
    """The problem object of a refusal; one made from the status when something else than the broker has answered."""
    if "json" in reply.headers.get("Content-Type", ""):
        problem: dict[str, Any] = reply.json()
        return problem
    return {"code": "unknown", "title": f"HTTP {reply.status_code}", "retryable": reply.status_code >= 500}


class Stop:
    """SIGTERM and SIGINT as an event: a worker leaves its wait at once, and finishes what it has begun."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, self._asked.set)

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    async def interrupts(self, wait: Coroutine[Any, Any, T]) -> T | None:
        """What `wait` comes to, or None when a stop was asked for first; `wait` is cancelled then."""
        waiting = asyncio.ensure_future(wait)
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait((waiting, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            waiting.cancel()
        await asyncio.wait((waiting,))  # it may have come to something while it was being cancelled
        return None if waiting.cancelled() else waiting.result()


def options(description: str, queue: str = "jobs") -> argparse.ArgumentParser:
    """The options that all programs here share; the account's name and password come from the environment alone."""
    parser = argparse.ArgumentParser(
        description=description, epilog="Environment: BROKER_USERNAME (admin) and BROKER_PASSWORD log the program in."
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the broker (%(default)s)")
    parser.add_argument("--queue", default=queue, help="the queue (%(default)s)")
    return parser


def account(parser: argparse.ArgumentParser, url: str) -> Account:
    """The account to use; ends the program with a usage error when there is no password."""
    password = os.environ.get("BROKER_PASSWORD", "")
    if not password:
        parser.error("BROKER_PASSWORD is not set")
    return Account(url.rstrip("/"), os.environ.get("BROKER_USERNAME", "admin"), password)
