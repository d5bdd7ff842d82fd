"""The description of one endpoint: all that it takes, and every answer that it can give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from streambroker.core.names import QUEUE_NAME
from streambroker.protocol.messages import DraftIn
from streambroker.transport.examples import ANSWERS, FIELDS, IN_PATH, IN_QUERY, PATH_PARAMETERS, TEXTS
from streambroker.transport.http import Endpoint
from streambroker.transport.openapi import headers
from streambroker.transport.openapi.problems import Problems, prose
from streambroker.transport.openapi.sampling import sample
from streambroker.transport.openapi.schemas import Schemas, members_of
from streambroker.transport.schemas import BatchIn, PublishIn
from streambroker.transport.user_schemas import USERNAME

Schema = dict[str, Any]

EVENT_STREAM = "text/event-stream"
_NAMES_A_QUEUE = frozenset({"queue", "queues", "dead_letter_queue", "from"})
_PUBLISHES = (DraftIn, PublishIn, BatchIn)
_PATH_PATTERNS = {
    "queue": QUEUE_NAME.removesuffix(r"(?!\n)"),
    "message_id": "^[0-7][0-9a-f]{15}$",
    "username": USERNAME.removesuffix(r"(?!\n)"),
    "key_id": "^[0-9a-f]{24}$",
    "consumer_id": "^[0-9a-f]{18}$",
    "webhook_id": "^[0-9a-f]{24}$",
    "delivery_id": "^(?:[0-9a-f]{24}|[0-7][0-9a-f]{15})$",
}
_SESSION = {"bearer": list[str]()}
# By media types and security schemes: OpenAPI has parameters of these names ignored.
_TOLD_ELSEWHERE = ("accept", "authorization", "content-type")


class Operation:
    """The description of one endpoint, under the heading `tag` and named `name`."""

    def __init__(self, endpoint: Endpoint, tag: str, name: str, schemas: Schemas, problems: Problems) -> None:
        self._endpoint = endpoint
        self._label = f"{endpoint.method} {endpoint.path}"
        self._tag, self._name = tag, name
        self._schemas = schemas
        self._problems = problems
        self._in_path: list[str] = re.findall(r"{(\w+)}", endpoint.path)

    def described(self) -> Schema:
        """The Operation Object."""
        endpoint = self._endpoint
        operation: Schema = {
            "operationId": self._name,
            "tags": [self._tag],
            "summary": endpoint.summary,
            "description": prose(endpoint.handler.__doc__ or endpoint.summary),
            "parameters": self._parameters(),
            "responses": self._responses(),
        }
        if endpoint.public:
            operation["security"] = []
        elif endpoint.session:
            operation["security"] = [_SESSION]
        if endpoint.body is not None or endpoint.takes:
            operation["requestBody"] = self._body()
        return operation

    # -- what it takes -------------------------------------------------------------------------------------------------

    def _parameters(self) -> list[Schema]:
        return [
            *self._path_parameters(),
            *self._query_parameters(),
            *self._header_parameters(),
            {"$ref": f"#/components/parameters/{headers.REQUEST_ID}"},
        ]

    def _path_parameters(self) -> list[Schema]:
        return [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": PATH_PARAMETERS.get(name, name.replace("_", " ").capitalize()),
                "schema": {"type": "string", "pattern": _PATH_PATTERNS.get(name, "^[^/]+$")},
                **({"example": IN_PATH[name]} if name in IN_PATH else {}),
            }
            for name in self._in_path
        ]

    def _query_parameters(self) -> list[Schema]:
        if self._endpoint.query is None:
            return []
        members, required = members_of(self._endpoint.query)
        return [
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "description": IN_QUERY.get(name, name.replace("_", " ").capitalize() + "."),
                "schema": headers.not_null(part),
            }
            for name, part in members.items()
        ]

    def _header_parameters(self) -> list[Schema]:
        found = [
            {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in self._endpoint.headers.items()
            if name.lower() not in _TOLD_ELSEWHERE
        ]
        if self._endpoint.body in _PUBLISHES:
            found += headers.publish_parameters()
        if self._endpoint.raw:
            found += headers.raw_options(self._schemas.components[DraftIn.__name__]["properties"])
        return found

    def _body(self) -> Schema:
        endpoint = self._endpoint
        content: Schema = {}
        if endpoint.body is not None:
            content["application/json"] = self._media(self._schemas.of(endpoint.body), endpoint.body)
        if endpoint.raw:
            content["application/octet-stream"] = {
                "schema": {"type": "string", "format": "binary", "description": "The content itself, any media type."},
                "example": "any bytes",
            }
        content |= {media: self._held(media, type_) for media, type_ in endpoint.takes.items()}
        required = bool(self._members(endpoint.body, "required")) or endpoint.raw or endpoint.method == "PATCH"
        return {"required": required, "content": content}

    # -- what it answers -----------------------------------------------------------------------------------------------

    def _responses(self) -> Schema:
        answers = {str(status): self._answer(status, type_) for status, type_ in self._endpoint.answers.items()}
        return {**answers, **self._problems.of(self._codes())}

    def _answer(self, status: int, type_: Any) -> Schema:
        told = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in self._endpoint.answer_headers.items()
            if name != "Location" or status == HTTPStatus.CREATED
        }
        answer: Schema = {
            "description": HTTPStatus(status).phrase,
            "headers": {**headers.answer_headers(status), **told},
        }
        content: Schema = {}
        if type_ is str:
            media = self._endpoint.media or "text/plain"
            content[media] = self._held(media, str)
        elif type_ is not None:
            content["application/json"] = self._media(self._schemas.of(type_), type_, status)
        if type_ is not None:
            content |= {media: self._held(media, held) for media, held in self._endpoint.gives.items()}
        if content:
            answer["content"] = content
        return answer

    def _held(self, media: str, type_: Any) -> Schema:
        """A body of another media type than JSON's."""
        if media == EVENT_STREAM:
            return {"schema": self._event(), "example": ANSWERS.get(f"{self._label} event", {"data": "{}"})}
        if type_ is str or type_ is bytes:
            schema: Schema = {"type": "string"} if type_ is str else {"type": "string", "format": "binary"}
            return {"schema": schema, "example": TEXTS.get(f"{self._label} {media}", TEXTS.get(self._label, "text"))}
        return self._media(self._schemas.of(type_), type_)

    def _event(self) -> Schema:
        """The schema of one event: OpenAPI 3.1 has no words for a stream, and tools take it for that of each item."""
        events = self._endpoint.events
        data = {"type": "string", "contentMediaType": "application/json"}
        return {
            "description": "One event of the stream, which goes on until one side ends it.",
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "For `Last-Event-ID`."},
                "event": {"enum": list(events)},
                "data": {
                    **data,
                    "contentSchema": {"anyOf": [self._schemas.of(t) for t in dict.fromkeys(events.values())]},
                },
                "retry": {"type": "integer", "description": "Milliseconds until a client should come back."},
            },
            "additionalProperties": False,
        }

    def _media(self, schema: Schema, type_: Any, status: int | None = None) -> Schema:
        value = self._example(schema, type_, status)
        if {"type": "null"} in schema.get("anyOf", ()):
            nothing = {"summary": "nothing came", "value": None}
            return {"schema": schema, "examples": {"found": {"summary": "one came", "value": value}, "none": nothing}}
        return {"schema": schema, "example": value}

    def _example(self, schema: Schema, type_: Any, status: int | None = None) -> Any:
        keys: tuple[Any, ...] = (f"{self._label} {status}",) if status is None else (
            f"{self._label} {status}", self._label, (type_, status)
        )  # fmt: skip
        for key in keys:
            if key in ANSWERS:
                return ANSWERS[key]
        return sample(schema, self._schemas.components, FIELDS)

    def _codes(self) -> Iterable[str]:
        """Every code that the operation can answer; where a check belongs to a kind of request, it is told here."""
        endpoint = self._endpoint
        takes_body = endpoint.body is not None or bool(endpoint.takes)
        yield "malformed"  # a foreign Host, a token in the URL
        yield from endpoint.codes
        if endpoint.limit is not None:
            yield "rate_limited"
        if not endpoint.public:
            yield "unauthenticated"
            yield "forbidden"
            if takes_body:
                yield "conflict"  # one's rights changed while the body came
        if self._in_path or _NAMES_A_QUEUE & set(self._members(endpoint.body, "properties")):
            yield "not_found"
        if takes_body:
            yield "too_large"
            yield "unsupported_media_type"
        yield "invalid"  # parameters that it does not have, or wrong ones
        if endpoint.method != "GET":
            yield "storage_full"
        yield "internal"
        yield "overloaded"

    def _members(self, type_: Any, word: str) -> Iterable[str]:
        schema: Mapping[str, Any] = self._schemas.components.get(getattr(type_, "__name__", ""), {})
        return list(schema.get(word, ()))
