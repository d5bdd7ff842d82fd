"""Random JSON, written in every way that RFC 8259 allows, comes out of the broker byte for byte (D25)."""

from __future__ import annotations

import json
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
    body = '{"messages":[%s]}' % ",".join(f'{{"content":{text}}}' for text in texts)
    published = api.post(f"/queues/{QUEUE}/messages/batch", content=body.encode(), headers=JSON)
    assert published.status_code == 201, published.text
    for text, message_id in zip(texts, published.json()["message_ids"], strict=True):
        shown = api.get(f"/messages/{message_id}")
        assert shown.status_code == 200
        assert member(shown.text, "content") == text
        api.delete(f"/messages/{message_id}")


@tries(150)
@given(texts)
def test_any_json_comes_out_of_a_websocket_as_it_went_in(broker: BrokerProcess, token: str, text: str) -> None:
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        socket.send_raw(f'{{"op":"publish","id":1,"queue":"{QUEUE}-ws","messages":[{{"content":{text}}}]}}')
        (message_id,) = socket.answer(1)["message_ids"]
        socket.texts.clear()
        socket.ok("subscribe", queue=f"{QUEUE}-ws", credit=1)
        socket.deliveries(1)
        delivered = next(text for text in socket.texts if '"deliver"' in text)
        path = (0,) if delivered.startswith("[") else ()
        whole = json.loads(delivered) if not path else None
        assert whole is None or whole["messages"][0]["message_id"] == message_id
        assert member(delivered, *path, "messages", 0, "content") == text
        socket.ok("ack", ids=[message_id])
