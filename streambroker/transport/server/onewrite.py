"""A response's head and body in one system call."""

from __future__ import annotations

import asyncio
from typing import Any


class OneWrite:
    """A transport that holds a response's head back until its body comes."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""  # None once it has gone out

    def write(self, data: bytes) -> None:
        """The head, then the body, which may be empty; an interim response goes out at once."""
        if self._head:
            data, self._head = self._head + data, None
        elif self._head is not None and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            return
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
