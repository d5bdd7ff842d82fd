"""The OpenAPI 3.1 document, made from the very types that validate requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from streambroker import __version__
from streambroker.core import errors
from streambroker.protocol.messages import MessageOut
from streambroker.transport.http import Call, Endpoint, Reply, reply

_STATUS_OF = {
    kind.code: kind.status
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.BrokerError)
}
_COMPONENT = "#/components/schemas/{name}"
_ANY_JSON = {"description": "Any JSON value, kept byte for byte."}


def describe(endpoints: Sequence[Endpoint]) -> Endpoint:
    """The endpoint that serves the description of `endpoints`."""

    async def serve(call: Call) -> Reply:
        """The description of the API."""
        return answer

    endpoint = Endpoint("GET", "/openapi.json", serve, "This document", answers={200: dict[str, Any]}, public=True)
    answer = reply(document([*endpoints, endpoint]))
    return endpoint


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `endpoints`."""
    types = [errors.Problem, MessageOut]
    types += [t for e in endpoints for t in (e.body, e.query, *e.answers.values()) if t is not None]
    schemas, components = msgspec.json.schema_components(
        [t for t in types if not _is_content(t)], schema_hook=_hook, ref_template=_COMPONENT
    )
    by_type = dict(zip([_key(t) for t in types], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "streambroker", "version": __version__, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}, {"url": "/v1"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, by_type: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    codes = ["rate_limited", *endpoint.codes]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if not endpoint.public:
        codes += ["unauthenticated", "forbidden"]
    if parameters:
        codes += ["not_found", "invalid"]
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()}_{re.sub(r'[^a-z]+', '_', endpoint.path.lower()).strip('_')}",
        "summary": endpoint.summary,
        "description": endpoint.handler.__doc__ or endpoint.summary,
    }
    if endpoint.public:
        operation["security"] = []
    if endpoint.query is not None:
        codes.append("invalid")
        schema = components[endpoint.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": part}
            for name, part in schema["properties"].items()
        ]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        codes += ["malformed", "too_large", "unsupported_media_type", "invalid"]
        content = {"application/json": {"schema": by_type[_key(endpoint.body)]}}
        if endpoint.raw:
            content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        required = bool(components.get(endpoint.body.__name__, {}).get("required")) or endpoint.raw
        operation["requestBody"] = {"required": required, "content": content}
    operation["responses"] = _responses(endpoint, by_type, codes)
    return operation


def _responses(endpoint: Endpoint, by_type: dict[str, Any], codes: Sequence[str]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in endpoint.answers.items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if answer is not None:
            responses[str(status)]["content"] = {"application/json": {"schema": by_type[_key(answer)]}}
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(_STATUS_OF[code], []).append(code)
    problem = {"application/problem+json": {"schema": by_type[_key(errors.Problem)]}}
    for status, named in sorted(by_status.items()):
        responses[str(status)] = {"description": ", ".join(named), "content": problem}
    return responses


def _path_schema(name: str) -> dict[str, Any]:
    if name == "queue":
        return {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
    return {"type": "string"}


def _hook(type_: Any) -> dict[str, Any]:
    if type_ is msgspec.Raw:
        return dict(_ANY_JSON)
    raise NotImplementedError(type_)


def _is_content(type_: Any) -> bool:
    return type_ is msgspec.Raw


def _key(type_: Any) -> str:
    return repr(type_)
