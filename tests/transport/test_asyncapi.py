"""The description of the WebSocket and of the events: valid, whole, and made of the types that validate frames."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import jsonschema_rs
import msgspec
import pytest

from streambroker.config import Settings
from streambroker.core.errors import StorageFailed
from streambroker.node import Node
from streambroker.protocol import frames
from streambroker.protocol.json import JsonDecoder
from streambroker.transport.asyncapi import document
from streambroker.transport.asyncapi.examples import CLIENT, SERVER
from streambroker.transport.routes import WEBSOCKET_PATHS
from tests.system.conftest import missing

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / "tests/npm/node_modules"
VALIDATE = """
const { createRequire } = require("node:module");
const { Parser } = createRequire(process.argv[1] + "/")("@asyncapi/parser");
let text = "";
process.stdin.on("data", (part) => (text += part)).on("end", async () => {
  const { diagnostics } = await new Parser().parse(text);
  const told = ({ severity, code, path, message }) => ({ severity, code, path, message });
  console.log(JSON.stringify(diagnostics.map(told)));
});
"""
WARNING = 1  # a hint, that 3.1 has come out, is no fault


@pytest.fixture(name="api")
async def described(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """What a broker says of itself."""

    def fail(error: StorageFailed) -> None:
        raise error

    node = await Node.open(Settings(data_dir=str(tmp_path), admin_password="only for this test"), fail)
    try:
        transport = httpx.ASGITransport(app=node.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield (await client.get("/asyncapi.json")).json()
    finally:
        await node.close()


def schema_of(api: dict[str, Any], message: str) -> dict[str, Any]:
    return {**api["components"]["messages"][message]["payload"], "components": api["components"]}


def tags(union: Any) -> dict[type[msgspec.Struct], str]:
    return {frame: str(frame.__struct_config__.tag) for frame in get_args(union)}


def reports(api: dict[str, Any]) -> list[dict[str, Any]]:
    """What AsyncAPI's own parser has to say."""
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    if node is None or not (NODE_MODULES / "@asyncapi/parser").is_dir():
        missing("node or tests/npm's packages are not installed", possible_here=True)
        raise AssertionError
    command = [node, "-e", VALIDATE, str(NODE_MODULES)]
    done = subprocess.run(command, input=json.dumps(api), capture_output=True, text=True, check=True, timeout=100)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def test_the_document_is_valid_by_asyncapis_own_parser(api: dict[str, Any]) -> None:
    assert api["asyncapi"].startswith("3.")
    assert [report for report in reports(api) if report["severity"] <= WARNING] == []


async def test_the_parser_would_see_a_fault(api: dict[str, Any]) -> None:
    del api["channels"]["socket"]["address"]
    api["operations"]["publish"]["channel"]["$ref"] = "#/channels/nowhere"
    api["components"]["messages"]["ack"]["examples"][0]["payload"]["ids"] = "not a list"
    assert [report for report in reports(api) if report["severity"] == 0]


async def test_every_op_and_every_frame_is_described(api: dict[str, Any]) -> None:
    ops = {*tags(frames.ClientFrame).values(), *tags(frames.ServerFrame).values()}
    assert ops <= set(api["components"]["messages"])
    for channel in ("socket", "queueSocket"):
        assert set(api["channels"][channel]["messages"]) == ops
    assert {c["address"] for c in api["channels"].values()} >= set(WEBSOCKET_PATHS)
    actions = {name: operation["action"] for name, operation in api["operations"].items()}
    assert {name for name, action in actions.items() if action == "receive"} == set(tags(frames.ClientFrame).values())
    replied = {
        message["$ref"].rsplit("/", 1)[1]
        for operation in api["operations"].values()
        for message in (*operation["messages"], *operation.get("reply", {}).get("messages", ()))
    }
    assert ops <= replied, "a frame that belongs to no operation"


