"""The broker as a whole: who consumes, what it does, its logs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from streambroker.client.http import Http, segment
from streambroker.client.models import Consumer, LogFile, Stats
from streambroker.client.retrying import NO_RETRY


class Consumers:
    """`client.consumers`. Every call raises as `Http.call`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self, queue: str | None = None) -> AsyncIterator[Consumer]:
        """Who consumes from the queues that you may view, or from one, in the order in which they came."""
        return self._http.pages("/consumers", Consumer, {"queue": queue})

    async def disconnect(self, consumer_id: str, *, timeout: float | None = None) -> None:
        """End a subscription's connection, or a poll. Raises `NotFound`."""
        await self._http.call("DELETE", f"/consumers/{segment(consumer_id)}", timeout=timeout)


class Logs:
    """`client.logs`, for admins. Every call raises as `Http.call`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self) -> AsyncIterator[LogFile]:
        """The log files, newest first."""
        return self._http.pages("/logs", LogFile)

    async def read(self, name: str, tail: int | None = None, *, timeout: float | None = None) -> str:
        """The lines of one file, JSON objects; `tail` asks for no more than so many of the last."""
        query = {"tail": tail}
        text: bytes = await self._http.call("GET", f"/logs/{segment(name)}", bytes, query=query, timeout=timeout)
        return text.decode(errors="replace")


async def stats(http: Http, *, timeout: float | None = None) -> Stats:
    """What the broker does; see `Http.call` for errors."""
    figures: Stats = await http.call("GET", "/stats", Stats, timeout=timeout)
    return figures


async def ready(http: Http, *, timeout: float | None = None) -> str:
    """``ready``; raises `Overloaded` or `Draining`, which say why not. It is asked once: the answer is about now."""
    answer: dict[str, str] = await http.call(
        "GET", "/readyz", dict[str, str], timeout=timeout, public=True, retry=NO_RETRY
    )
    return answer["status"]
