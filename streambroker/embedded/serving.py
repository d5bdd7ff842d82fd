"""The doors of an embedded broker on a socket, for clients of any kind: in tests of them, mostly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streambroker.config import is_loopback
from streambroker.core.errors import ConfigError
from streambroker.embedded.heart import Heart
from streambroker.node import FRAME_OVERHEAD
from streambroker.transport import server

_CLOSE_S = 10


@dataclass(frozen=True, slots=True)
class Served:
    """Where a broker is served. `token` is an access token of the user `username`, an admin; good for a day."""

    url: str
    port: int
    username: str
    token: str

    @property
    def ws_url(self) -> str:
        """The same for WebSockets: append `/ws`."""
        return "ws" + self.url.removeprefix("http")

    def __repr__(self) -> str:
        return f"Served(url={self.url!r})"  # what a test prints when it fails must not let its reader in


class Listener:
    """One socket with all doors of a broker. Lives on the broker's loop."""

    def __init__(self, heart: Heart, front: server.Server, serving: asyncio.Task[None]) -> None:
        self._heart = heart
        self._front = front
        self._serving = serving
        self.served: Served

    @classmethod
    async def open(cls, heart: Heart, host: str, port: int) -> Listener:
        """Listen. Raises `OSError`, and `ConfigError` for an address that is not loopback: there is no TLS here."""
        heart.check_open()
        if not is_loopback(host):
            raise ConfigError(f"an embedded broker is served on loopback only, and {host} is not; run `serve`")
        sock = server.listen(host, port)
        settings = heart.settings
        front = server.Server(
            server.configured(heart.application, settings.heartbeat_ms, settings.max_message_bytes + FRAME_OVERHEAD)
        )
        serving = asyncio.create_task(front.serve(sockets=[sock]))
        listening = asyncio.create_task(front.listening.wait())
        await asyncio.wait([listening, serving], return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if serving.done():
            serving.result()
        listener = cls(heart, front, serving)
        username, token = heart.node.insider()
        number = sock.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        listener.served = Served(f"http://{shown}:{number}", number, username, token)
        heart.fronts.append(front)
        heart.on_close.append(listener.close)
        return listener

    async def close(self) -> None:
        """Close the socket and all connections: WebSockets with 4503. Again, it does nothing."""
        if self.close not in self._heart.on_close:
            return
        self._heart.on_close.remove(self.close)
        node = self._heart.node
        await node.sockets.close_all(4503, "the broker is stopping")
        await node.feed.close_all(4503, "the broker is stopping")
        self._front.should_exit = True
        await asyncio.wait([self._serving], timeout=_CLOSE_S)
