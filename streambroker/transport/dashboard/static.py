"""The dashboard's files: one page, and what it loads. They are public; what they show is asked for with a token."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import NamedTuple

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from streambroker.core.errors import BrokerError, MethodNotAllowed, NotFound
from streambroker.transport.problems import refuse
from streambroker.transport.resource import Counters

PAGE = "index.html"
ASSETS = "/dashboard/assets/{path:path}"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_MEDIA_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".json": b"application/json",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".woff2": b"font/woff2",
}
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# Neither up, nor hidden files: no part begins with a dot.
_is_path = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,99}/){0,5}[A-Za-z0-9_][A-Za-z0-9._-]{0,99}").fullmatch
# Only a name that changes with what is in the file can be kept for ever.
_never_changes = re.compile(r"vendor/(?:.*/)?[^/]*(?:\d+\.\d+|[0-9a-f]{8})[^/]*").fullmatch


class Asset(NamedTuple):
    """A file as it is sent; `version` tells whether it is still that on the disk."""

    version: tuple[int, int]
    content: bytes
    etag: bytes
    media_type: bytes


class StaticDoor:
    """The ASGI application of the page and the files below `directory`.

    A file that was changed is read again, so that a checkout needs no restart. Memory is bounded by the directory.
    """

    def __init__(self, directory: Path, counters: Counters) -> None:
        self._directory = directory.resolve()
        self._counters = counters
        self._known: dict[str, Asset] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        given: str | None = scope["path_params"].get("path")
        route = "/dashboard" if given is None else ASSETS.replace(":path", "")
        method = scope["method"] if scope["method"] in ("GET", "HEAD") else "*"
        try:
            if method == "*":
                raise MethodNotAllowed(f"{scope['method']} is not for this path; it takes GET, HEAD", "GET, HEAD")
            path = PAGE if given is None else given
            asset = self.asset(path)
        except BrokerError as error:
            self._counters.answered(scope, method, route, error.status, began)
            await refuse(scope, send, error)
            return
        unchanged = _matches(scope["streambroker.headers"].get(b"if-none-match", b""), asset.etag)
        self._counters.answered(scope, method, route, 304 if unchanged else 200, began)
        await _send(scope, send, asset, unchanged, kept=_never_changes(path) is not None)

    def asset(self, path: str) -> Asset:
        """The file at that path. Raises `NotFound`."""
        media_type = _MEDIA_TYPES.get(Path(path).suffix) if _is_path(path) else None
        if media_type is None:
            raise _nothing()
        file = (self._directory / path).resolve()
        try:
            if not file.is_relative_to(self._directory) or not file.is_file():
                raise _nothing()
            about = file.stat()
            version = about.st_mtime_ns, about.st_size
            known = self._known.get(path)
            if known is None or known.version != version:
                content = file.read_bytes()
                etag = b'"%b"' % hashlib.sha256(content).hexdigest()[:32].encode()
                known = self._known[path] = Asset(version, content, etag, media_type)
        except OSError:
            raise _nothing() from None
        return known

    def routes(self) -> list[Route]:
        """Its paths; the page is the same with a slash at the end."""
        return [Route(path, self) for path in ("/dashboard", "/dashboard/", ASSETS)]


def directory() -> Path:
    """Where the files are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    installed = package / "web" / "dashboard"
    return installed if installed.is_dir() else package.parent / "web" / "dashboard"


async def _send(scope: Scope, send: Send, asset: Asset, unchanged: bool, kept: bool) -> None:
    caching = b"public, max-age=31536000, immutable" if kept else b"no-cache"
    headers = [
        (b"x-request-id", scope["streambroker.request_id"]),
        *_HEADERS,
        (b"cache-control", caching),
        (b"etag", asset.etag),
    ]
    if not unchanged:
        headers += [(b"content-type", asset.media_type), (b"content-length", b"%d" % len(asset.content))]
    body = b"" if unchanged or scope["method"] == "HEAD" else asset.content
    await send({"type": "http.response.start", "status": 304 if unchanged else 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _matches(given: bytes, etag: bytes) -> bool:
    """If-None-Match against the file's tag (RFC 9110, section 13.1.2: weakly)."""
    return given.strip() == b"*" or etag in (tag.strip().removeprefix(b"W/") for tag in given.split(b","))


def _nothing() -> NotFound:
    return NotFound("the dashboard has no such file")
