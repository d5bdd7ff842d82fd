"""The OpenAPI 3.1 document, made from the very types that validate requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from streambroker import __version__
from streambroker.core import errors
from streambroker.core.names import QUEUE_NAME
from streambroker.protocol.messages import DraftIn, MessageOut
from streambroker.transport.examples import BODIES, IN_PATH
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.rawbody import OPTION_HEADERS
from streambroker.transport.schemas import BatchIn, PublishIn
from streambroker.transport.user_schemas import USERNAME

Schema = dict[str, Any]

_ERRORS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.BrokerError) and kind is not errors.BrokerError
}
_COMPONENT = "#/components/schemas/{name}"
_ANY_JSON = {"description": "Any JSON value, kept byte for byte."}
_NAMES_A_QUEUE = frozenset({"queue", "queues", "dead_letter_queue", "from"})
_PUBLISHES = (DraftIn, PublishIn, BatchIn)
# What a publish checks beyond its members, one by one.
_ONE_CONTENT: Schema = {
    "oneOf": [{"required": ["content"]}, {"required": ["content_base64"]}],
    "not": {
        "required": ["delay_ms", "available_at"],
        "properties": {"delay_ms": {"type": "integer"}, "available_at": {"type": "string"}},
    },
}
_PATH_PATTERNS = {
    "queue": QUEUE_NAME,
    "message_id": "^[0-7][0-9a-f]{15}$",
    "username": USERNAME,
    "key_id": "^[0-9a-f]{24}$",
    "consumer_id": "^[0-9a-f]{18}$",
}
# Python needs it after "$", which lets a trailing newline through there; in JSON Schema's expressions "$" is the end.
_PYTHON_ONLY = r"(?!\n)"
_TIME = re.compile(r"(?:.+_)?at").fullmatch
_ABOUT = """\
A durable message broker. Every path is also there under `/v1`.

Every error is an RFC 9457 problem document; `code` is what a program looks at. Checks are made in this order: who you \
are (401), what you may see (404, 403), the request itself (400, 415, 413, 422), the state (409, 507). A method that a \
path does not take is answered as `MethodNotAllowed` below.

Send `X-Request-ID` (1 to 128 visible ASCII characters) and it comes back on the answer; otherwise the broker makes one.

`GET /ws` and `GET /queues/{queue}/ws` speak WebSocket, which OpenAPI does not describe: see `docs/protocol.md`.
"""
_HEADERS: dict[str, Schema] = {
    "X-Request-ID": {
        "description": "The request's id: yours, or one that the broker made.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    "RateLimit": {
        "description": "What is left of the limit, and seconds until it is whole again. Absent where none counts.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The limit that counts this request. Absent where none does.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the same call may succeed.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to say who you are.",
        "required": True,
        "schema": {"type": "string", "const": "Bearer"},
    },
    "Allow": {"description": "The methods that the path takes.", "required": True, "schema": {"type": "string"}},
}
_PUBLISH_HEADERS: tuple[tuple[str, Schema, str], ...] = (
    (
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 512},
        "As `dedup_id`; both at once must be equal. On a batch it stands for the whole batch.",
    ),
    ("Traceparent", {"type": "string"}, "W3C trace context, stored with the message and handed to the consumer."),
)
_STATUS_HEADERS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
    507: ("Retry-After",),
}


def describe(endpoints: Sequence[Endpoint]) -> Endpoint:
    """The endpoint that serves the description of `endpoints`."""

    async def serve(call: Call) -> Reply:
        """The description of the API."""
        return answer

    endpoint = Endpoint("GET", "/openapi.json", serve, "This document", answers={200: dict[str, Any]}, public=True)
    answer = reply(document([*endpoints, endpoint]))
    return endpoint


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `endpoints`: each operation with all it takes and every code it can answer."""
    by_type, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    problems = _Problems()
    problems.of([errors.MethodNotAllowed.code])
    for endpoint in endpoints:
        operation = _Operation(endpoint, by_type, components, problems).described()
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "streambroker",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}, {"url": "/v1", "description": "The same, under the version's name."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": _HEADERS,
            "responses": problems.responses,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An access token or an API key."}
            },
        },
    }
    _refine(described)
    return described


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """The schemas of all that goes in and out, by type, and the components that they refer to, by name."""
    types: list[Any] = [errors.Problem, MessageOut]
    types += [t for e in endpoints for t in (e.body, e.query, *e.answers.values()) if t is not None and t is not str]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_hook, ref_template=_COMPONENT)
    for type_ in types:
        if isinstance(type_, type) and type_ in BODIES:
            components[type_.__name__]["examples"] = [BODIES[type_]]
    for type_ in {DraftIn, PublishIn} & set(types):
        components[type_.__name__] |= _ONE_CONTENT
    return {_key(type_): schema for type_, schema in zip(types, schemas, strict=True)}, components


