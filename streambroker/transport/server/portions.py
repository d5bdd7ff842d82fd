"""A transport over TLS, given what it is to send in portions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

PORTION = 64 * 1024
"""Bytes that are handed on at a time, and beyond which the TLS transport has its protocol pause."""


class Portions:
    """Keeps what a TLS transport has no room for.

    That transport would hand on all that it is given, to where nobody can see how much waits, and have its protocol
    pause only with the next write. In portions, at most three of them are where they are not counted.
    """

    __slots__ = ("_ending", "_parts", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: deque[memoryview] = deque()
        self._size = 0
        self._ending = False
        # Asks for a pause from that size on, and for more only once all of it is handed on.
        transport.set_write_buffer_limits(PORTION, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`; so are the other methods, but for `go_on`."""
        if self._ending:
            return
        if not self._parts and len(data) <= PORTION:
            self._transport.write(data)
        else:
            self._parts.append(memoryview(data))
            self._size += len(data)
            self.go_on()

    def go_on(self) -> None:
        """Hand on as much as there is room for."""
        while self._parts and self._transport.get_write_buffer_size() < PORTION:
            part = self._parts.popleft()
            if len(part) > PORTION:
                self._parts.appendleft(part[PORTION:])
            self._size -= min(len(part), PORTION)
            self._transport.write(part[:PORTION])
        if self._ending and not self._parts:
            self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._size + self._transport.get_write_buffer_size()

    def close(self) -> None:
        if self._parts:
            self._ending = True
            self._transport.pause_reading()
        else:
            self._transport.close()

    def abort(self) -> None:
        self._parts.clear()
        self._size = 0
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._ending or self._transport.is_closing()

    def resume_reading(self) -> None:
        if not self._ending:
            self._transport.resume_reading()
