"""What one GraphQL connection is sent: who says something waits until the peer has read most of what was."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from starlette.types import Send

_MAX_REASON = 123


class Closing(NamedTuple):
    """Why the connection is closed."""

    code: int
    reason: str


class Outlet:
    """Owned by its connection. Nothing waits here but what the transport holds: its high-water mark, and one frame."""

    def __init__(self, send: Send, transport: asyncio.Transport | None) -> None:
        self.closed: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self._send = send
        self._transport = transport

    async def say(self, frame: bytes) -> None:
        """Send a frame. Raises `OSError` where the peer is gone."""
        await self._send({"type": "websocket.send", "text": frame.decode()})

    def close(self, code: int, reason: str) -> None:
        """Close; the first reason given counts."""
        if not self.closed.done():
            # Clients write parts of some reasons, and a close frame has room for so many bytes (RFC 6455, 5.5).
            self.closed.set_result(Closing(code, reason.encode()[:_MAX_REASON].decode(errors="ignore")))

    async def finish(self, closing: Closing, within_s: float) -> None:
        """Say goodbye, and cut off a peer that does not take it."""
        try:
            async with asyncio.timeout(within_s):
                await self._send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        """End it without a word."""
        if self._transport is not None:
            self._transport.abort()