class _Problems:
    """The answers to errors, each described once: `responses` by the names of their codes."""

    def __init__(self) -> None:
        self.responses: Schema = {}

    def of(self, codes: Iterable[str]) -> Schema:
        """References to the answers with these codes, by status."""
        by_status: dict[int, list[type[errors.BrokerError]]] = {}
        for code in dict.fromkeys(codes):
            by_status.setdefault(_ERRORS[code].status, []).append(_ERRORS[code])
        return {str(status): self._reference(status, kinds) for status, kinds in sorted(by_status.items())}

    def _reference(self, status: int, kinds: Sequence[type[errors.BrokerError]]) -> Schema:
        name = "Or".join(sorted(kind.__name__ for kind in kinds))
        self.responses.setdefault(name, _problem(status, sorted(kinds, key=lambda kind: kind.__name__)))
        return {"$ref": f"#/components/responses/{name}"}


class _Operation:
    """The description of one endpoint."""

    def __init__(
        self, endpoint: Endpoint, by_type: dict[str, Schema], components: dict[str, Schema], problems: _Problems
    ) -> None:
        self._endpoint = endpoint
        self._by_type = by_type
        self._components = components
        self._problems = problems
        self._in_path: list[str] = re.findall(r"{(\w+)}", endpoint.path)

    def described(self) -> dict[str, Any]:
        """The Operation Object."""
        endpoint = self._endpoint
        operation: dict[str, Any] = {
            "operationId": f"{endpoint.method.lower()}_{re.sub(r'[^a-z]+', '_', endpoint.path.lower()).strip('_')}",
            "summary": endpoint.summary,
            "description": _prose(endpoint.handler.__doc__ or endpoint.summary),
            "responses": self._responses(),
        }
        if endpoint.public:
            operation["security"] = []
        if parameters := [*self._path_parameters(), *self._query_parameters(), *self._header_parameters()]:
            operation["parameters"] = parameters
        if endpoint.body is not None:
            operation["requestBody"] = self._body()
        return operation

    def _path_parameters(self) -> list[Schema]:
        return [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": _PATH_PATTERNS.get(name, "^[^/]+$")},
                **({"example": IN_PATH[name]} if name in IN_PATH else {}),
            }
            for name in self._in_path
        ]

    def _query_parameters(self) -> list[Schema]:
        if self._endpoint.query is None:
            return []
        schema = self._components[self._endpoint.query.__name__]
        return [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": _not_null(part)}
            for name, part in schema["properties"].items()
        ]

    def _header_parameters(self) -> list[Schema]:
        if self._endpoint.body not in _PUBLISHES:
            return []
        found = [
            {"name": name, "in": "header", "required": False, "schema": schema, "description": description}
            for name, schema, description in _PUBLISH_HEADERS
        ]
        return found + self._raw_options() if self._endpoint.raw else found

    def _raw_options(self) -> list[Schema]:
        """The headers that stand for the members of a JSON body where the body is raw."""
        members = self._components[DraftIn.__name__]["properties"]
        found = []
        for header in OPTION_HEADERS:
            name = header.decode()
            member = name.removeprefix("x-message-").replace("-", "_")
            schema = _not_null(members[member])
            if member == "headers":
                schema = {"type": "string", "contentMediaType": "application/json"}
            about = f"`{member}` of a body of raw bytes. Not looked at where the body is JSON."
            found.append(
                {"name": name.title(), "in": "header", "required": False, "schema": schema, "description": about}
            )
        return found

    def _body(self) -> Schema:
        endpoint = self._endpoint
        content: Schema = {"application/json": {"schema": self._by_type[_key(endpoint.body)]}}
        if endpoint.raw:
            content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        schema = self._components.get(endpoint.body.__name__, {})
        required = bool(schema.get("required")) or endpoint.raw or endpoint.method == "PATCH"
        return {"required": required, "content": content}

    def _responses(self) -> Schema:
        responses: Schema = {}
        for status, answer in self._endpoint.answers.items():
            responses[str(status)] = {"description": HTTPStatus(status).phrase, "headers": _headers(status)}
            if answer is str:
                responses[str(status)]["content"] = {"text/plain": {"schema": {"type": "string"}}}
            elif answer is not None:
                responses[str(status)]["content"] = {"application/json": {"schema": self._by_type[_key(answer)]}}
        return {**responses, **self._problems.of(self._codes())}

    def _codes(self) -> Iterable[str]:
        """Every code that the operation can answer; where a check belongs to a kind of request, it is told here."""
        endpoint = self._endpoint
        yield "malformed"  # a foreign Host, a token in the URL
        yield from endpoint.codes
        if endpoint.limit is not None:
            yield "rate_limited"
        if not endpoint.public:
            yield "unauthenticated"
            yield "forbidden"
        if self._in_path or _NAMES_A_QUEUE & set(self._members(endpoint.body)):
            yield "not_found"
        if endpoint.body is not None:
            yield "too_large"
            yield "unsupported_media_type"
        if endpoint.body is not None or endpoint.query is not None or {"queue", "username"} & set(self._in_path):
            yield "invalid"
        yield "internal"
        yield "overloaded"

    def _members(self, type_: Any) -> Iterable[str]:
        return list(self._components.get(getattr(type_, "__name__", ""), {}).get("properties", {}))


