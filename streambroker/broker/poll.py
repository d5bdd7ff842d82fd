"""A consumer that takes once and is gone: a REST consume, at once or held open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from streambroker.broker.dispatcher import Claimer, Dispatcher
from streambroker.broker.registry import Registry
from streambroker.core.lifecycle import LeaseTerms
from streambroker.core.message import Message
from streambroker.store.contract import Store

MAX_BYTES = 8 * 1024 * 1024
"""About how much content one answer carries; one message always fits."""


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
        self.lines: Sequence[Dispatcher] = ()
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

    def queue_dropped(self) -> None:
        """See `dispatcher.Consumer`. It does not wait for the others alone."""
        self.close()

    def close(self) -> list[Message]:
        """Take nothing more; what had arrived but was not seen is returned, to be given back."""
        if self.arrived.done():
            return [] if self.arrived.cancelled() else self.arrived.result()
        self.arrived.cancel()
        return []


class Polling:
    """Owns the set of polls that are parked: each stands in the lines of its queues until something comes."""

    def __init__(
        self, store: Store, queues: Registry, claim: Claimer, release: Callable[[Sequence[Message]], object]
    ) -> None:
        self._store = store
        self._queues = queues
        self._claim = claim
        self._release = release
        self._parked: set[Poll] = set()

    async def consume(
        self, queues: Sequence[str], holder: str, limit: int, wait_ms: int, lease_ms: int | None
    ) -> list[Message]:
        """Up to `limit` messages of the queues, waiting up to `wait_ms` for the first. Raises `NotFound`, and
        `RateLimited` where the holder has its quota of leases already.

        Cancelled while waiting, it takes no message along. While the broker drains it does not wait.
        """
        dispatchers = [self._queues.dispatcher(name) for name in queues]
        self._queues.in_flight.check(holder)
        poll = Poll(holder, limit, lease_ms)
        try:
            for dispatcher in dispatchers:
                if poll.arrived.done():
                    break
                await self._claim_now(dispatcher, poll)
            if not poll.arrived.done() and wait_ms and not self._queues.draining:
                await self._park(poll, dispatchers, wait_ms)
            if poll.arrived.done() and not poll.arrived.cancelled():
                return poll.arrived.result()
            poll.close()
            return []
        except asyncio.CancelledError:
            self._release(poll.close())
            raise

    async def _claim_now(self, dispatcher: Dispatcher, poll: Poll) -> None:
        if dispatcher.queue.paused or not (await self._store.depth(dispatcher.queue.name)).ready:
            return
        reservations, claims = dispatcher.reserve_for(poll)
        came = asyncio.get_running_loop().create_future()

        def served(got: list[list[Message]]) -> None:
            dispatcher.served(reservations, got)
            if not came.done():
                came.set_result(None)

        if claims:
            self._claim(dispatcher, claims, served)
            await came

    async def _park(self, poll: Poll, dispatchers: Sequence[Dispatcher], wait_ms: int) -> None:
        if any(self._queues.dispatchers.get(dispatcher.queue.name) is not dispatcher for dispatcher in dispatchers):
            return  # one of the queues was deleted while the others were asked
        self._parked.add(poll)
        poll.lines = dispatchers
        try:
            for dispatcher in dispatchers:
                dispatcher.add(poll)
            await asyncio.wait([poll.arrived], timeout=wait_ms / 1_000)
        finally:
            poll.lines = ()
            self._parked.discard(poll)
            for dispatcher in dispatchers:
                dispatcher.remove(poll)
        await poll.claimed()

    def drain(self) -> None:
        """Answer those who wait, now, with nothing."""
        for poll in tuple(self._parked):
            poll.close()
