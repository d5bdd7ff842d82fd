"""Random JSON, written in every way that RFC 8259 allows, comes out of the broker byte for byte (D25)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.effort import tries
from tests.harness import BrokerProcess
from tests.wire.doors import JSON
from tests.wire.rawjson import member
from tests.wire.sockets import open_socket

pytestmark = pytest.mark.system

QUEUE = "fuzz-payloads"

space = st.text(" \t\r\n", max_size=2)
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,400})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,5})?", fullmatch=True)
plain = st.characters(exclude_characters='"\\', exclude_categories=["Cs"], min_codepoint=0x20)
escapes = st.from_regex(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})', fullmatch=True)
strings = st.lists(plain | escapes, max_size=12).map(lambda parts: f'"{"".join(parts)}"')


def _array(items: list[tuple[str, str, str]]) -> str:
    return "[" + ",".join(before + item + after for before, item, after in items) + "]"


def _object(items: list[tuple[str, str, str, str]]) -> str:
    return "{" + ",".join(f"{before}{key}{after}:{before}{item}{after}" for before, key, item, after in items) + "}"


# Keys are drawn from few, so that some are there twice.
keys = st.sampled_from(['"a"', '"\\u0061"', '""', '"content"', '"op"', '"A"']) | strings
texts = st.recursive(
    st.sampled_from(["null", "true", "false", "-0", "[]", "{}", "[ ]", "{\n}"]) | numbers | strings,
    lambda inner: (
        st.lists(st.tuples(space, inner, space), max_size=4).map(_array)
        | st.lists(st.tuples(space, keys, inner, space), max_size=4).map(_object)
    ),
    max_leaves=15,
)


@pytest.fixture(scope="module")
def api(broker: BrokerProcess) -> Iterator[httpx.Client]:
    with broker.client() as client:
        yield client


@tries(300)
@given(st.lists(texts, min_size=1, max_size=5))
def test_any_json_comes_out_of_rest_as_it_went_in(api: httpx.Client, texts: list[str]) -> None:
    drafts = ",".join(f'{{"content":{text}}}' for text in texts)
    body = f'{{"messages":[{drafts}]}}'
    published = api.post(f"/queues/{QUEUE}/messages/batch", content=body.encode(), headers=JSON)
    assert published.status_code == 201, published.text
    for text, message_id in zip(texts, published.json()["message_ids"], strict=True):
        shown = api.get(f"/messages/{message_id}")
        assert shown.status_code == 200
        assert member(shown.content, "content") == text.encode()
        api.delete(f"/messages/{message_id}")


@tries(150)
@given(texts)
def test_any_json_comes_out_of_a_websocket_as_it_went_in(
    broker: BrokerProcess, token: str, api: httpx.Client, text: str
) -> None:
    queue = f"{QUEUE}-{uuid.uuid4().hex}"
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        socket.send_raw(f'{{"op":"publish","id":1,"queue":"{queue}","messages":[{{"content":{text}}}]}}')
        assert socket.answer(1)["op"] == "ok"
        socket.texts.clear()
        socket.ok("subscribe", queue=queue)
        socket.deliveries(1)
        delivered = next(said for said in socket.texts if '"op":"deliver"' in said)
        assert member(delivered, *_delivery(delivered), "messages", 0, "content") == text.encode()
        socket.ok("ack", ids=[json.loads(member(delivered, *_delivery(delivered), "messages", 0, "message_id"))])
    api.delete(f"/queues/{queue}")


def _delivery(said: str) -> tuple[int, ...]:
    """Where the ``deliver`` frame stands in a message of the WebSocket, which may hold several frames."""
    if not said.startswith("["):
        return ()
    return next((index,) for index in (0, 1) if member(said, index, "op") == b'"deliver"')
