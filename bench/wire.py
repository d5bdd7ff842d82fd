"""A lean client of the WebSocket protocol: one asyncio protocol per connection, no queues, no tasks.

As lean as the peers' clients allow for, so that the client does not decide a figure: frames are parsed where they
arrive, envelopes are typed structs, content stays raw JSON, and the operations of one loop turn share one frame. It
masks its frames, answers pings and checks every confirmation, as RFC 6455 and the protocol ask.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Any, cast

import msgspec
from websockets.speedups import apply_mask

SUBPROTOCOL = "streambroker.v1+json"
_FRAME_BYTES = 1_000_000
"""What a frame of several operations may hold; the server takes a little more (``welcome.max_frame``)."""
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Delivered(msgspec.Struct):
    """The fields of a delivered message that a worker needs; the rest is skipped while decoding."""

    message_id: str
    content: msgspec.Raw


class Settled(msgspec.Struct):
    """One result of an ack."""

    message_id: str
    ok: bool
    code: str | None = None


class Frame(msgspec.Struct):
    """Any operation the server sends."""

    op: str
    id: int | None = None
    sub: str | None = None
    messages: list[Delivered] = []
    message_ids: list[str] = []
    results: list[Settled] = []
    problem: msgspec.Raw | None = None


class Draft(msgspec.Struct):
    """One message of a publish operation; ``content`` is JSON."""

    content: msgspec.Raw


class Publish(msgspec.Struct):
    """The publish operation."""

    id: int
    queue: str
    messages: list[Draft]
    op: str = "publish"


class Ack(msgspec.Struct, omit_defaults=True):
    """The ack operation; with an ``id`` it is confirmed after the commit."""

    op: str
    ids: list[str]
    id: int | None = None


class WireError(Exception):
    """The server refused the upgrade or an operation, or went away."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Frame | list[Frame]).decode


