"""Consuming over REST: at once, or held open until a message comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streambroker.client.http import Http, segment
from streambroker.client.models import MessageInfo, Model


class _Delivered(Model, frozen=True):
    messages: list[MessageInfo]


class Receiving:
    """Takes messages over REST, each with its `lease`. Every call raises as `Http.call`.

    `timeout` is in seconds and begins after `wait_ms`. A call whose answer is lost is made again: what the lost answer
    held comes back when its lease ends.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    async def receive(
        self, queue: str, *, wait_ms: int = 0, lease_ms: int | None = None, timeout: float | None = None
    ) -> MessageInfo | None:
        """One message; None when none came within `wait_ms` (at most 60,000)."""
        message: MessageInfo | None = await self._http.call(
            "GET",
            _path(queue),
            MessageInfo | None,
            query={"wait_ms": wait_ms, "lease_ms": lease_ms},
            timeout=self._seconds(wait_ms, timeout),
        )
        return message

    async def receive_many(
        self,
        queues: str | Sequence[str],
        *,
        most: int = 100,
        wait_ms: int = 0,
        lease_ms: int | None = None,
        timeout: float | None = None,
    ) -> list[MessageInfo]:
        """Up to `most` messages of a queue, or of the first of several that has some; waits for the first only."""
        body: dict[str, Any] = {"max": most, "wait_ms": wait_ms}
        if lease_ms is not None:
            body["lease_ms"] = lease_ms
        if not isinstance(queues, str):
            body["queues"] = list(queues)
        path = _path(queues) if isinstance(queues, str) else "/consume"
        answer: _Delivered = await self._http.call(
            "POST", path, _Delivered, body=body, timeout=self._seconds(wait_ms, timeout), repeatable=True
        )
        return answer.messages

    def _seconds(self, wait_ms: int, timeout: float | None) -> float:
        return wait_ms / 1_000 + (self._http.timeout if timeout is None else timeout)


def _path(queue: str) -> str:
    return f"/queues/{segment(queue)}/messages/consume"
