"""Every answer and every frame against the broker's own description: nothing that it does not tell may be seen.

What is looked at: the status, the headers (those that must be there, and that no other is), the media type, and the
body, in which a member that the schema does not have is a fault. Of a message its content is left out: it is whatever
somebody published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import jsonschema_rs
import pytest

Document = dict[str, Any]

# Of HTTP itself, of every answer, or of one to a page of another site.
ALWAYS = {
    *("content-type", "content-length", "date", "server", "connection", "transfer-encoding", "vary"),
    *("cache-control", "x-content-type-options", "access-control-allow-origin", "access-control-expose-headers"),
}
# What is served beside the API.
PAGES = ("/dashboard", "/docs", "/redoc", "/apidocs", "/sdk")
# A path that there is not is answered like one that one may not see; any request may be refused before it is looked at.
ANY_PATH = {400, 401, 404, 405, 408, 413, 414, 429, 431, 503}


class Undescribed(AssertionError):
    """An answer or a frame that is not what the description says."""


class Description:
    """What a broker says of itself, ready to be compared with. Schemas are compiled when they are first needed."""

    def __init__(self, openapi: Document, asyncapi: Document) -> None:
        self._openapi = openapi
        self._schemas = {name: _closed(schema) for name, schema in openapi["components"]["schemas"].items()}
        # Fixed segments go before parameters where both would match.
        templates = sorted(openapi["paths"], key=lambda path: (path.count("{"), path))
        self._templates = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), path) for path in templates]
        self._compiled: dict[tuple[str, ...], jsonschema_rs.Draft202012Validator] = {}
        self._frames = {
            name: _compiled(message["payload"], asyncapi["components"]["schemas"])
            for name, message in asyncapi["components"]["messages"].items()
        }
        self._server_ops = {
            reference["$ref"].rsplit("/", 1)[1]
            for operation in asyncapi["operations"].values()
            for reference in (
                *operation.get("reply", {}).get("messages", ()),
                *(operation["messages"] if operation["action"] == "send" else ()),
            )
        }

    # -- answers

    def check(self, response: httpx.Response) -> None:
        """Raise `Undescribed` where an answer is not as described."""
        request = response.request
        upgraded = response.status_code == 101
        if upgraded or "x-request-id" not in response.headers or request.method == "OPTIONS":
            return
        if b"nothing here but GET /metrics" in (response.content if response.is_closed else b""):
            return  # the port that has only that
        path = request.url.raw_path.split(b"?")[0].decode("ascii").removeprefix("/v1")
        template = next((template for shape, template in self._templates if shape.fullmatch(path)), None)
        method = "get" if request.method == "HEAD" else request.method.lower()
        if template is None or method not in self._openapi["paths"][template]:
            if not path.startswith(PAGES) and response.status_code not in ANY_PATH:
                raise Undescribed(
                    f"{request.method} {path}: {response.status_code}, and no such operation is described"
                )
            return
        self._check(response, (template, method, str(response.status_code)))

    def _check(self, response: httpx.Response, place: tuple[str, str, str]) -> None:
        template, method, status = place
        told = self._openapi["paths"][template][method]["responses"].get(status)
        if told is None and response.status_code in (405, 408, 414, 431):
            return  # of no operation
        if told is None:
            raise Undescribed(f"{method.upper()} {template}: {status} is not described: {response.text[:500]}")
        answer = self._resolved(told)
        self._check_headers(response, answer, place)
        if response.request.method != "HEAD" and response.is_closed:
            self._check_body(response, answer, place)

    def _check_headers(self, response: httpx.Response, answer: Document, place: tuple[str, ...]) -> None:
        headers = {name.lower(): self._resolved(header) for name, header in answer.get("headers", {}).items()}
        missing = [name for name, header in headers.items() if header.get("required") and name not in response.headers]
        if missing:
            raise Undescribed(f"{place}: without {missing}")
        for name, value in response.headers.items():
            if name in headers:
                schema = headers[name]["schema"]
                given: Any = int(value) if schema["type"] == "integer" else value
                self._compare(given, schema, (*place, "header", name))
            elif name not in ALWAYS:
                raise Undescribed(f"{place}: the header {name} is not described")

    def _check_body(self, response: httpx.Response, answer: Document, place: tuple[str, ...]) -> None:
        content = answer.get("content")
        if content is None:
            if response.content:
                raise Undescribed(f"{place}: a body, and none is described")
            return
        media = response.headers["content-type"].partition(";")[0].strip()
        if media not in content:
            raise Undescribed(f"{place}: {media} is not described")
        if media.endswith("json"):
            try:
                body = json.loads(response.content)
            except (RecursionError, ValueError):  # content that only a raw reader can take
                return
            self._compare(_bare(body), content[media]["schema"], (*place, media))

    def _compare(self, value: Any, schema: Document, place: tuple[str, ...]) -> None:
        validator = self._compiled.get(place)
        if validator is None:
            validator = self._compiled[place] = _compiled(schema, self._schemas)
        _judge(validator, value, str(place))

    def _resolved(self, node: Document) -> Document:
        if "$ref" in node:
            kind, name = node["$ref"].rsplit("/", 2)[1:]
            found: Document = self._openapi["components"][kind][name]
            return found
        return node

    # -- frames

    def check_frame(self, frame: Any) -> None:
        """Raise `Undescribed` where a frame of the broker's is not as described."""
        op = frame.get("op") if isinstance(frame, dict) else None
        if op not in self._server_ops:
            raise Undescribed(f"no such frame is described: {str(frame)[:500]}")
        _judge(self._frames[op], _bare(frame), f"the frame {op}")


# What the sockets of this folder compare with; None outside of it.
described: Description | None = None


@contextmanager
def watching(description: Description) -> Iterator[None]:
    """Compare every answer that an HTTP client gets, and every frame that a `sockets.Socket` gets, meanwhile."""
    global described
    described = description
    send, asend = httpx.Client.send, httpx.AsyncClient.send

    def checked(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = send(self, request, **options)
        description.check(response)
        return response

    async def achecked(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await asend(self, request, **options)
        description.check(response)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", checked)
        patch.setattr(httpx.AsyncClient, "send", achecked)
        yield
    described = None


def _compiled(schema: Document, components: Document) -> jsonschema_rs.Draft202012Validator:
    closed = {name: _closed(part) for name, part in components.items()}
    return jsonschema_rs.Draft202012Validator({**schema, "components": {"schemas": closed}}, validate_formats=True)


def _judge(validator: jsonschema_rs.Draft202012Validator, value: Any, place: str) -> None:
    try:
        faults = [f"{'/'.join(map(str, e.instance_path))}: {e.message}"[:500] for e in validator.iter_errors(value)]
    except ValueError:  # deeper, or a larger number, than it takes
        return
    if faults:
        raise Undescribed(f"{place}: {faults}\n{str(value)[:1000]}")


def _closed(schema: Document) -> Document:
    """The same, with no members but those that are described."""
    return {"additionalProperties": False, **schema} if "properties" in schema else schema


def _bare(value: Any) -> Any:
    """Without the contents of messages."""
    match value:
        case {"message_id": _, "content": _}:
            return {**value, "content": None}
        case {"messages": list(messages)}:
            return {**value, "messages": [_bare(message) for message in messages]}
        case {"items": list(items)}:
            return {**value, "items": [_bare(item) for item in items]}
        case _:
            return value
