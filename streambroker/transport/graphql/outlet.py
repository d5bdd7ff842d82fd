"""What one GraphQL connection is sent: who says something waits until the peer has read most of what was."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from starlette.types import Send

log = logging.getLogger(__name__)

STALL_S = 10
"""A peer that reads nothing for so long is cut off."""
_MAX_REASON = 123


class Closing(NamedTuple):
    """Why the connection is closed."""

    code: int
    reason: str


class Outlet:
    """Owned by its connection. Nothing waits here but what the transport holds: its high-water mark, and one frame."""

    def __init__(self, name: str, send: Send, transport: asyncio.Transport | None) -> None:
        self.closed: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self._name = name
        self._send = send
        self._transport = transport
        self._written = 0
        self._stall: asyncio.TimerHandle | None = None

    async def say(self, frame: bytes) -> None:
        """Send a frame. Raises `OSError` where the peer is gone."""
        await self._send({"type": "websocket.send", "text": frame.decode()})
        self._written += len(frame)
        transport = self._transport
        if self._stall is None and transport is not None and transport.get_write_buffer_size():
            self._watch_reading(transport, -1)

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

    def stop(self) -> None:
        """Watch the peer no longer."""
        if self._stall is not None:
            self._stall.cancel()

    def _watch_reading(self, transport: asyncio.Transport, last: int) -> None:
        """Look every `STALL_S` whether the peer has read anything since `last` of our bytes."""
        unread = transport.get_write_buffer_size()
        read = self._written - unread
        if unread == 0:
            self._stall = None
        elif read <= last:
            log.warning("GraphQL connection %s read nothing for %s s and is cut off", self._name, STALL_S)
            self.close(4508, "slow consumer")
            transport.abort()
        else:
            self._stall = asyncio.get_running_loop().call_later(STALL_S, self._watch_reading, transport, read)