def _problem(status: int, kinds: Sequence[type[errors.BrokerError]]) -> Schema:
    schema = {
        "allOf": [
            {"$ref": _COMPONENT.format(name=errors.Problem.__name__)},
            {"properties": {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}},
        ]
    }
    return {
        "description": "\n".join(f"- `{kind.code}`: {_prose(kind.__doc__ or '')}" for kind in kinds),
        "headers": _headers(status),
        "content": {"application/problem+json": {"schema": schema}},
    }


def _headers(status: int) -> Schema:
    names = ("X-Request-ID", "RateLimit", "RateLimit-Policy", *_STATUS_HEADERS.get(status, ()))
    headers: Schema = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    if status == errors.RateLimited.status:
        headers["Retry-After"] = {**_HEADERS["Retry-After"], "required": True}
    return headers


def _refine(node: Any) -> None:
    """Say in JSON Schema's own words what the types say in Python's, all over the document."""
    if isinstance(node, dict):
        if isinstance(pattern := node.get("pattern"), str):
            node["pattern"] = pattern.removesuffix(_PYTHON_ONLY)
        if isinstance(properties := node.get("properties"), dict):
            _refine_times(properties)
        for part in node.values():
            _refine(part)
    elif isinstance(node, list):
        for part in node:
            _refine(part)


def _refine_times(properties: Schema) -> None:
    for name, part in properties.items():
        if _TIME(name):
            for option in (part, *part.get("anyOf", ())):
                if option.get("type") == "string":
                    option["format"] = "date-time"


def _not_null(schema: Schema) -> Schema:
    """A query parameter is there or not; there is no null in a URL."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if not options:
        return schema
    rest = {name: part for name, part in schema.items() if name != "anyOf" and (name, part) != ("default", None)}
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}


def _prose(text: str) -> str:
    """A docstring as a paragraph."""
    return re.sub(r"\s*\n\s*", " ", text.strip()).replace("``", "`")


def _hook(type_: Any) -> dict[str, Any]:
    if type_ is msgspec.Raw:
        return dict(_ANY_JSON)
    raise NotImplementedError(type_)


def _key(type_: Any) -> str:
    return repr(type_)
