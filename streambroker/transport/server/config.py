"""uvicorn's settings, and what the protocols share."""

from __future__ import annotations

from uvicorn.config import Config

from streambroker.transport.server.strangers import Strangers
from streambroker.transport.server.watch import Watch


class ServerConfig(Config):
    """What uvicorn hands to each protocol that it makes. TLS times in seconds, None without TLS."""

    watch: Watch
    strangers: Strangers
    tls_handshake_s: float | None = None
    tls_shutdown_s: float | None = None
