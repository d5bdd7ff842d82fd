"""The explorer: GraphiQL, from the broker's own files. It is public; what it shows is asked for with a token."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from streambroker.transport.files import FileDoor, Page, web
from streambroker.transport.resource import Counters

PATH = "/graphql"
ASSETS = "/graphql/assets/{path:path}"
# GraphiQL and React set styles of single elements by script, which needs no leave. While a dialog is open GraphiQL
# makes one <style> element that keeps the page behind it from scrolling; of inline styles that text alone is allowed.
_SCROLL_LOCK = "'sha256-nzTgYzXYDNe6BAHiiI7NNlfK8n/auuOAhh2t92YvuXo='"
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_SCROLL_LOCK}; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Explorer(FileDoor):
    """The ASGI application of the page and its files."""

    def __init__(self, counters: Counters) -> None:
        super().__init__(web("graphiql"), {PATH: Page("index.html", POLICY)}, ASSETS, counters, "the GraphQL explorer")


class SharedPath:
    """The ASGI application of a path that is a page for browsers, and the API's for everybody else."""

    def __init__(self, page: ASGIApp, api: ASGIApp) -> None:
        self._page = page
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["streambroker.headers"].get(b"accept", b"")
        browses = scope["method"] in ("GET", "HEAD") and b"text/html" in wanted
        await (self._page if browses else self._api)(scope, receive, send)
