"""Sockets on which a test sends what it likes, and readers of what comes back."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tests.harness import BrokerProcess

PATIENCE_S = 60


class Answer(NamedTuple):
    """An HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Closed(Exception):
    """The broker closed the connection before all came."""


class Raw:
    """One connection; every wait has an end."""

    def __init__(self, broker: BrokerProcess, patience: float = PATIENCE_S, receive_buffer: int = 0) -> None:
        host, _, port = broker.url.removeprefix("http://").rpartition(":")
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(patience)
        self.socket.connect((host, int(port)))
        self._came = b""

    def send(self, data: bytes) -> bool:
        """Send; whether the broker took it all."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _read(self, count: int) -> bytes:
        while len(self._came) < count:
            self._more()
        data, self._came = self._came[:count], self._came[count:]
        return data

    def _more(self) -> None:
        try:
            part = self.socket.recv(65_536)
        except ConnectionResetError:
            part = b""
        if not part:
            raise Closed(self._came)
        self._came += part

    def answer(self) -> Answer:
        """The next HTTP answer."""
        while (end := self._came.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = self._read(end + 4).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return Answer(int(lines[0].split(" ")[1]), headers, self._read(int(headers.get("content-length", "0"))))

    def answers(self) -> list[Answer]:
        """All answers until the broker closes the connection."""
        found = []
        with contextlib.suppress(Closed):
            while True:
                found.append(self.answer())
        return found

    def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame: opcode and payload."""
        first, second = self._read(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack("!H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._read(8))
        return first & 15, self._read(size)

    def frames(self) -> list[tuple[int, bytes]]:
        """All frames until the broker closes the connection."""
        found = []
        with contextlib.suppress(Closed):
            while True:
                found.append(self.frame())
        return found

    def gone(self) -> bytes:
        """What comes until the broker closes the connection."""
        with contextlib.suppress(Closed):
            while True:
                self._more()
        return self._came

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@contextlib.contextmanager
def websocket(broker: BrokerProcess, *fields: bytes, patience: float = PATIENCE_S) -> Iterator[Raw]:
    """A WebSocket that is welcome."""
    with Raw(broker, patience) as raw:
        raw.send(handshake(broker, *fields))
        answer = raw.answer()
        assert answer.status == 101, answer
        raw.frame()
        yield raw


def handshake(broker: BrokerProcess, *fields: bytes) -> bytes:
    """A good opening handshake of the admin."""
    lines = [
        b"GET /ws HTTP/1.1",
        b"Host: localhost",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        authorization(broker),
        *fields,
    ]
    return b"\r\n".join([*lines, b"", b""])


def authorization(broker: BrokerProcess) -> bytes:
    """The admin's header field."""
    return b"Authorization: Bearer " + broker.token().encode()


def request(broker: BrokerProcess, method: str, path: str, body: bytes = b"", *fields: bytes) -> bytes:
    """A good request of the admin."""
    lines = [
        f"{method} {path} HTTP/1.1".encode(),
        b"Host: localhost",
        authorization(broker),
        b"Content-Type: application/json",
        *(fields or (b"Content-Length: %d" % len(body),)),
    ]
    return b"\r\n".join([*lines, b"", body])


def frame(
    payload: bytes = b"", opcode: int = 1, *, fin: bool = True, rsv: int = 0, mask: bytes | None = bytes(4)
) -> bytes:
    """A client's frame; `mask` None leaves it unmasked."""
    size = len(payload)
    bit = 0 if mask is None else 0x80
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 2**16:
        head = bytes([first, bit | 126]) + struct.pack("!H", size)
    else:
        head = bytes([first, bit | 127]) + struct.pack("!Q", size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
