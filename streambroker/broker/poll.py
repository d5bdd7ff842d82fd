"""A consumer that takes once and is gone: a REST consume, at once or held open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from streambroker.core.lifecycle import LeaseTerms
from streambroker.core.message import Message

MAX_BYTES = 8 * 1024 * 1024
"""About how much content one answer carries; one message always fits."""


class Line(Protocol):
    """A queue's line of hungry consumers: its dispatcher."""

    def feed(self, consumer: Poll) -> None:
        """The consumer may have room again."""
        ...


class Poll:
    """Waits for up to `limit` messages of one or more queues; the first that come end the wait.

    `lines` are the dispatchers in whose lines it stands while it waits. `close()` when the client has left: what is
    claimed after that goes back unseen.
    """

    def __init__(self, holder: str, limit: int, lease_ms: int | None) -> None:
        self.holder = holder
        self._limit = limit
        self._lease_ms = lease_ms
        self._reserved = False
        self._came: asyncio.Future[None] | None = None
        self.lines: Sequence[Line] = ()
        self.arrived: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()

    def wants(self) -> tuple[int, int]:
        """See `dispatcher.Consumer`. One claim at a time: it is served from one queue only."""
        return (0, 0) if self._reserved or self.arrived.done() else (self._limit, MAX_BYTES)

    def terms(self, token: str, now: int, lease_ms: int) -> LeaseTerms:
        """See `dispatcher.Consumer`."""
        return LeaseTerms(token, self.holder, now + (self._lease_ms or lease_ms))

    def reserve(self, count: int, size: int) -> None:
        """See `dispatcher.Consumer`."""
        self._reserved = True

    def deliver(self, count: int, size: int, messages: list[Message]) -> list[Message]:
        """See `dispatcher.Consumer`."""
        self._reserved = False
        if self._came is not None and not self._came.done():
            self._came.set_result(None)
        if not messages:
            # While one queue was asked it stood in no other queue's line.
            for line in self.lines:
                line.feed(self)
            return []
        if self.arrived.done():
            return messages
        self.arrived.set_result(messages)
        return []

    async def claimed(self) -> None:
        """Returns once no claim for it is on its way: given back unseen, what that brings would come out of order."""
        while self._reserved:
            self._came = asyncio.get_running_loop().create_future()
            await self._came

    def close(self) -> list[Message]:
        """Take nothing more; what had arrived but was not seen is returned, to be given back."""
        if self.arrived.done():
            return [] if self.arrived.cancelled() else self.arrived.result()
        self.arrived.cancel()
        return []
