"""Where `consume` gets its messages, and how long it goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from streambroker.client import Client, Consumption, Message

_START_S = 0.25
"""The least that a subscription is given to deliver what is there."""


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
    """Messages of a subscription; it keeps them for as long as the connection lives. See `Source`.

    Its leases are given back without counting as a failure, which those of a poll cannot be. A poll of one message only
    asks, when none has come, whether there really is none: a subscription does not say so.
    """

    def __init__(self, client: Client, queue: str, credit: int) -> None:
        self._client = client
        self._queue = queue
        self._consumption = client.subscribe(queue, credit=credit)

    async def take(self, wait_s: float | None) -> Message | None:
        """See `Source`."""
        message = await _within(self._consumption, wait_s)
        return message or await _polled(self._client, self._queue) or self._consumption.take_now()

    async def enough(self) -> None:
        """See `Source`. Returns when the broker has said so, so that no settle can be judged before it."""
        await self._consumption.pause()

    async def close(self) -> None:
        """See `Source`."""
        await self._consumption.close()


class Counted:
    """So many messages of a queue and none fetched ahead, for one who settles each before it takes the next.

    A subscription of credit `c` has delivered at most `c` more than were settled on it. Before that could be more than
    are wanted it is told that it is enough; when what came until then is taken, another one with less credit goes on.
    See `Source`.
    """

    def __init__(self, client: Client, queue: str, credit: int, count: int) -> None:
        self._client = client
        self._queue = queue
        self._most = credit
        self._left = count
        self._credit = 0
        self._enough = False
        self._consumption: Consumption | None = None

    async def take(self, wait_s: float | None) -> Message | None:
        """See `Source`."""
        consumption = self._consumption
        if consumption is not None and self._enough:
            if (message := consumption.take_now()) is not None:
                return self._taken(message)
            await self.close()
        consumption = self._consumption or self._begun()
        message = await _within(consumption, wait_s)
        if message is None:
            await self.enough()
            message = consumption.take_now()
        if message is None:
            await self.close()
            message = await _polled(self._client, self._queue)
        if message is not None and self._credit >= self._left:
            await self.enough()
        return self._taken(message)

    def _begun(self) -> Consumption:
        self._enough = False
        self._credit = max(1, min(self._most, self._left // 2))
        self._consumption = self._client.subscribe(self._queue, credit=self._credit)
        return self._consumption

    def _taken(self, message: Message | None) -> Message | None:
        self._left -= message is not None
        return message

    async def enough(self) -> None:
        """See `Source`."""
        if self._consumption is not None and not self._enough:
            self._enough = True
            await self._consumption.pause()

    async def close(self) -> None:
        """See `Source`."""
        consumption, self._consumption = self._consumption, None
        if consumption is not None:
            await consumption.close()


async def _within(consumption: Consumption, wait_s: float | None) -> Message | None:
    """The next message; None where none came in time, a subscription's own start not counted."""
    try:
        async with asyncio.timeout(None if wait_s is None else max(wait_s, _START_S)):
            return consumption.take_now() or await consumption.take()
    except TimeoutError:
        return None


async def _polled(client: Client, queue: str) -> Message | None:
    """One message, if there is one now."""
    return await client.receive(queue)
