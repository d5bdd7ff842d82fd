"""Paths to applications, for Starlette's router."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from re import Match
from typing import Any

from starlette.convertors import PathConvertor, StringConvertor
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

WEBSOCKET_PATHS = ("/ws", "/queues/{queue}/ws")


def routes(resources: Mapping[str, Any], websocket: Any) -> list[BaseRoute]:
    """One route for each path; fixed segments go before parameters where both would match."""
    found: list[Route | WebSocketRoute] = [Route(path, resource) for path, resource in resources.items()]
    found += [WebSocketRoute(path, websocket) for path in WEBSOCKET_PATHS]
    for route in found:
        # Starlette ends its patterns with `$`, which a line break may follow: `/metrics%0A` would be `/metrics`, and go
        # past a proxy that keeps the one from outsiders.
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")
    return list(found)


class Paths:
    """Starlette's router over `routes`, with the same answers; `default` serves the paths that there are not.

    A route that takes any method and whose parameters are text, as nearly all of ours are, is found without what
    Starlette does for the others: three coroutines and a copy of the scope's additions on each request.
    """

    def __init__(self, routes: Sequence[BaseRoute], default: ASGIApp) -> None:
        self._router = Router(routes, default=default, redirect_slashes=False)
        self._plain = _plain(routes)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and not scope.get("root_path"):
            path = scope["path"]
            for match, app in self._plain:
                if (found := match(path)) is not None:
                    scope["path_params"] = found.groupdict()
                    return app(scope, receive, send)
        return self._router(scope, receive, send)


def _plain(routes: Sequence[BaseRoute]) -> list[tuple[Callable[[str], Match[str] | None], ASGIApp]]:
    """Those of the first routes that need nothing else, up to one that does: what comes first counts."""
    found: list[tuple[Callable[[str], Match[str] | None], ASGIApp]] = []
    for route in routes:
        if isinstance(route, WebSocketRoute):
            continue  # is not asked for HTTP
        if type(route) is not Route or route.methods is not None or not _is_text(route):
            break
        found.append((route.path_regex.match, route.app))
    return found


def _is_text(route: Route) -> bool:
    return all(isinstance(one, StringConvertor | PathConvertor) for one in route.param_convertors.values())
