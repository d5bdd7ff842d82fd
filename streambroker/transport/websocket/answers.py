"""What a connection owes its client: answers that come once something is durable, while the reader goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from streambroker.core.errors import BrokerError
from streambroker.protocol import frames
from streambroker.transport.websocket.outbox import MAX_BYTES, Outbox

MAX_UNANSWERED = 2_000
"""Frames whose answer is due: beyond it the connection is not read until some are answered."""


class Answers:
    """Counts what is owed. `name` is the connection's id, by which its errors are found."""

    def __init__(self, name: str, outbox: Outbox) -> None:
        self._name = name
        self._outbox = outbox
        self._due = 0
        self._room = asyncio.Event()
        self._room.set()

    def say(self, frame: bytes) -> None:
        """Send a frame."""
        self._outbox.say(frame)

    def refuse(self, frame_id: frames.FrameId, error: BrokerError) -> None:
        """Answer with an error."""
        self._outbox.say(frames.error(frame_id, error, f"urn:streambroker:session:{self._name}"))

    def owe(self, count: int) -> None:
        """So many answers will come by `told` or `given`."""
        self._due += count

    def told(self, frame_id: frames.FrameId, tell: Callable[[Any], bytes | None], answer: Any) -> None:
        """What was asked for is durable, or was refused."""
        if isinstance(answer, BrokerError):
            self.refuse(frame_id, answer)
        elif (said := tell(answer)) is not None:
            self.say(said)
        self.given(1)

    def given(self, count: int) -> None:
        """So many of the answers that were owed have been given."""
        self._due -= count
        self.moved()

    def moved(self) -> None:
        """The client is read again where it was not."""
        few = self._due <= MAX_UNANSWERED // 2 and self._outbox.size <= MAX_BYTES // 2
        if few or self._outbox.ended or self._outbox.closing is not None:
            self._room.set()

    async def room(self) -> None:
        """Return when the client may be read: at once, unless too much is owed or unsent."""
        if not self._outbox.ended and (self._due > MAX_UNANSWERED or self._outbox.size > MAX_BYTES):
            self._room.clear()
            await self._room.wait()
