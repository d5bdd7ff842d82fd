"""Paths lead where Starlette's router leads them, also where that takes fewer steps."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from streambroker.transport.routes import Paths

_WHERE: list[tuple[str, Any]] = []


class Door:
    """Writes down that it was reached."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _WHERE.append((self.name, scope.get("path_params", {})))


ROUTES: list[BaseRoute] = [
    Route("/queues/{queue}/messages", Door("messages")),
    Route("/queues/all", Door("all")),
    WebSocketRoute("/queues/{queue}", Door("socket")),
    Route("/queues/{queue}", Door("queue")),
    Route("/files/{path:path}", Door("files")),
    Route("/only", Door("only"), methods=["GET"]),
    Route("/pages/{number:int}", Door("page")),
    Mount("/below", Door("below")),
    Route("/{anything}", Door("anything")),
]
PATHS = ("/queues/a/messages", "/queues/all", "/queues/b", "/queues/", "/files/a/b.js", "/only", "/pages/7", "/pages/x")


async def nothing(*_: Any) -> Any:
    raise AssertionError


async def reached(app: Any, kind: str, path: str, root: str = "") -> list[tuple[str, Any]]:
    _WHERE.clear()
    scope = {"type": kind, "method": "GET", "path": root + path, "root_path": root, "headers": []}
    await app(scope, nothing, nothing)
    return list(_WHERE)


@pytest.mark.parametrize("path", [*PATHS, "/below/x", "/something", "/a/b", ""])
@pytest.mark.parametrize(("kind", "root"), [("http", ""), ("http", "/root"), ("websocket", "")])
async def test_every_path_leads_where_starlette_leads_it(kind: str, root: str, path: str) -> None:
    there_is_none = Door("none")
    ours = Paths(ROUTES, there_is_none)
    theirs = Router(ROUTES, default=there_is_none, redirect_slashes=False)
    expected = await reached(theirs, kind, path, root)
    assert expected
    assert await reached(ours, kind, path, root) == expected
