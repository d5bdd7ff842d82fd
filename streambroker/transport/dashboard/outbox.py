"""What one dashboard is sent: answers in their order, and of everything else the latest when there is room for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Send

log = logging.getLogger(__name__)

CLOSE_S = 3
"""How long a close may wait for a peer that does not read."""
MAX_ANSWERS = 100
"""Answers that may wait: beyond it the client is not read until they are sent."""


class Closing(NamedTuple):
    """Why the connection is closed."""

    code: int
    reason: str


class Outbox:
    """Owned by its dashboard; `run()` is its one task.

    `latest` makes the next frame of what has changed, or None: it is called only when the one before is on its way, so
    nothing waits but what the transport holds (its high-water mark, 64 KiB, and one frame).
    """

    def __init__(
        self, name: str, send: Send, transport: asyncio.Transport | None, latest: Callable[[], str | None]
    ) -> None:
        self._name = name
        self._send = send
        self._transport = transport
        self._latest = latest
        self._answers: deque[str] = deque()
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._cut: asyncio.TimerHandle | None = None
        self._ended = False
        self.closing: Closing | None = None

    def say(self, frame: bytes) -> None:
        """Send an answer."""
        if self._ended:
            return  # who sends without reading may have sent much before it went
        self._answers.append(frame.decode())
        if len(self._answers) > MAX_ANSWERS:
            self._room.clear()
        self._something.set()

    def wake(self) -> None:
        """There may be something new."""
        self._something.set()

    def close(self, code: int, reason: str) -> None:
        """Close after the answers that wait; the first reason given counts."""
        if self.closing is None:
            self.closing = Closing(code, reason)
            self._something.set()
            if self._transport is not None:
                self._cut = asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    def stop(self) -> None:
        """It has ended: there is nobody to wait for, nor to cut off."""
        self._room.set()
        if self._cut is not None:
            self._cut.cancel()

    async def room(self) -> None:
        """Return when the client may be read."""
        await self._room.wait()

    async def run(self) -> None:
        """Send what there is, until the connection ends."""
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while (text := self._next()) is not None:
                    await self._send({"type": "websocket.send", "text": text})
                if self.closing is not None:
                    code, reason = self.closing
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
                    return
        except OSError:
            return  # the peer is gone; the reader hears of it too
        except Exception:
            log.exception("dashboard %s cannot be told anything", self._name)
            self.close(4500, "internal error")
            await self._send({"type": "websocket.close", "code": 4500, "reason": "internal error"})
        finally:
            self._ended = True
            self._room.set()

    def _next(self) -> str | None:
        if self._answers:
            answer = self._answers.popleft()
            if len(self._answers) <= MAX_ANSWERS // 2:
                self._room.set()
            return answer
        return None if self.closing is not None else self._latest()
