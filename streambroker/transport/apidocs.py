"""The doors to the API's descriptions, and to the pages that show them. All are public, as the contract has it.

`/openapi.json` and `/asyncapi.json` are made once, when the first asks: until then they would cost every start a tenth
of its time. `/docs` is Swagger UI, `/redoc` Redoc; both are served
from the broker's own files and load nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from streambroker.transport.files import FileDoor, Page, web
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.resource import Counters

ASSETS = "/apidocs/{path:path}"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {styles}; connect-src 'self'; img-src 'self' data:; "
    "font-src {fonts}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI sets the styles of single elements by script, which needs no leave.
SWAGGER_POLICY = _POLICY.format(styles="'self'", fonts="'none'")
# Redoc makes <style> elements that are empty and fills them by script, which needs none either: what is allowed is the
# hash of the empty text, so that no text at all can be a style. One font is in its code.
_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
REDOC_POLICY = _POLICY.format(styles=f"'self' {_EMPTY}", fonts="data:")
PAGES = {
    "/docs": Page("docs.html", SWAGGER_POLICY),
    "/redoc": Page("redoc.html", REDOC_POLICY),
    "/redoc/asyncapi": Page("asyncapi.html", REDOC_POLICY),
}


class ApiDocsDoor(FileDoor):
    """The ASGI application of the pages and the files below `directory`."""

    def __init__(self, counters: Counters, directory: Path | None = None) -> None:
        super().__init__(directory or web("apidocs"), PAGES, ASSETS, counters, "the description of the API")


def describe(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints that serve the descriptions of `endpoints`, and of themselves."""

    async def serve_openapi(call: Call) -> Reply:
        """What this API takes and answers, in OpenAPI 3.1."""
        return await asyncio.to_thread(of_requests)

    async def serve_asyncapi(call: Call) -> Reply:
        """The frames of the WebSocket and the streams of events, in AsyncAPI 3.0."""
        return await asyncio.to_thread(of_streams)

    answers = {200: dict[str, Any]}
    own = [
        Endpoint("GET", "/openapi.json", serve_openapi, "This document", answers=answers, public=True),
        Endpoint("GET", "/asyncapi.json", serve_asyncapi, "Its twin for what goes on", answers=answers, public=True),
    ]

    @cache
    def of_requests() -> Reply:
        from streambroker.transport import openapi

        return reply(openapi.document([*endpoints, *own]))

    @cache
    def of_streams() -> Reply:
        from streambroker.transport import asyncapi

        return reply(asyncapi.document(endpoints))

    return own
