"""Paths lead where Starlette's router leads them, also where that takes fewer steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from streambroker.transport.routes import Paths, routes

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


_SEGMENT = st.sampled_from(
    ["", "queues", "all", "files", "only", "pages", "7", "below", "a.b", "\n", "a\n", "%2F", ".."]
)


@given(segments=st.lists(_SEGMENT, max_size=5))
async def test_whatever_the_path_it_leads_where_starlette_leads_it(segments: list[str]) -> None:
    there_is_none, path = Door("none"), "/" + "/".join(segments)
    theirs = Router(ROUTES, default=there_is_none, redirect_slashes=False)
    assert await reached(Paths(ROUTES, there_is_none), "http", path) == await reached(theirs, "http", path)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_path_with_a_line_break_at_its_end_is_another_path(kind: str) -> None:
    paths = Paths(routes({"/metrics": Door("metrics"), "/queues/{queue}": Door("queue")}, Door("ws")), Door("none"))
    expected = {"/metrics": "metrics", "/queues/q": "queue"} if kind == "http" else {"/ws": "ws", "/queues/q/ws": "ws"}
    for path, name in expected.items():
        assert [where for where, _ in await reached(paths, kind, path)] == [name]
    for path in ("/metrics\n", "/ws\n"):
        assert [where for where, _ in await reached(paths, kind, path)] == ["none"]
