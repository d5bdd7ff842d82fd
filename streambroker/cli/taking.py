"""Where `consume` gets its messages, and how long it goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from streambroker.client import Client, Consumption, Message

_POLL_MS = 20_000


class Source(Protocol):
    """Gives messages one by one."""

    async def take(self, wait_s: float | None) -> Message | None:
        """The next message; None where none came for so long (None: wait for ever). Raises the client's errors."""
        ...

    async def enough(self) -> None:
        """Fetch no more, whatever is settled from now on."""
        ...

    async def close(self) -> None:
        """Give back what was not taken."""
        ...


class Subscribed:
    """Messages of a subscription; it keeps them for as long as the connection lives. See `Source`."""

    def __init__(self, consumption: Consumption) -> None:
        self._consumption = consumption

    async def take(self, wait_s: float | None) -> Message | None:
        """See `Source`."""
        try:
            async with asyncio.timeout(wait_s):
                return self._consumption.take_now() or await self._consumption.take()
        except TimeoutError:
            return None

    async def enough(self) -> None:
        """See `Source`. Returns when the broker has said so, so that no settle can be judged before it."""
        await self._consumption.pause()

    async def close(self) -> None:
        """See `Source`."""
        await self._consumption.close()


class Polled:
    """Messages of polls that ask for exactly as many as are wanted, so that none is fetched ahead. See `Source`."""

    def __init__(self, client: Client, queue: str, most: int, count: int | None) -> None:
        self._client = client
        self._queue = queue
        self._most = most
        self._left = count
        self._fetched: deque[Message] = deque()

    async def take(self, wait_s: float | None) -> Message | None:
        """See `Source`."""
        ends = None if wait_s is None else asyncio.get_running_loop().time() + wait_s
        while not self._fetched:
            wait_ms = _POLL_MS if ends is None else round((ends - asyncio.get_running_loop().time()) * 1_000)
            self._fetched.extend(await self._poll(max(0, min(wait_ms, _POLL_MS))))
            if not self._fetched and wait_ms <= 0:
                return None
        return self._fetched.popleft()

    async def _poll(self, wait_ms: int) -> list[Message]:
        most = self._most if self._left is None else min(self._most, self._left)
        fetched = await self._client.receive_many(self._queue, most=most, wait_ms=wait_ms)
        if self._left is not None:
            self._left -= len(fetched)
        return fetched

    async def enough(self) -> None:
        """See `Source`: no more than is wanted was asked for."""

    async def close(self) -> None:
        """See `Source`."""
        for message in self._fetched:
            message.nack(requeue=True, delay_ms=0, reason="given back")