class Connection(asyncio.Protocol):
    """One authenticated WebSocket. Owner of its transport and of the confirmations it waits for."""

    __slots__ = ("_buffer", "_fragments", "_host", "_ids", "_out", "_replies", "_token", "_transport", "_upgraded",
                 "closed", "deliver", "welcome")  # fmt: skip

    def __init__(self, host: str, token: str) -> None:
        loop = asyncio.get_running_loop()
        self._host = host
        self._token = token
        self._buffer = bytearray()
        self._fragments = bytearray()
        self._upgraded = False
        self._ids = 0
        self._out: list[bytes] = []
        self._replies: dict[int, asyncio.Future[Frame]] = {}
        self._transport: asyncio.Transport | None = None
        self.welcome: asyncio.Future[Frame] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.deliver: Callable[[list[Delivered]], None] = lambda messages: None

    # --- operations ---------------------------------------------------------------------------------------------

    async def publish(self, queue: str, contents: list[bytes]) -> None:
        """Publish JSON contents in one operation; returns when the server confirmed it."""
        raw = msgspec.Raw
        self._ids += 1
        reply = self._expect(self._ids)
        self._send(_encode(Publish(self._ids, queue, [Draft(raw(content)) for content in contents])))
        frame = await reply
        if len(frame.message_ids) != len(contents):
            raise WireError(f"{len(contents)} messages published, {len(frame.message_ids)} confirmed")

    async def request(self, op: str, **fields: object) -> Frame:
        """Any operation with an id; returns its ``ok`` frame, raises ``WireError`` on an ``error`` frame."""
        self._ids += 1
        reply = self._expect(self._ids)
        self._send(_encode({"op": op, "id": self._ids, **fields}))
        return await reply

    def ack(self, ids: list[str]) -> None:
        """Settle without asking for a confirmation."""
        self._send(_encode(Ack("ack", ids)))

    async def ack_confirmed(self, ids: list[str]) -> None:
        """Settle and wait for the commit."""
        self._ids += 1
        reply = self._expect(self._ids)
        self._send(_encode(Ack("ack", ids, self._ids)))
        lost = [result for result in (await reply).results if not result.ok]
        if lost:
            raise WireError(f"{len(lost)} acks refused: {lost[0].code}")

    def close(self) -> None:
        """Send a clean close and end the connection."""
        if self._transport is not None and not self._transport.is_closing():
            self._write_frame(_CLOSE, (1000).to_bytes(2, "big"))
            self._transport.close()

    def _expect(self, request_id: int) -> asyncio.Future[Frame]:
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._replies[request_id] = future
        return future

    # --- writing ------------------------------------------------------------------------------------------------

    def _send(self, operation: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(operation)

    def _flush(self) -> None:
        operations, self._out = self._out, []
        frame: list[bytes] = []
        size = 0
        for operation in operations:
            if frame and size + len(operation) >= _FRAME_BYTES:
                self._write_operations(frame)
                frame, size = [], 0
            frame.append(operation)
            size += len(operation) + 1
        self._write_operations(frame)

    def _write_operations(self, operations: list[bytes]) -> None:
        self._write_frame(_TEXT, operations[0] if len(operations) == 1 else b"[" + b",".join(operations) + b"]")

    def _write_frame(self, opcode: int, payload: bytes) -> None:
        size, mask = len(payload), os.urandom(4)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head + mask + apply_mask(payload, mask))

    # --- reading ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /ws HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded and not self._upgrade():
            return
        position = 0
        while (end := self._read_frame(position)) > position:
            position = end
        if position:
            del self._buffer[:position]

    def _upgrade(self) -> bool:
        head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not separator:
            return False
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            self._end(f"no upgrade: {head[:200]!r} {rest[:300]!r}")
            return False
        self._upgraded = True
        self._buffer[:] = rest
        return True

    def _read_frame(self, start: int) -> int:
        """Read the frame at ``start``; where the next one starts, or ``start`` when it is not all there."""
        buffer = self._buffer
        have = len(buffer) - start
        if have < 2:
            return start
        size, head = buffer[start + 1] & 0x7F, 2
        if size >= 126:
            head = 4 if size == 126 else 10
            if have < head:
                return start
            size = int.from_bytes(buffer[start + 2 : start + head], "big")
        if have < head + size:
            return start
        body = start + head
        self._take(buffer[start], bytes(memoryview(buffer)[body : body + size]))
        return body + size

    def _take(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode == _PING:
            self._write_frame(_PONG, payload)
        elif opcode == _CLOSE:
            self._end(f"closed {int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}")
        elif opcode != _PONG:
            if self._fragments or not first & 0x80:
                self._fragments += payload
                if not first & 0x80:
                    return
                payload = bytes(self._fragments)
                self._fragments.clear()
            frames = _decode(payload)
            for frame in frames if isinstance(frames, list) else (frames,):
                self._handle_frame(frame)

    def _handle_frame(self, frame: Frame) -> None:
        if frame.op == "deliver":
            self.deliver(frame.messages)
        elif frame.op == "ok" and frame.id is not None:
            future = self._replies.pop(frame.id)
            if not future.done():
                future.set_result(frame)
        elif frame.op == "welcome":
            self.welcome.set_result(frame)
        elif frame.op in ("error", "lease_lost"):
            problem = WireError(f"{frame.op}: {bytes(frame.problem or b'').decode()}")
            waiting = self._replies.pop(frame.id, None) if frame.id is not None else None
            if waiting is None:
                self._end(str(problem))
            elif not waiting.done():
                waiting.set_exception(problem)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection lost: {exc}")

    def _end(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)
        for future in (self.welcome, *self._replies.values()):
            if not future.done():
                future.set_exception(WireError(reason))
                future.exception()
        if self._transport is not None:
            self._transport.close()


async def connect(port: int, token: str) -> Connection:
    """Open, upgrade and authenticate one connection on loopback; returns after ``welcome``."""
    loop = asyncio.get_running_loop()
    host: Any = f"127.0.0.1:{port}"
    _, connection = await loop.create_connection(lambda: Connection(host, token), "127.0.0.1", port)
    async with asyncio.timeout(30):
        await asyncio.shield(connection.welcome)
    return connection
