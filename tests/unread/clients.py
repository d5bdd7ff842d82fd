"""Clients that do not read, and what the broker's process holds meanwhile."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from tests.harness import BrokerProcess


@dataclass(frozen=True, slots=True)
class Unread:
    """One connection."""

    sock: socket.socket

    def begun(self) -> None:
        """Returns when the answer has begun to come, or the connection has been cut off instead."""
        try:
            self.sock.recv(1)
        except ConnectionResetError:
            pass

    def whole(self, size: int) -> bool:
        """Read on at last: whether at least so many bytes come before the connection ends."""
        try:
            while size > 0 and (part := self.sock.recv(1 << 20)):
                size -= len(part)
        except ConnectionResetError:
            pass
        return size <= 0


def resident(broker: BrokerProcess) -> int:
    """Bytes of memory that the broker's process has."""
    lines = Path(f"/proc/{broker.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def http(broker: BrokerProcess, method: str, path: str, body: bytes = b"") -> bytes:
    """A request of the admin's."""
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {broker.token()}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body
