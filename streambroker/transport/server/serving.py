"""uvicorn as the broker runs it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import uvicorn

from streambroker.transport.server.bounds import Deadlines
from streambroker.transport.server.config import ServerConfig
from streambroker.transport.server.http import HttpProtocol
from streambroker.transport.server.strangers import Strangers
from streambroker.transport.server.watch import Watch
from streambroker.transport.server.websocket import WebSocketProtocol
from streambroker.transport.tls import end

_BACKLOG = 2_048
_GRACE_S = 5
_MANY = 1_000_000
_DEADLINES = Deadlines()


class Server(uvicorn.Server):
    """uvicorn's server, whose signals are handled by the broker: it drains first. `listening` is set once it does."""

    config: ServerConfig

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with deadlines for TLS as well."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        config = self.config
        self.servers = [
            await loop.create_server(
                self._protocol,
                sock=sock,
                ssl=config.ssl,
                backlog=_BACKLOG,
                ssl_handshake_timeout=config.tls_handshake_s,
                ssl_shutdown_timeout=config.tls_shutdown_s,
            )
            for sock in sockets or []
        ]
        self.started = True
        self.listening.set()

    def connections(self) -> int:
        """How many are open, WebSockets among them."""
        return len(self.server_state.connections)

    def cut_off(self) -> Mapping[str, int]:
        """How many clients were cut off because they did not read, by `unread.Fault`."""
        return self.config.watch.backlog.cut_off

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but without waiting for idle clients to end their side of a TLS connection."""
        asyncio.get_running_loop().call_soon(self._end_idle)  # after uvicorn has closed what it can
        await super().shutdown(sockets)

    def _end_idle(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport.is_closing():
                end(connection.transport)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _nobody(address: str) -> bool:
    return False


def configured(
    app: Any,
    heartbeat_ms: int,
    max_frame: int,
    *,
    most_connections: int = _MANY,
    most_of_address: int | None = None,
    trusted: Callable[[str], bool] = _nobody,
    deadlines: Deadlines = _DEADLINES,
    tls: ssl.SSLContext | None = None,
    tls_handshake_s: float = 5,
    tls_shutdown_s: float = 10,
    headers: Sequence[tuple[str, str]] = (),
) -> ServerConfig:
    """How uvicorn serves the broker.

    `heartbeat_ms` is how often a WebSocket is pinged, `max_frame` the bytes of its largest message. Beyond
    `most_connections`, WebSockets among them, clients are answered 503. `headers` go with each answer of the
    application.

    With `most_of_address` the application says on whose connections it has recognized somebody: it calls what it finds
    in the scope under `RECOGNIZED`. Until then a connection counts for its address, of which no more than so many stay
    (0: any number) and never more than half of `most_connections` are taken; it is idle for a short time only; and a
    message on its WebSocket is small. Addresses that are `trusted` are proxies, and not counted.
    """
    config = ServerConfig(
        app,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=max_frame,
        ws_ping_interval=heartbeat_ms / 1_000,
        ws_ping_timeout=heartbeat_ms / 1_000,
        ws_per_message_deflate=False,
        timeout_keep_alive=deadlines.idle,  # type: ignore[arg-type]
        timeout_graceful_shutdown=_GRACE_S,
        backlog=_BACKLOG,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="off",
        reset_contextvars=True,
        headers=list(headers),
        ssl_context_factory=None if tls is None else lambda config, default: tls,
    )
    config.watch = Watch(deadlines, most_connections)
    config.strangers = Strangers(most_of_address, max(most_connections // 2, 1), trusted)
    if tls is not None:
        config.tls_handshake_s, config.tls_shutdown_s = tls_handshake_s, tls_shutdown_s
    return config
