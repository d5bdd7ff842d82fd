"""The description of the API: valid, whole, and made of the types that validate requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from openapi_spec_validator import validate

from streambroker.config import Settings
from streambroker.core.errors import StorageFailed
from streambroker.node import Node
from streambroker.protocol.json import JsonDecoder
from streambroker.transport.examples import BODIES, IN_PATH
from streambroker.transport.http import Call, Endpoint, Reply
from streambroker.transport.openapi import document
from streambroker.transport.rawbody import OPTION_HEADERS

PUBLISHES = ("/publish", "/queues/{queue}/messages", "/queues/{queue}/messages/batch")


@pytest.fixture(name="api")
async def described(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """What a broker says of itself."""

    def fail(error: StorageFailed) -> None:
        raise error

    node = await Node.open(Settings(data_dir=str(tmp_path), admin_password="only for this test"), fail)
    try:
        transport = httpx.ASGITransport(app=node.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield (await client.get("/openapi.json")).json()
    finally:
        await node.close()


def operations(api: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def resolved(api: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = api
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def codes(api: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    """Every code that the operation says it can answer."""
    found: set[str] = set()
    for response in operation["responses"].values():
        content = resolved(api, response).get("content", {})
        if problem := content.get("application/problem+json"):
            found |= set(problem["schema"]["allOf"][1]["properties"]["code"]["enum"])
    return found


async def test_the_document_is_valid_openapi_3_1(api: dict[str, Any]) -> None:
    assert api["openapi"].startswith("3.1")
    assert [server["url"] for server in api["servers"]] == ["/", "/v1"]
    validate(api)
    ids = [operation["operationId"] for _, operation in operations(api)]
    assert len(set(ids)) == len(ids)


async def test_every_operation_names_the_codes_of_its_kind(api: dict[str, Any]) -> None:
    for name, operation in operations(api):
        told = codes(api, operation)
        assert {"malformed", "internal", "overloaded"} <= told, name
        if operation.get("security") != []:
            assert {"unauthenticated", "forbidden", "rate_limited"} <= told, name
        if "requestBody" in operation:
            assert {"too_large", "unsupported_media_type", "invalid"} <= told, name
        if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
            assert "not_found" in told, name
        if any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
            assert "invalid" in told, name
        if name.removeprefix("POST ") in PUBLISHES:
            assert {"draining", "queue_full", "storage_full", "not_found"} <= told, name
        assert "method_not_allowed" not in told, "an operation that is described is allowed"
    assert "409" in api["paths"]["/messages/{message_id}/ack"]["post"]["responses"]
    assert codes(api, api["paths"]["/messages/{message_id}/ack"]["post"]) >= {
        "not_processing",
        "lease_lost",
        "already_settled",
    }


async def test_a_status_of_a_problem_goes_with_its_codes(api: dict[str, Any]) -> None:
    for name, response in api["components"]["responses"].items():
        (media, content) = next(iter(response["content"].items()))
        told = content["schema"]["allOf"][1]["properties"]
        assert media == "application/problem+json"
        assert all(f"`{code}`" in response["description"] for code in told["code"]["enum"]), name
    for name, operation in operations(api):
        for status, response in operation["responses"].items():
            content = resolved(api, response).get("content", {})
            if problem := content.get("application/problem+json"):
                assert problem["schema"]["allOf"][1]["properties"]["status"]["const"] == int(status), name


async def test_every_answer_carries_the_headers_of_its_status(api: dict[str, Any]) -> None:
    everything = [r for _, operation in operations(api) for r in operation["responses"].items()]
    everything += [("405", api["components"]["responses"]["MethodNotAllowed"])]
    due = {"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After"}
    for status, response in everything:
        headers = {name: resolved(api, h) for name, h in resolved(api, response)["headers"].items()}
        assert headers["X-Request-ID"]["required"]
        assert {"RateLimit", "RateLimit-Policy"} <= set(headers)
        assert status not in due or headers[due[status]]["required"] is True


async def test_every_body_has_an_example(api: dict[str, Any]) -> None:
    for name, operation in operations(api):
        if "requestBody" in operation:
            schema = resolved(api, operation["requestBody"]["content"]["application/json"]["schema"])
            assert schema.get("examples"), name
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                assert re.fullmatch(parameter["schema"]["pattern"], parameter["example"]), name


@pytest.mark.parametrize("type_", BODIES, ids=lambda type_: type_.__name__)
def test_an_example_is_a_body_that_is_taken(type_: Any) -> None:
    JsonDecoder[Any](type_)(msgspec.json.encode(BODIES[type_]))


async def test_a_path_names_a_queue_as_the_broker_takes_it(api: dict[str, Any]) -> None:
    (parameter,) = api["paths"]["/queues/{queue}"]["get"]["parameters"]
    takes = re.compile(parameter["schema"]["pattern"]).search
    assert all(takes(name) for name in (IN_PATH["queue"], "a", "A-9._", "9" * 128))
    assert not any(takes(name) for name in ("", "-a", ".", "a/b", "a b", "é", "9" * 129, "\u202ea", "a\0", "<img>"))


async def test_a_raw_message_has_its_options_as_headers_of_the_same_types(api: dict[str, Any]) -> None:
    operation = api["paths"]["/queues/{queue}/messages"]["post"]
    headers = {p["name"].lower(): p["schema"] for p in operation["parameters"] if p["in"] == "header"}
    assert {name.decode() for name in OPTION_HEADERS} | {"idempotency-key", "traceparent"} == set(headers)
    assert (headers["x-message-priority"]["minimum"], headers["x-message-priority"]["maximum"]) == (0, 9)
    assert headers["x-message-available-at"]["format"] == "date-time"
    assert set(operation["requestBody"]["content"]) == {"application/json", "application/octet-stream"}


async def test_the_schemas_say_times_statuses_and_contents_in_json_schemas_words(api: dict[str, Any]) -> None:
    schemas = api["components"]["schemas"]
    message = schemas["MessageOut"]["properties"]
    assert message["created_at"] == {"type": "string", "format": "date-time"}
    assert {"type": "string", "format": "date-time"} in message["expires_at"]["anyOf"]
    assert message["status"]["enum"] == ["pending", "processing", "processed", "failed"]
    assert schemas["DraftIn"]["properties"]["content_base64"]["contentEncoding"] == "base64"
    assert schemas["DraftIn"]["oneOf"] == [{"required": ["content"]}, {"required": ["content_base64"]}]
    # Not every regular expression engine that a client is made with knows Python's look-ahead.
    assert "(?!" not in msgspec.json.encode(api).decode()


async def test_a_query_parameter_is_never_null(api: dict[str, Any]) -> None:
    for name, operation in operations(api):
        for parameter in operation.get("parameters", ()):
            assert "null" not in str(parameter["schema"]), (name, parameter["name"])


def test_a_text_answer_and_a_parameter_that_nobody_knows_are_described_too() -> None:
    async def serve(call: Call) -> Reply:
        """Serve
        some text."""
        return Reply(200, b"text")

    endpoint = Endpoint("GET", "/files/{some_name}", serve, "A file", answers={200: str}, limit=None)
    api = msgspec.json.decode(msgspec.json.encode(document([endpoint])))
    operation = api["paths"]["/files/{some_name}"]["get"]
    validate(api)
    assert operation["description"] == "Serve some text."
    assert operation["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    assert "429" not in operation["responses"]
    (parameter,) = operation["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("some_name", "path", True)
