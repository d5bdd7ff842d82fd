"""A server on loopback around a small application, and a client that sends bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from streambroker.transport import server
from streambroker.transport.server.http import HttpProtocol

PATIENCE_S = 40
"""Only a broken server is waited for so long."""
HEARTBEAT_MS, MAX_FRAME = 10_000, 100_000
SHORT = server.Deadlines(head=0.6, body=0.6, rate=1_000_000, rest=0.6, unread=1.0, refused=0.6, idle=30)
"""Short enough to be waited for, and longer than a busy machine lets a process wait for its turn."""


class Answer(NamedTuple):
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        document = json.loads(self.body)
        assert document["status"] == self.status
        assert isinstance(document, dict)
        return document


class Application:
    """Answers each request with what it got; ``/wait`` only when `go` is set, ``/early`` without reading the body,
    ``/big/N`` and ``/whole/N`` with so many bytes. On a WebSocket it tells the length of each message; ``/echo`` has it
    sent back, ``/crowd`` five times at once.

    It recognizes whoever has an Authorization header, or says hello on a WebSocket.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.seen: list[str] = []
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.left = asyncio.Event()
        self.failed: list[BaseException] = []
        self.begun = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["path"])
        self.scopes.append(scope)
        self.begun.set()
        if any(name == b"authorization" for name, _ in scope["headers"]):
            recognize(scope)
        try:
            await (self._socket if scope["type"] == "websocket" else self._request)(scope, receive, send)
        except OSError:
            self.left.set()
        except BaseException as error:
            self.failed.append(error)
            raise

    async def _request(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path.startswith("/late"):
            await self.go.wait()
        parts, more = [], path != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(parts)
        self.bodies.append(body)
        if path.startswith("/wait"):
            await self._wait(receive)
        answer = b"x" * int(path[5:]) if path.startswith("/big/") else path.encode() + b" " + body
        if path.startswith("/whole"):
            await self._whole(scope, answer)
            return
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 413 if path == "/early" else 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _whole(self, scope: Any, answer: bytes) -> None:
        whole = scope["streambroker.answer"]
        if scope["path"] == "/whole/204":
            await whole(204, b"", b"")
            return
        if (size := scope["path"].removeprefix("/whole/")).isdecimal():
            answer = b"x" * int(size)
        await whole(200, b"content-length: %d\r\n" % len(answer), b"" if scope["method"] == "HEAD" else answer)

    async def _wait(self, receive: Any) -> None:
        gone = asyncio.ensure_future(receive())
        going = asyncio.ensure_future(self.go.wait())
        await asyncio.wait([gone, going], return_when=asyncio.FIRST_COMPLETED)
        going.cancel()
        if gone.done():
            self.left.set()
        gone.cancel()

    async def _socket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"].startswith("/door"):
            await self.go.wait()
        await send({"type": "websocket.accept"})
        if scope["path"].startswith("/late"):
            await self.go.wait()
        while (message := await receive())["type"] == "websocket.receive":
            self.bodies.append(message["text"].encode() if message.get("text") is not None else message["bytes"])
            if self.bodies[-1].startswith(b"hello"):
                recognize(scope)
            elif scope["path"] == "/echo":
                await send({"type": "websocket.send", "bytes": self.bodies[-1]})
                continue
            elif scope["path"] == "/crowd":
                await asyncio.gather(*[send({"type": "websocket.send", "bytes": self.bodies[-1]}) for _ in range(5)])
                continue
            elif self.bodies[-1] == b"out":
                await send({"type": "websocket.close", "code": 4401})
                continue
            await send({"type": "websocket.send", "text": f"{len(self.bodies[-1])}"})
        self.bodies.append(b"closed with %d" % message["code"])
        self.left.set()


def recognize(scope: Any) -> None:
    """Tell the server that it is known who is on the connection."""
    told = scope.pop(server.RECOGNIZED, None)
    if told is not None:
        told()


class Client:
    """A connection on which a test sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def send_all(self, data: bytes) -> None:
        """Send, waiting for the server to read."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """The next answer."""
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = b"" if head else await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split(" ")[1]), headers, body)

    async def rest(self) -> bytes:
        """What comes until the server closes the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def opened(self, path: str = "/ws", *fields: bytes) -> None:
        """Become a WebSocket."""
        self.send(upgrade(path, *fields))
        assert (await self.answer()).status == 101

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload."""
        async with asyncio.timeout(PATIENCE_S):
            first, second = await self.reader.readexactly(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 15, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """The code of the close frame, which may have other frames before it."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                return int.from_bytes(payload[:2])


class World:
    """The server of one test."""

    def __init__(
        self, application: Application, front: server.Server, port: int, trust: ssl.SSLContext | None = None
    ) -> None:
        self.app = application
        self.front = front
        self.port = port
        self._trust = trust
        self._clients: list[Client] = []  # one that nobody refers to would be closed

    @property
    def watch(self) -> Any:
        return self.front.config.watch

    @property
    def protocols(self) -> list[Any]:
        """The server's end of each connection."""
        return list(self.front.server_state.connections)

    @property
    def http(self) -> HttpProtocol:
        """The server's end of the one HTTP connection."""
        (one,) = (protocol for protocol in self.protocols if isinstance(protocol, HttpProtocol))
        return one

    async def client(self, *, limit: int = 2**16, address: str = "127.0.0.1") -> Client:
        """Connect from an address. ``limit`` is about how much of what comes is read before the test asks for it."""
        opened = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=limit, local_addr=(address, 0), ssl=self._trust
        )
        client = Client(*opened)
        self._clients.append(client)
        return client

    async def until(self, condition: Any) -> None:
        """Wait for something that tells nobody of itself."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(
    *,
    deadlines: server.Deadlines = SHORT,
    most_connections: int = 1_000,
    heartbeat_ms: int = HEARTBEAT_MS,
    max_frame: int = MAX_FRAME,
    most_of_address: int | None = None,
    trusted: Callable[[str], bool] = lambda address: False,
    tls: ssl.SSLContext | None = None,
    trust: ssl.SSLContext | None = None,
) -> AsyncIterator[World]:
    """A server around an `Application`, stopped at the end; with `tls`, clients have to `trust` it."""
    sock = server.listen("127.0.0.1", 0)
    application = Application()
    front = server.Server(
        server.configured(
            application,
            heartbeat_ms,
            max_frame,
            deadlines=deadlines,
            most_connections=most_connections,
            most_of_address=most_of_address,
            trusted=trusted,
            tls=tls,
        )
    )
    running = asyncio.create_task(front.serve(sockets=[sock]))
    async with asyncio.timeout(PATIENCE_S):
        await front.listening.wait()
    try:
        yield World(application, front, sock.getsockname()[1], trust)
    finally:
        application.go.set()
        for protocol in list(front.server_state.connections):
            protocol.transport.abort()
        front.should_exit = True
        await running
        sock.close()
    assert application.failed == []


def request(path: str = "/", body: bytes = b"", *fields: bytes, method: str = "POST") -> bytes:
    """A good request."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([*lines, b"", body])


def upgrade(path: str = "/ws", *fields: bytes) -> bytes:
    """A good opening handshake."""
    lines = [
        f"GET {path} HTTP/1.1".encode(),
        b"Host: localhost",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *fields,
    ]
    return b"\r\n".join([*lines, b"", b""])


def frame(payload: bytes = b"", opcode: int = 1, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    mask = 0x80 if masked else 0
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 2**16:
        head = bytes([first, mask | 126]) + struct.pack("!H", size)
    else:
        head = bytes([first, mask | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if masked else b"") + payload
