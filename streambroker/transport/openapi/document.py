"""The OpenAPI 3.1 document, made from the endpoints and the very types that validate requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from streambroker import __version__
from streambroker.core import errors
from streambroker.protocol.messages import MessageOut
from streambroker.transport.http import Endpoint
from streambroker.transport.openapi.headers import HEADERS, PARAMETERS
from streambroker.transport.openapi.naming import headings, named_apart
from streambroker.transport.openapi.operations import Operation
from streambroker.transport.openapi.problems import Problems
from streambroker.transport.openapi.schemas import schemas_of
from streambroker.transport.openapi.webhooks import webhooks

LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
CONTACT = {"name": "Whoever runs this broker"}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token: what `POST /login` answers. It ends soon; `POST /refresh` gives the next.",
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "sbk_…",
        "description": "An API key, sent in the same header. It is made by `POST /api-keys` and shown only then.",
    },
}
_ABOUT = """\
Every path is also there under `/v1`.

**Errors.** Each is an RFC 9457 problem document; `code` is what a program looks at, `retryable` says whether the same \
call can succeed later. Checks are made in this order: who you are (401), what you may see (404, 403), the request \
itself (400, 415, 413, 422), the state (409, 507). A method that a path does not take is answered as \
`MethodNotAllowed`. Any request that does not come to its end, or whose first line or head is too long, is answered as \
`RequestTimeout`, `TargetTooLong` or `HeadTooLarge`.

**Delivery.** 2xx to a publish means that the message is on the disk. 4xx, 429 and 507 mean that it is certainly not \
stored. After 5xx, a time-out or a cut connection publish again with the same `dedup_id`: it is not stored twice.

**Values.** Times are RFC 3339 in UTC with milliseconds. Durations are integers in milliseconds and end in `_ms`. Ids \
are opaque strings. Members of answers may be added; unknown members of requests are refused. A GET can be asked as \
HEAD, except one that consumes.

**More doors.** `GET /ws` and `GET /queues/{queue}/ws` speak WebSocket, which OpenAPI cannot describe: see \
`/asyncapi.json`.
"""


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `endpoints`: each operation with all it takes and every code it can answer.

    The same for the same endpoints, to the byte.
    """
    schemas = schemas_of(_types(endpoints))
    problems = Problems()
    names = named_apart(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint, (tag, name) in zip(endpoints, names, strict=True):
        operation = Operation(endpoint, tag, name, schemas, problems).described()
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streambroker",
            "summary": "A durable message broker over HTTP and WebSocket",
            "version": __version__,
            "description": _ABOUT,
            "contact": CONTACT,
            "license": LICENSE,
        },
        "servers": [
            {"url": "/", "description": "This broker."},
            {"url": "/v1", "description": "The same, under the version's name."},
        ],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": headings([tag for tag, _ in names]),
        "paths": paths,
        **webhooks(endpoints, schemas),
        "components": {
            "schemas": schemas.components | problems.schemas,
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "responses": problems.responses,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _types(endpoints: Sequence[Endpoint]) -> Iterator[Any]:
    yield errors.Problem
    yield MessageOut
    for endpoint in endpoints:
        told = (endpoint.body, *endpoint.answers.values(), *endpoint.takes.values())
        for type_ in (*told, *endpoint.gives.values(), *endpoint.events.values()):
            if type_ not in (None, str, bytes):
                yield type_
