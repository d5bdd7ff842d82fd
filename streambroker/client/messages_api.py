"""Messages by their ids: look, browse, settle, retry, delete. Nothing is leased here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import msgspec

from streambroker.client.http import Http, segment
from streambroker.client.models import MessageInfo, Model, Moment, Page, Settled, SettleItem, SettleResult, Status

Verdict = Literal["ack", "nack", "extend"]


class _Results(Model, frozen=True):
    results: list[SettleResult]


class Messages:
    """`client.messages`. Every call raises as `Http.call`; `timeout` is in seconds.

    A settle with `lease` is safe to repeat and is repeated; without, the message must be processing and be yours.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    async def get(self, message_id: str, *, timeout: float | None = None) -> MessageInfo:
        """Look at a message. Raises `NotFound`."""
        found: MessageInfo = await self._http.call("GET", _path(message_id), MessageInfo, timeout=timeout)
        return found

    def browse(
        self, queue: str, *, status: Status | None = None, key: str | None = None, contains: str | None = None
    ) -> AsyncIterator[MessageInfo]:
        """The messages of a queue; `contains` is looked for in the bytes of the content.

        Ready, delayed, processing, processed and failed ones in this order, each by priority and then age.
        """
        query = {"status": status, "key": key, "contains": contains}
        return self._http.pages(_queue(queue), MessageInfo, query)

    async def page(
        self,
        queue: str,
        limit: int = 50,
        cursor: str | None = None,
        *,
        status: Status | None = None,
        key: str | None = None,
        contains: str | None = None,
        timeout: float | None = None,
    ) -> Page[MessageInfo]:
        """One page of a browse; it may be short, or empty, and still have a `next_cursor`."""
        query = {"status": status, "key": key, "contains": contains, "limit": limit, "cursor": cursor}
        page: Page[MessageInfo] = await self._http.call(
            "GET", _queue(queue), Page[MessageInfo], query=query, timeout=timeout
        )
        return page

    async def delete(self, message_id: str, *, timeout: float | None = None) -> None:
        """Delete a message, whatever its status; its holder hears of it. Raises `NotFound`."""
        await self._http.call("DELETE", _path(message_id), timeout=timeout)

    async def retry(self, message_id: str, *, timeout: float | None = None) -> Settled:
        """Make a failed message ready again, without failures. Raises `Conflict` for one that has not failed."""
        return await self._settled(message_id, "retry", None, False, timeout)

    async def timeline(self, message_id: str, *, timeout: float | None = None) -> list[Moment]:
        """What happened to a message, the oldest first."""
        page: Page[Moment] = await self._http.call(
            "GET", f"{_path(message_id)}/timeline", Page[Moment], timeout=timeout
        )
        return page.items

    async def ack(self, message_id: str, lease: str | None = None, *, timeout: float | None = None) -> Settled:
        """The message is done. Raises `LeaseLost`, `AlreadySettled`, `NotProcessing`."""
        return await self._settled(message_id, "ack", _given(lease=lease), lease is not None, timeout)

    async def nack(
        self,
        message_id: str,
        lease: str | None = None,
        *,
        requeue: bool = True,
        delay_ms: int | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> Settled:
        """It failed: to be tried again after `delay_ms` (None: the queue's backoff), or given up. Raises as `ack`."""
        body = _given(lease=lease, requeue=requeue, delay_ms=delay_ms, reason=reason)
        return await self._settled(message_id, "nack", body, lease is not None, timeout)

    async def extend(
        self, message_id: str, lease_ms: int, lease: str | None = None, *, timeout: float | None = None
    ) -> Settled:
        """The lease ends `lease_ms` from now. Raises as `ack`."""
        body = _given(lease=lease, lease_ms=lease_ms)
        return await self._settled(message_id, "extend", body, lease is not None, timeout)

    async def settle_many(
        self, verdict: Verdict, items: Sequence[SettleItem], *, timeout: float | None = None
    ) -> list[SettleResult]:
        """Settle up to 1,000 in one commit; each is judged on its own, and none raises. One result each, in order."""
        answer: _Results = await self._http.call(
            "POST",
            f"/messages/{verdict}",
            _Results,
            body={"items": [_item(verdict, item) for item in items]},
            timeout=timeout,
            repeatable=all(item.lease is not None for item in items),
        )
        return answer.results

    async def _settled(self, message_id: str, what: str, body: Any, repeatable: bool, timeout: float | None) -> Settled:
        settled: Settled = await self._http.call(
            "POST", f"{_path(message_id)}/{what}", Settled, body=body, timeout=timeout, repeatable=repeatable
        )
        return settled


def _item(verdict: Verdict, item: SettleItem) -> dict[str, Any]:
    """The item with the members that this verdict takes; the broker refuses others."""
    names = {"ack": (), "nack": ("requeue", "delay_ms", "reason"), "extend": ("lease_ms",)}[verdict]
    members = msgspec.structs.asdict(item)
    return _given(**{name: members[name] for name in ("message_id", "lease", *names)})


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _path(message_id: str) -> str:
    return f"/messages/{segment(message_id)}"


def _queue(name: str) -> str:
    return f"/queues/{segment(name)}/messages"
