"""What a load needs of a client, the same for every side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

Received = Callable[[Sequence[bytes]], bool]
"""Takes the contents of delivered messages; True asks the client to have this ack confirmed."""


class Client(Protocol):
    """One producer or one consumer, on connections of its own."""

    settled: asyncio.Event
    """Set when the ack that ``received`` asked to confirm was confirmed."""

    async def prepare(self) -> None:
        """Create the queue (stream and group) when it is not there."""

    async def publish(self, contents: list[bytes]) -> None:
        """Publish; returns when each message is confirmed."""

    async def fill(self, contents: list[bytes]) -> None:
        """Publish by the fastest safe way; for backlogs, never timed."""

    async def consume(self, received: Received, credit: int, consumers: int = 1) -> None:
        """Start to consume, at most ``credit`` unsettled at a time; each message is acked after ``received``.

        ``consumers`` is how many share the queue, for a side whose limit is one for them all.
        """

    async def unsettled(self) -> int:
        """Messages published but not acked yet."""

    async def close(self) -> None:
        """End consuming and close the connections."""
