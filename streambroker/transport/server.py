"""uvicorn, with what the broker needs of it: its own signals, close codes, and a handle to cut a connection off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.server import ServerProtocol

_TOO_BIG, _HEARTBEAT_LOST = 4413, 4509


class _Conversation(ServerProtocol):
    """Closes with the contract's code where a frame is too big."""

    def fail(self, code: int, reason: str = "") -> None:
        super().fail(_TOO_BIG if code == 1009 else code, reason)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol; its classes are not a public interface, so uvicorn is pinned to a minor."""

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.conn = _Conversation(max_size=config.ws_max_size, logger=self.conn.logger)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # there is none where the handshake was refused
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions["streambroker.transport"] = self.transport

    def keepalive_timeout(self) -> None:
        """The peer did not answer a ping; `close()` alone would wait for ever for it to read what is unsent."""
        self.pong_timer = None
        self.pending_ping_payload = None
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(_HEARTBEAT_LOST, "heartbeat lost")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.transport.abort()


class _OneWrite:
    """A transport that holds a response's head back until its body comes: one system call for both, not two."""

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


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with responses in one write."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle: Any = self.cycle  # the last request's, or None, where this one is an upgrade
        # The answer to a HEAD has no body that would let the head go.
        if cycle is not None and cycle.transport is self.transport and self.scope["method"] != "HEAD":
            cycle.transport = _OneWrite(self.transport)


class Server(uvicorn.Server):
    """uvicorn's server, whose signals are handled by the broker: it drains first. `listening` is set once it does."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def configured(app: Any, heartbeat_ms: int, max_frame: int) -> Config:
    """How uvicorn serves the broker."""
    return Config(
        app,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=max_frame,
        ws_ping_interval=heartbeat_ms / 1_000,
        ws_ping_timeout=heartbeat_ms / 1_000,
        ws_per_message_deflate=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        backlog=2_048,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="off",
        reset_contextvars=True,
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    sock.set_inheritable(True)
    return sock
