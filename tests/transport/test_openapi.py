"""The description of the API: valid, whole, and made of the types that validate requests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
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
from streambroker.transport.openapi.naming import TAGS
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


def parameters(api: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [resolved(api, parameter) for parameter in operation["parameters"]]


def bodies(api: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every Media Type Object of requests and answers, and where it is."""
    for name, operation in operations(api):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} {media}", content
        for status, response in operation["responses"].items():
            for media, content in resolved(api, response).get("content", {}).items():
                yield f"{name} {status} {media}", content


def examples(content: dict[str, Any]) -> list[Any]:
    return [content["example"]] if "example" in content else [e["value"] for e in content["examples"].values()]


def codes(api: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    """Every code that the operation says it can answer."""
    found: set[str] = set()
    for response in operation["responses"].values():
        content = resolved(api, response).get("content", {})
        if problem := content.get("application/problem+json"):
            found |= set(resolved(api, problem["schema"])["allOf"][1]["properties"]["code"]["enum"])
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
        if any(parameter["in"] == "path" for parameter in parameters(api, operation)):
            assert "not_found" in told, name
        if any(parameter["in"] == "query" for parameter in parameters(api, operation)):
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
        told = resolved(api, content["schema"])["allOf"][1]["properties"]
        assert media == "application/problem+json"
        assert all(f"`{code}`" in response["description"] for code in told["code"]["enum"]), name
    for name, operation in operations(api):
        for status, response in operation["responses"].items():
            content = resolved(api, response).get("content", {})
            if problem := content.get("application/problem+json"):
                told = resolved(api, problem["schema"])["allOf"][1]["properties"]
                assert told["status"]["enum"] == [int(status)], name


async def test_every_answer_carries_the_headers_of_its_status(api: dict[str, Any]) -> None:
    everything = [r for _, operation in operations(api) for r in operation["responses"].items()]
    everything += [("405", api["components"]["responses"]["MethodNotAllowed"])]
    due = {"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After"}
    for status, response in everything:
        headers = {name: resolved(api, h) for name, h in resolved(api, response)["headers"].items()}
        assert headers["X-Request-ID"]["required"]
        assert {"RateLimit", "RateLimit-Policy"} <= set(headers)
        assert status not in due or headers[due[status]]["required"] is True


async def test_every_request_and_answer_has_examples_that_fit_its_schema(api: dict[str, Any]) -> None:
    seen, alike = 0, set()
    for where, content in bodies(api):
        assert examples(content), where
        text = msgspec.json.encode(content)
        if text in alike:  # a problem of many operations
            continue
        alike.add(text)
        schema = {**content["schema"], "components": api["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        for example in examples(content):
            assert [error.message for error in validator.iter_errors(example)] == [], where
            seen += 1
    assert seen > 60


async def test_an_example_of_an_answer_holds_all_that_the_answer_may_hold(api: dict[str, Any]) -> None:
    """What is made up from a schema has members, and those that a person wrote are in the schema."""
    for where, content in bodies(api):
        for example in examples(content):
            schema = resolved(api, content["schema"])
            if isinstance(example, dict) and "properties" in schema:
                assert set(example) <= set(schema["properties"]), where
                assert set(schema.get("required", ())) <= set(example), where


async def test_every_code_of_a_problem_has_an_example_of_its_own(api: dict[str, Any]) -> None:
    for name, response in api["components"]["responses"].items():
        content = response["content"]["application/problem+json"]
        told = resolved(api, content["schema"])["allOf"][1]["properties"]["code"]["enum"]
        assert {code: example["value"]["code"] for code, example in content["examples"].items()} == {c: c for c in told}
        assert all(example["value"]["detail"] for example in content["examples"].values()), name


async def test_every_parameter_says_what_it_is(api: dict[str, Any]) -> None:
    for name, operation in operations(api):
        for parameter in parameters(api, operation):
            assert parameter["description"], name
            if "example" in parameter:
                validator = jsonschema_rs.Draft202012Validator(parameter["schema"])
                assert [error.message for error in validator.iter_errors(parameter["example"])] == [], name
            assert parameter["in"] != "path" or "example" in parameter or "pattern" in parameter["schema"], name
        assert "X-Request-ID" in {parameter["name"] for parameter in parameters(api, operation)}


async def test_operations_have_names_for_generated_clients_and_headings_with_a_text(api: dict[str, Any]) -> None:
    told = {tag["name"]: tag["description"] for tag in api["tags"]}
    for name, operation in operations(api):
        assert re.fullmatch("[a-z][A-Za-z0-9]{2,40}", operation["operationId"]), name
        (tag,) = operation["tags"]
        assert told[tag] == TAGS[tag], f"{name} stands under a heading that nobody described"
        assert operation["summary"] and operation["description"]


async def test_who_may_ask_is_said_by_the_security_schemes(api: dict[str, Any]) -> None:
    assert api["security"] == [{"bearer": []}, {"apiKey": []}]
    assert {name: scheme["scheme"] for name, scheme in api["components"]["securitySchemes"].items()} == {
        "bearer": "bearer",
        "apiKey": "bearer",
    }
    session = {name for name, operation in operations(api) if operation.get("security") == [{"bearer": []}]}
    assert session == {
        *("POST /logout", "POST /users/me/password", "POST /api-keys", "DELETE /api-keys/{key_id}"),
        *("POST /users", "PATCH /users/{username}", "DELETE /users/{username}"),
    }


async def test_the_document_says_whose_it_is(api: dict[str, Any]) -> None:
    info = api["info"]
    assert info["license"]["identifier"] == "Apache-2.0"
    assert info["version"] and info["contact"]["name"] and info["summary"]


def test_the_document_is_the_same_in_every_process() -> None:
    """Sets and hashes differ from one to the next; the description does not, so that it can be compared."""
    made = {_made(seed) for seed in ("0", "1", "2")}
    assert len(made) == 1


def _made(seed: str) -> bytes:
    code = (
        "import sys, msgspec\n"
        "from streambroker.protocol.messages import Limits\n"
        "from streambroker.transport import rest, users, login, openapi\n"
        "none = None\n"
        "doors = [*rest.endpoints(none, Limits(), none, none, none, none)]\n"
        "doors += [*users.UserDoor(none).endpoints(), *login.LoginDoor(none).endpoints()]\n"
        "sys.stdout.buffer.write(msgspec.json.encode(openapi.document(doors)))\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True).stdout


@pytest.mark.parametrize("type_", BODIES, ids=lambda type_: type_.__name__)
def test_an_example_is_a_body_that_is_taken(type_: Any) -> None:
    JsonDecoder[Any](type_)(msgspec.json.encode(BODIES[type_]))


async def test_a_path_names_a_queue_as_the_broker_takes_it(api: dict[str, Any]) -> None:
    parameter = api["paths"]["/queues/{queue}"]["get"]["parameters"][0]
    takes = re.compile(parameter["schema"]["pattern"]).search
    assert all(takes(name) for name in (IN_PATH["queue"], "a", "A-9._", "9" * 128))
    assert not any(takes(name) for name in ("", "-a", ".", "a/b", "a b", "é", "9" * 129, "\u202ea", "a\0", "<img>"))


async def test_a_raw_message_has_its_options_as_headers_of_the_same_types(api: dict[str, Any]) -> None:
    operation = api["paths"]["/queues/{queue}/messages"]["post"]
    headers = {p["name"].lower(): p["schema"] for p in parameters(api, operation) if p["in"] == "header"}
    options = {name.decode() for name in OPTION_HEADERS} | {"idempotency-key", "traceparent", "x-request-id"}
    assert options <= set(headers)
    assert (headers["x-message-priority"]["minimum"], headers["x-message-priority"]["maximum"]) == (0, 9)
    assert headers["x-message-available-at"] == {"type": "string"}
    assert {"application/json", "application/octet-stream"} <= set(operation["requestBody"]["content"])


async def test_the_schemas_say_times_statuses_and_contents_in_json_schemas_words(api: dict[str, Any]) -> None:
    schemas = api["components"]["schemas"]
    message = schemas["MessageOut"]["properties"]
    assert message["created_at"] == {"type": "string", "format": "date-time"}
    assert {"type": "string", "format": "date-time"} in message["expires_at"]["anyOf"]
    assert message["status"]["enum"] == ["pending", "processing", "processed", "failed"]
    assert schemas["DraftIn"]["properties"]["content_base64"]["contentEncoding"] == "base64"
    validator = jsonschema_rs.Draft202012Validator({**schemas["DraftIn"], "components": {"schemas": schemas}})
    for draft, fits in (
        ({"content": None}, True),
        ({"content_base64": "eA=="}, True),
        ({}, False),
        ({"content": 1, "content_base64": "eA=="}, False),
        ({"content": 1, "delay_ms": 5}, True),
        ({"content": 1, "delay_ms": 5, "available_at": "2030-01-01T00:00:00Z"}, False),
    ):
        assert validator.is_valid(draft) is fits, draft
    # Not every regular expression engine that a client is made with knows Python's look-ahead.
    assert "(?!" not in msgspec.json.encode(api).decode()


async def test_generators_of_clients_find_forms_that_they_can_make_types_of(api: dict[str, Any]) -> None:
    """Tried with openapi-python-client: these made it fail, or leave out an operation or the members of a type."""
    for name, schema in api["components"]["schemas"].items():
        assert "properties" not in schema or not {"oneOf", "anyOf"} & schema.keys(), name
    for response in api["components"]["responses"].values():
        assert list(response["content"]["application/problem+json"]["schema"]) == ["$ref"]
    for _, operation in operations(api):
        for parameter in parameters(api, operation):
            words = [str(word).casefold() for word in parameter["schema"].get("enum", ())]
            assert len(set(words)) == len(words), parameter["name"]
            assert parameter["in"] != "header" or "format" not in parameter["schema"], parameter["name"]


async def test_a_query_parameter_is_never_null(api: dict[str, Any]) -> None:
    for name, operation in operations(api):
        for parameter in parameters(api, operation):
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
    assert operation["responses"]["200"]["content"]["text/plain"]["schema"] == {"type": "string"}
    assert (operation["operationId"], operation["tags"]) == ("serve", ["Files"])
    assert "429" not in operation["responses"]
    parameter = operation["parameters"][0]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("some_name", "path", True)
