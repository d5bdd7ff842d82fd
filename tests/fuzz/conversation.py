"""What a client may say on a WebSocket, and what it may not: frames that are right, nearly right, and not at all."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from streambroker.protocol import frames

QUEUE = "fuzz-conversation"
NO_SUCH_ID = "0199d3a4e7c00000"

# A right frame of every op; what is random in the others is laid over these.
RIGHT: list[dict[str, Any]] = [
    {"op": "hello", "token": "sbk_none"},
    {"op": "publish", "queue": QUEUE, "messages": [{"content": {"n": 1}, "priority": 5, "ttl_ms": 60_000}]},
    {"op": "subscribe", "queue": QUEUE, "sub": "s", "credit": 2, "lease_ms": 1_000, "lease_mode": "fixed"},
    {"op": "unsubscribe", "sub": "s"},
    {"op": "pause", "sub": "s"},
    {"op": "resume", "sub": "s"},
    {"op": "ack", "ids": [NO_SUCH_ID]},
    {"op": "nack", "ids": [NO_SUCH_ID], "requeue": True, "delay_ms": 0, "reason": "no"},
    {"op": "extend", "ids": [NO_SUCH_ID], "lease_ms": 1_000},
    {"op": "refresh", "token": "sbk_none"},
    {"op": "ping"},
]
OPS = sorted(frame["op"] for frame in RIGHT)
ANSWERS = {"welcome", "ok", "error", "deliver", "lease_lost", "pong", "expiring", "draining"}
FIELDS = sorted({name for kind in frames.ClientFrame.__args__ for name in kind.__struct_encode_fields__} | {"op"})

ODD_TEXTS = [
    "", " ", "\0", "a\0b", "é", "\u202e", "🙂", "../x", "-a", "a" * 129, "a" * 1_000, "' OR 1=1 --", "<img onerror=x>",
    "${x}", "%s", "{}", "null", "true", "NaN", QUEUE, "s", NO_SUCH_ID, "7" * 16, "f" * 16,
]  # fmt: skip
ODD_NUMBERS = [0, -1, 1, 2, 1_000, 1_001, 10_001, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**300]

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from(ODD_NUMBERS)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(ODD_TEXTS)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), inner),
    max_leaves=10,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> Any:
    """A frame that is right but for up to three of its members."""
    frame: dict[str, Any] = {**draw(st.sampled_from(RIGHT)), **draw(st.sampled_from([{}, {"id": 1}, {"id": "i"}]))}
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*sorted(frame), *FIELDS]) | st.text(max_size=6))
        if name in frame and draw(st.booleans()):
            del frame[name]
        else:
            frame[name] = draw(values | st.sampled_from(OPS))
    if isinstance(messages := frame.get("messages"), list) and messages and draw(st.booleans()):
        member = draw(st.sampled_from(["content", "content_base64", "headers", "key", "dedup_id", "available_at", "x"]))
        frame["messages"] = [{"content": 1, member: draw(values)}]
    return frame


def _text(value: Any) -> str:
    """JSON, also of half a surrogate pair, as an escape."""
    return json.dumps(value)


def _deep(depth: int) -> str:
    nested = "[" * depth + "]" * depth
    return f'{{"op":"publish","id":"deep","queue":"{QUEUE}","messages":[{{"content":{nested}}}]}}'


# Right and wrong JSON that the json module would not write.
RAW_TEXTS = [
    "", " ", "\0", "{", "}", "[", "]", "[]", "[[]]", "[1]", "[null]", "[{}]", "{}", "null", "1", '"x"', "{}{}", "[{},]",
    '{"op":"ping"}garbage', '\ufeff{"op":"ping"}', "{'op':'ping'}", '{"op":"ping",}', '{"op":"ping"} ',
    '{"op":"ping","op":"nack"}', '{"op":"nack","op":"ping","id":1}', '{"id":1,"id":2,"op":"ping"}',
    '{"op":"ack","ids":["x"],"ids":[]}', '{"op":"ping","id":1e400}', '{"op":"ping","id":NaN}', '{"op":"ping","id":-0}',
    '{"op":"ping","id":' + "9" * 5_000 + "}", '{"op":"ping","id":0.1}', '{"op":"ping","id":"\\ud800"}',
    '{"op":"\\ud800"}', '{"\\ud800":1}', '{"op":"ping","id":"\\u0000"}', '{"op":"ping","id":"' + "i" * 200 + '"}',
    "[" * 1_000, "[" * 100_000, "[" * 1_000 + "]" * 1_000, '{"op":' * 1_000 + "1" + "}" * 1_000,
    "[" + '{"op":"ping"},' * 1_000 + '{"op":"ping"}]', "[" + '{"op":"ping"},' * 999 + '{"op":"ping"}]',
    _deep(254), _deep(1_000), _deep(1_024), _deep(1_025), _deep(5_000),
    f'{{"op":"publish","id":7,"queue":"{QUEUE}","messages":[{{"content":"\\ud800"}}]}}',
    f'{{"op":"publish","id":7,"queue":"{QUEUE}","messages":[{{"content":1,"key":"\\udfff"}}]}}',
    f'{{"op":"publish","id":7,"queue":"{QUEUE}","messages":[{{"content":1e999,"x":1}}]}}',
    '{"op":"ack","ids":' + json.dumps(["x"] * 1_001) + "}",
]  # fmt: skip

json_texts = (nearly_right() | values | st.lists(nearly_right(), max_size=5)).map(_text)


@st.composite
def torn(draw: st.DrawFn) -> str:
    """A text that somebody cut, doubled or wrote into."""
    text = draw(json_texts)
    at, to = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    return text[:at] + draw(st.text(max_size=4)) + draw(st.sampled_from(["", text[at:to] * 2])) + text[to:]


sayings: st.SearchStrategy[str | bytes] = (
    json_texts
    | st.sampled_from(RAW_TEXTS)
    | torn()
    | json_texts.map(str.encode)
    | st.binary(max_size=64)
    | st.text(max_size=64)
)
"""One message of the WebSocket: text, or bytes for a binary one."""
