"""uvicorn as the broker needs it: a front that cannot be hung, the contract's close codes, signals left alone."""

from __future__ import annotations

from streambroker.transport.server.bounds import Deadlines
from streambroker.transport.server.config import ServerConfig
from streambroker.transport.server.listening import affordable, listen
from streambroker.transport.server.serving import Server, configured
from streambroker.transport.server.strangers import RECOGNIZED

__all__ = ["RECOGNIZED", "Deadlines", "Server", "ServerConfig", "affordable", "configured", "listen"]