def test_every_frame_that_there_is_is_in_one_of_the_unions() -> None:
    """One that is said and not described would be missed by the tests above as well."""
    kinds = [kind for kind in vars(frames).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    tagged = {kind for kind in kinds if kind.__struct_config__.tag and kind is not frames.Frame}
    assert tagged == {*get_args(frames.ClientFrame), *get_args(frames.ServerFrame)}


@pytest.mark.parametrize("frame", CLIENT, ids=lambda frame: frame.__name__)
def test_an_example_of_a_client_is_a_frame_that_is_taken(frame: Any) -> None:
    taken = JsonDecoder[Any](frames.ClientFrame)(msgspec.json.encode(CLIENT[frame]))
    assert type(taken) is frame


async def test_examples_fit_their_schemas(api: dict[str, Any]) -> None:
    assert set(CLIENT) | set(SERVER) == {*get_args(frames.ClientFrame), *get_args(frames.ServerFrame)}
    for name, message in api["components"]["messages"].items():
        (example,) = message["examples"]
        validator = jsonschema_rs.Draft202012Validator(schema_of(api, name), validate_formats=True)
        assert [error.message for error in validator.iter_errors(example["payload"])] == [], name


def said() -> Iterator[bytes]:
    """Each frame as the broker encodes it."""
    from streambroker.core.errors import Conflict

    yield frames.welcome(1, "s", 10_000, 1, 900)
    yield frames.welcome(None, "s", 10_000, 1, None)
    yield frames.ok(2)
    yield frames.published("x", ["0199d3a4e7c00000"], [0], "memory")
    yield frames.settled(3, [frames.Result("0199d3a4e7c00000", False, "lease_lost")])
    yield frames.error(None, Conflict("there already"), "urn:streambroker:session:x")
    yield frames.deliver("s1", [msgspec.json.encode(SERVER[frames.Deliver]["messages"][0])])
    yield frames.lease_lost("s1", ["0199d3a4e7c00000"], "deleted")
    yield frames.expiring(60)
    yield frames.draining(10_000)
    yield frames.PONG


async def test_what_the_broker_says_fits_its_schema(api: dict[str, Any]) -> None:
    seen = set()
    for text in said():
        frame = json.loads(text)
        seen.add(frame["op"])
        jsonschema_rs.Draft202012Validator(schema_of(api, frame["op"]), validate_formats=True).validate(frame)
    assert seen == set(tags(frames.ServerFrame).values())


async def test_what_is_wrong_with_a_frame_does_not_fit_its_schema(api: dict[str, Any]) -> None:
    wrong: list[dict[str, Any]] = [
        {"op": "publish", "queue": "-", "messages": [{"content": 1}]},
        {"op": "publish", "queue": "q", "messages": [{"content": 1, "content_base64": "AAEC"}]},
        {"op": "subscribe", "queue": "q", "credit": 10_001},
        {"op": "subscribe", "queue": "q", "lease_mode": "forever"},
        {"op": "ack", "ids": []},
        {"op": "ping", "unknown": 1},
    ]
    for frame in wrong:
        validator = jsonschema_rs.Draft202012Validator(schema_of(api, frame["op"]))
        assert not validator.is_valid(frame), frame


async def test_close_codes_are_those_of_the_protocol(api: dict[str, Any]) -> None:
    table = (ROOT / "docs/protocol.md").read_text().partition("### Close codes")[2].partition("\n## ")[0]
    told = [code["code"] for code in api["channels"]["socket"]["x-close-codes"]]
    assert told == [int(code) for code in re.findall(r"^\| (4\d{3}) \| (?!GraphQL only)", table, re.MULTILINE)]
    assert all(f"| {code} |" in api["info"]["description"] for code in told)


async def test_the_events_of_a_queue_are_described(api: dict[str, Any]) -> None:
    channel = next(c for c in api["channels"].values() if c["address"] == "/queues/{queue}/events")
    assert {"new_message", "message_processed", "message_failed", "message_requeued"} <= set(channel["messages"])
    for name in ("new_message", "message_processed", "message_failed", "message_requeued"):
        schema = api["components"]["schemas"][schema_of(api, name)["$ref"].rsplit("/", 1)[1]]
        assert {"message_id", "queue", "status", "attempt", "at"} <= set(schema["required"])


def test_the_document_is_the_same_each_time() -> None:
    assert msgspec.json.encode(document()) == msgspec.json.encode(document())
