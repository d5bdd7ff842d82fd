"""Queues: create, look, change, empty, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from streambroker.client.http import Http, segment
from streambroker.client.models import Page, PurgeStatus, Queue


class Queues:
    """`client.queues`. Every call raises as `Http.call`; `timeout` is in seconds."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(self, name: str, *, timeout: float | None = None, **config: Any) -> Queue:
        """Create a queue; `config` is what differs from the defaults, as in `models.QueueConfig`.

        The queue as it is where it is there with this very configuration; raises `Conflict` where it has another one.
        """
        body = {"name": name, **config}
        return await self._call("POST", "/queues", body=body, timeout=timeout, repeatable=True)

    async def get(self, name: str, *, timeout: float | None = None) -> Queue:
        """Look at a queue. Raises `NotFound`."""
        return await self._call("GET", _path(name), timeout=timeout)

    def list(self) -> AsyncIterator[Queue]:
        """All queues that you may view, by name."""
        return self._http.pages("/queues", Queue)

    async def page(self, limit: int = 50, cursor: str | None = None, *, timeout: float | None = None) -> Page[Queue]:
        """One page of the queues that you may view."""
        query = {"limit": limit, "cursor": cursor}
        page: Page[Queue] = await self._http.call("GET", "/queues", Page[Queue], query=query, timeout=timeout)
        return page

    async def update(self, name: str, *, timeout: float | None = None, **config: Any) -> Queue:
        """Change what is named of the configuration; `backoff` is replaced whole."""
        return await self._call("PATCH", _path(name), body=config, timeout=timeout, repeatable=True)

    async def delete(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a queue and everything in it. Raises `NotFound`."""
        await self._http.call("DELETE", _path(name), timeout=timeout)

    async def purge(self, name: str, status: PurgeStatus = "pending", *, timeout: float | None = None) -> int:
        """Delete messages of that status, never what is processing; how many."""
        return await self._count("purge", name, {"status": status}, "purged", timeout)

    async def pause(self, name: str, *, timeout: float | None = None) -> Queue:
        """Deliver nothing from the queue; publishing and settling go on."""
        return await self._call("POST", f"{_path(name)}/pause", timeout=timeout, repeatable=True)

    async def resume(self, name: str, *, timeout: float | None = None) -> Queue:
        """Go on delivering."""
        return await self._call("POST", f"{_path(name)}/resume", timeout=timeout, repeatable=True)

    async def redrive(
        self, name: str, from_queue: str | None = None, limit: int | None = None, *, timeout: float | None = None
    ) -> int:
        """Make the queue's failed messages ready again, or those that it lost to the dead-letter queue `from_queue`.

        How many; at most `limit`.
        """
        body: dict[str, Any] = {} if limit is None else {"limit": limit}
        if from_queue is not None:
            body["from"] = from_queue
        return await self._count("redrive", name, body, "redriven", timeout)

    async def _call(self, method: str, path: str, **options: Any) -> Queue:
        queue: Queue = await self._http.call(method, path, Queue, **options)
        return queue

    async def _count(self, what: str, name: str, body: Any, member: str, timeout: float | None) -> int:
        counts: dict[str, int] = await self._http.call(
            "POST", f"{_path(name)}/{what}", dict[str, int], body=body, timeout=timeout
        )
        return counts[member]


def _path(name: str) -> str:
    return f"/queues/{segment(name)}"
