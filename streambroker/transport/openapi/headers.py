"""The headers of requests and answers, in the words of OpenAPI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streambroker.transport.rawbody import OPTION_HEADERS

Schema = dict[str, Any]

REQUEST_ID = "RequestId"
PARAMETERS: dict[str, Schema] = {
    REQUEST_ID: {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "description": "A name for this request: 1 to 128 visible ASCII characters, else the broker makes one. It "
        "comes back on the answer, and stands in the `instance` of a problem and in the broker's log.",
        "schema": {"type": "string"},
        "example": "order-4711",
    }
}
"""Headers that every request may carry, by the names of their components."""

HEADERS: dict[str, Schema] = {
    "X-Request-ID": {
        "description": "The request's id: yours, or one that the broker made.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
        "example": "order-4711",
    },
    "RateLimit": {
        "description": "What is left of the limit, and seconds until it is whole again. Absent where none counts.",
        "schema": {"type": "string"},
        "example": '"messages";r=599999;t=60',
    },
    "RateLimit-Policy": {
        "description": "The limit that counts this request. Absent where none does.",
        "schema": {"type": "string"},
        "example": '"messages";q=600000;w=60',
    },
    "Retry-After": {
        "description": "Seconds to wait before the same call may succeed.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
    "WWW-Authenticate": {
        "description": "How to say who you are.",
        "required": True,
        "schema": {"type": "string", "const": "Bearer"},
        "example": "Bearer",
    },
    "Allow": {
        "description": "The methods that the path takes.",
        "required": True,
        "schema": {"type": "string"},
        "example": "GET, HEAD, POST",
    },
}
"""Headers of answers, by their names."""

_PUBLISH: tuple[tuple[str, Schema, str, str], ...] = (
    (
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 512},
        "As `dedup_id`; both at once must be equal. On a batch it stands for the whole batch.",
        "order-4711",
    ),
    (
        "Traceparent",
        {"type": "string"},
        "W3C trace context, stored with the message and handed to the consumer.",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
)
_STATUS_HEADERS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
    507: ("Retry-After",),
}
_RATE_LIMITED = 429


def answer_headers(status: int) -> Schema:
    """The headers of an answer with that status."""
    names = ("X-Request-ID", "RateLimit", "RateLimit-Policy", *_STATUS_HEADERS.get(status, ()))
    headers: Schema = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    if status == _RATE_LIMITED:
        headers["Retry-After"] = {**HEADERS["Retry-After"], "required": True}
    return headers


def publish_parameters() -> list[Schema]:
    """The headers that a publish looks at."""
    return [
        {"name": name, "in": "header", "required": False, "schema": schema, "description": text, "example": example}
        for name, schema, text, example in _PUBLISH
    ]


def raw_options(members: Schema) -> Iterable[Schema]:
    """The headers that stand for the `members` of a JSON body where the body is raw."""
    for header in OPTION_HEADERS:
        name = header.decode()
        member = name.removeprefix("x-message-").replace("-", "_")
        schema = not_null(members[member])
        about = f"`{member}` of a body of raw bytes. Not looked at where the body is JSON."
        if member == "headers":
            schema = {"type": "string", "contentMediaType": "application/json"}
        elif schema.get("format") == "date-time":  # for which generators of clients have no form in a header
            schema, about = {"type": "string"}, f"{about} A time (RFC 3339)."
        yield {"name": name.title(), "in": "header", "required": False, "schema": schema, "description": about}


def not_null(schema: Schema) -> Schema:
    """A parameter is there or not; there is no null in a URL or a header."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if not options:
        return schema
    rest = {name: part for name, part in schema.items() if name != "anyOf" and (name, part) != ("default", None)}
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}
