"""Paths to applications, for Starlette's router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.routing import BaseRoute, Route, WebSocketRoute

WEBSOCKET_PATHS = ("/ws", "/queues/{queue}/ws")


def routes(resources: Mapping[str, Any], websocket: Any) -> list[BaseRoute]:
    """One route for each path; fixed segments go before parameters where both would match."""
    found: list[BaseRoute] = [Route(path, resource) for path, resource in resources.items()]
    return [*found, *(WebSocketRoute(path, websocket) for path in WEBSOCKET_PATHS)]
