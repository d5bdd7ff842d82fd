"""The WebSocket door: `door` lets clients in, `connection` converses with one of them."""

from __future__ import annotations

from streambroker.transport.websocket.door import Sockets, WebSocketDoor

__all__ = ["Sockets", "WebSocketDoor"]
