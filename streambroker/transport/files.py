"""Pages and the files that they load, as they lie in a directory. They are public: what they show is asked for with a
token."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from streambroker.core.errors import BrokerError, MethodNotAllowed, NotFound
from streambroker.transport.problems import refuse
from streambroker.transport.resource import Counters

MEDIA_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".ts": b"application/typescript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".json": b"application/json",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".woff2": b"font/woff2",
}
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
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


class Page(NamedTuple):
    """A page: its file, and the Content Security Policy that it lives under."""

    file: str
    policy: str


class FileDoor:
    """The ASGI application of `pages`, by their paths, and below `assets` of the files in `directory`.

    `assets` ends in ``/{path:path}``; `whose` is named where there is no such file. A file that was changed is read
    again, so that a checkout needs no restart. Memory is bounded by the directory.
    """

    def __init__(self, directory: Path, pages: Mapping[str, Page], assets: str, counters: Counters, whose: str) -> None:
        self._directory = directory.resolve()
        self._pages = pages
        self._assets = assets
        self._counters = counters
        self._whose = whose
        self._known: dict[str, Asset] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        path: str | None = scope["path_params"].get("path")
        policy = None
        route = self._assets.replace(":path", "")
        if path is None:
            route = scope["path"].rstrip("/")
            path, policy = self._pages[route]
        method = scope["method"] if scope["method"] in ("GET", "HEAD") else "*"
        try:
            if method == "*":
                raise MethodNotAllowed(f"{scope['method']} is not for this path; it takes GET, HEAD", "GET, HEAD")
            asset = self.asset(path)
        except BrokerError as error:
            self._counters.answered(scope, self._counters.requests.of(method, route), error.status, began)
            await refuse(scope, send, error)
            return
        unchanged = _matches(scope["streambroker.headers"].get(b"if-none-match", b""), asset.etag)
        self._counters.answered(scope, self._counters.requests.of(method, route), 304 if unchanged else 200, began)
        await _send(scope, send, asset, unchanged, _never_changes(path) is not None, policy or self._policy())

    def _policy(self) -> str:
        """Of a file that is no page of ours: what holds for the first one, or nothing at all where there are none."""
        return next((page.policy for page in self._pages.values()), _NOTHING)

    def asset(self, path: str) -> Asset:
        """The file at that path. Raises `NotFound`."""
        media_type = MEDIA_TYPES.get(Path(path).suffix) if _is_path(path) else None
        if media_type is None:
            raise self._nothing()
        file = (self._directory / path).resolve()
        try:
            if not file.is_relative_to(self._directory) or not file.is_file():
                raise self._nothing()
            about = file.stat()
            version = about.st_mtime_ns, about.st_size
            known = self._known.get(path)
            if known is None or known.version != version:
                content = file.read_bytes()
                etag = b'"%b"' % hashlib.sha256(content).hexdigest()[:32].encode()
                known = self._known[path] = Asset(version, content, etag, media_type)
        except OSError:
            raise self._nothing() from None
        return known

    def routes(self) -> list[Route]:
        """Its paths; a page is the same with a slash at the end."""
        return [Route(path, self) for page in self._pages for path in (page, f"{page}/")] + [Route(self._assets, self)]

    def _nothing(self) -> NotFound:
        return NotFound(f"{self._whose} has no such file")


def web(name: str) -> Path:
    """Where the files of ``web/<name>`` are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "web" / name
    return installed if installed.is_dir() else package.parent / "web" / name


async def _send(scope: Scope, send: Send, asset: Asset, unchanged: bool, kept: bool, policy: str) -> None:
    caching = b"public, max-age=31536000, immutable" if kept else b"no-cache"
    headers = [
        (b"x-request-id", scope["streambroker.request_id"]),
        (b"content-security-policy", policy.encode()),
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
