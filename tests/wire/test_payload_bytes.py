"""What goes in comes out, byte for byte, through every door (contract §4).

The texts are compared as they are on the wire, never after a JSON parser has had its way with them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.wire.doors import JSON, Messages, Queue, eventually
from tests.wire.problems import check_problem, check_refusal
from tests.wire.rawjson import member
from tests.wire.sockets import Socket

MIB = 1 << 20


def nested(depth: int, inside: bytes = b"") -> bytes:
    return b"[" * depth + inside + b"]" * depth


def nested_objects(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


PAYLOADS: dict[str, bytes] = {
    "huge integer": b"123456789012345678901234567890123456789012345678901234567890",
    "integers around 2**53 and 2**64": b"[9007199254740993,18446744073709551616,-9223372036854775809]",
    "minus zero": b"[-0,-0.0,0e0]",
    "beyond a double": b"[1e400,-1e400,1e-400]",
    "digits kept": b"[1.10,1.0,1E5,1e+05,0.10000000000000000000000000000000000001]",
    "ten thousand digits": b"9" * 10_000,
    "duplicate keys": b'{"a":1,"a":2,"A":3,"a":{"a":1,"a":1}}',
    "key order": b'{"z":1,"y":2,"10":3,"9":4,"a":5}',
    "white space inside": b'{ "a" :\t[ 1 ,\r\n 2 ] , "b" : { } , "c" : [ ] }',
    "escapes": rb'"\u0041\u00e9\/\b\f\n\r\t\"\\ \u2028 \u007f"',
    "escapes in upper and lower case": rb'["\u00E9","\u00e9","\uD834\uDD1E"]',
    "text beyond ASCII": '"é ☃ 𝄞 \u2028 \u007f"'.encode(),
    "lone surrogates": rb'["\ud800","\udfff","\ud800\ud800",{"\ud83d":1}]',
    "NUL escape": rb'["\u0000",{"\u0000":1}]',
    "empty keys": b'{"":{"":""}}',
    "names of our own": b'{"content":1,"message_id":2,"lease":3,"op":"ack","messages":[]}',
    "brackets in a text": b'"]}],{[\\"}"',
    "null": b"null",
    "false": b"false",
    "empty text": b'""',
    "long text": b'"' + b"x" * 70_000 + b'"',
    "depth 300": nested(300),
    "depth 1000": nested(1000, b"1"),
    "depth 1000 of objects": nested_objects(1000),
    "depth 1024": nested(1024),
    "depth 1024 around a number": nested(1024, b"1"),
    "depth 1024 of objects": nested_objects(1024),
    "wide and deep": b"[" + b",".join([nested(100)] * 50) + b"]",
    "exactly 1 MiB": b'"' + b"y" * (MIB - 2) + b'"',
}


def send_rest(queue: Queue, raw: bytes) -> str:
    reply = queue.api.post(queue.path + "/messages", content=b'{"content":' + raw + b',"key":"k"}', headers=JSON)
    assert reply.status_code == 201, reply.text[:500]
    message_id: str = reply.json()["message_id"]
    return message_id


def send_spaced(queue: Queue, raw: bytes) -> str:
    """White space around a value is not part of it."""
    content = b' { "key" : "k" ,\r\n "content"\t: \n' + raw + b" \t } "
    reply = queue.api.post(queue.path + "/messages", content=content, headers=JSON)
    assert reply.status_code == 201, reply.text[:500]
    message_id: str = reply.json()["message_id"]
    return message_id


def send_batch(queue: Queue, raw: bytes) -> str:
    content = b'{"messages":[{"content":' + raw + b"}]}"
    reply = queue.api.post(queue.path + "/messages/batch", content=content, headers=JSON)
    assert reply.status_code == 201, reply.text[:500]
    message_id: str = reply.json()["message_ids"][0]
    return message_id


def send_alias(queue: Queue, raw: bytes) -> str:
    content = f'{{"queue":"{queue.name}","content":'.encode() + raw + b"}"
    reply = queue.api.post("/publish", content=content, headers=JSON)
    assert reply.status_code == 201, reply.text[:500]
    message_id: str = reply.json()["message_id"]
    return message_id


def socket_publish(queue: Queue, raw: bytes) -> bytes:
    return f'{{"op":"publish","id":"p","queue":"{queue.name}","messages":[{{"content":'.encode() + raw + b"}]}"


@pytest.fixture
def send_socket(ws: Socket) -> Callable[[Queue, bytes], str]:
    def send(queue: Queue, raw: bytes) -> str:
        ws.send_raw(socket_publish(queue, raw).decode())
        reply = ws.answer("p")
        assert reply["op"] == "ok", reply
        message_id: str = reply["message_ids"][0]
        return message_id

    return send


def doors_out(queue: Queue, messages: Messages, message_id: str, connect: Callable[..., Socket]) -> Iterator[bytes]:
    """The content of this message as each door shows it; the doors that deliver give it back again."""
    api = queue.api
    yield member(api.get(f"/messages/{message_id}").content, "content")
    yield member(api.get(queue.path + "/messages").content, "items", 0, "content")

    def give_back(text: bytes) -> None:
        lease = json.loads(member(text, "lease"))
        messages.settle(message_id, "nack", requeue=True, delay_ms=0, lease=lease)

    taken = api.get(queue.path + "/messages/consume").content
    yield member(taken, "content")
    give_back(taken)
    taken = member(
        api.post(queue.path + "/messages/consume", content=b'{"max":1}', headers=JSON).content, "messages", 0
    )
    yield member(taken, "content")
    give_back(taken)
    several = f'{{"queues":["{queue.name}"],"max":1,"wait_ms":0}}'.encode()
    taken = member(api.post("/consume", content=several, headers=JSON).content, "messages", 0)
    yield member(taken, "content")
    give_back(taken)
    socket = connect()
    socket.ok("subscribe", sub="s", queue=queue.name)
    socket.op("deliver")
    text = next(text for text in socket.texts if '"deliver"' in text)
    path = ("messages", 0) if text.startswith("{") else (0, "messages", 0)
    yield member(text, *path, "content")
    socket.ok("unsubscribe", sub="s")
    eventually(lambda: messages_status(api, message_id), lambda status: status == "pending")


def messages_status(api: httpx.Client, message_id: str) -> str:
    status: str = json.loads(member(api.get(f"/messages/{message_id}").content, "status"))
    return status


def check_everywhere(
    queue: Queue, messages: Messages, message_id: str, connect: Callable[..., Socket], raw: bytes
) -> None:
    shown = list(doors_out(queue, messages, message_id, connect))
    assert len(shown) == 6
    for index, text in enumerate(shown):
        assert text == raw, (index, text[:200], raw[:200])


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_rest_takes_every_door_gives(
    queue: Queue, messages: Messages, connect: Callable[..., Socket], name: str
) -> None:
    raw = PAYLOADS[name]
    check_everywhere(queue, messages, send_rest(queue, raw), connect, raw)


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_a_websocket_takes_every_door_gives(
    queue: Queue,
    messages: Messages,
    connect: Callable[..., Socket],
    send_socket: Callable[[Queue, bytes], str],
    name: str,
) -> None:
    raw = PAYLOADS[name]
    check_everywhere(queue, messages, send_socket(queue, raw), connect, raw)


@pytest.mark.parametrize("send", [send_spaced, send_batch, send_alias])
@pytest.mark.parametrize("name", PAYLOADS)
def test_what_the_other_doors_take_comes_out_the_same(
    queue: Queue, name: str, send: Callable[[Queue, bytes], str]
) -> None:
    message_id = send(queue, PAYLOADS[name])
    taken = queue.api.get(queue.path + "/messages/consume").content
    assert json.loads(member(taken, "message_id")) == message_id
    assert member(taken, "content") == PAYLOADS[name]


def test_a_waiting_consumer_gets_the_same_bytes_as_a_late_one(queue: Queue, ws: Socket) -> None:
    ws.ok("subscribe", queue=queue.name)
    for name in ("duplicate keys", "white space inside", "lone surrogates", "huge integer", "depth 1000"):
        send_rest(queue, PAYLOADS[name])
        ws.op("deliver")
        text = ws.texts[-1]
        path = ("messages", 0) if text.startswith("{") else (0, "messages", 0)
        assert member(text, *path, "content") == PAYLOADS[name]


def test_a_binary_frame_of_json_is_as_good_as_a_text_frame(queue: Queue, ws: Socket) -> None:
    ws.send_raw(socket_publish(queue, PAYLOADS["text beyond ASCII"]))
    assert ws.answer("p")["op"] == "ok"
    taken = queue.api.get(queue.path + "/messages/consume").content
    assert member(taken, "content") == PAYLOADS["text beyond ASCII"]


@pytest.mark.parametrize("name", ["duplicate keys", "depth 1024", "lone surrogates", "beyond a double"])
def test_a_dead_letter_is_the_same_bytes(api: httpx.Client, messages: Messages, name: str) -> None:
    dead = Queue(api, lease_ms=30_000)
    queue = Queue(api, dead_letter_queue=dead.name)
    message_id = send_rest(queue, PAYLOADS[name])
    taken = api.get(queue.path + "/messages/consume").content
    messages.settle(message_id, "nack", lease=json.loads(member(taken, "lease")))
    assert member(api.get(dead.path + "/messages/consume").content, "content") == PAYLOADS[name]


def test_a_memory_queue_keeps_the_bytes_too(
    api: httpx.Client, messages: Messages, connect: Callable[..., Socket]
) -> None:
    for name in ("duplicate keys", "white space inside", "lone surrogates", "depth 1024", "huge integer"):
        queue = Queue(api, durability="memory")
        check_everywhere(queue, messages, send_rest(queue, PAYLOADS[name]), connect, PAYLOADS[name])


def test_the_same_value_in_other_bytes_is_other_content(queue: Queue) -> None:
    """Content is opaque: one space more is another message, at least it is not silently replaced."""
    path = queue.path + "/messages"
    first = queue.api.post(path, content=b'{"content":[1,2],"dedup_id":"d"}', headers=JSON)
    again = queue.api.post(path, content=b'{"content":[1,2],"dedup_id":"d"}', headers=JSON)
    other = queue.api.post(path, content=b'{"content":[2,1],"dedup_id":"d"}', headers=JSON)
    assert (first.status_code, again.status_code) == (201, 200)
    check_refusal(other, "invalid")


# ---- raw bytes

RAW = {
    "every byte": bytes(range(256)),
    "one byte": b"\x00",
    "text": "é ☃\n".encode(),
    "not UTF-8": b"\xff\xfe\x00\xc3(",
    "looks like JSON": b'{"a": 1,  "a": 2}',
    "exactly 1 MiB": bytes(range(256)) * (MIB // 256),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_bytes_come_out_of_every_door(
    queue: Queue, messages: Messages, connect: Callable[..., Socket], name: str
) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    reply = queue.api.post(queue.path + "/messages", content=RAW[name], headers=headers)
    assert reply.status_code == 201, reply.text
    message_id = reply.json()["message_id"]
    shown = [messages.get(message_id), queue.browse()[0], queue.take()]
    messages.nack(shown[-1], requeue=True, delay_ms=0)
    shown += queue.take_many(1)
    messages.nack(shown[-1], requeue=True, delay_ms=0)
    socket = connect()
    socket.ok("subscribe", queue=queue.name)
    shown += socket.deliveries(1)
    for message in shown:
        assert message["content"] is None
        assert message["content_type"] == "application/octet-stream"
        assert base64.b64decode(message["content_base64"], validate=True) == RAW[name]


# ---- limits


def refused_everywhere(queue: Queue, ws: Socket, raw: bytes, code: str) -> None:
    path = queue.path + "/messages"
    for url, content in [
        (path, b'{"content":' + raw + b"}"),
        (path + "/batch", b'{"messages":[{"content":1},{"content":' + raw + b"}]}"),
        ("/publish", f'{{"queue":"{queue.name}","content":'.encode() + raw + b"}"),
    ]:
        check_refusal(queue.api.post(url, content=content, headers=JSON), code)
    ws.send_raw(socket_publish(queue, raw).decode())
    answer = ws.op("error")
    assert answer["id"] == "p" or len(raw) >= 100_000  # nobody need look for an id in what is beyond all measure
    check_problem(answer["problem"], code)


def test_one_byte_more_than_a_mebibyte_is_too_large(queue: Queue, ws: Socket) -> None:
    queue.publish("here before")
    refused_everywhere(queue, ws, b'"' + b"y" * (MIB - 1) + b'"', "too_large")
    headers = {"Content-Type": "application/octet-stream"}
    check_refusal(queue.api.post(queue.path + "/messages", content=bytes(MIB + 1), headers=headers), "too_large")
    assert queue.counts()["pending"] == 1


def test_a_mebibyte_counts_bytes_and_not_letters(queue: Queue, ws: Socket) -> None:
    queue.publish("here before")
    refused_everywhere(queue, ws, b'"' + "é".encode() * (MIB // 2) + b'"', "too_large")
    send_rest(queue, b'"' + "é".encode() * (MIB // 2 - 1) + b'"')


def test_white_space_around_a_mebibyte_does_not_count(queue: Queue) -> None:
    send_spaced(queue, PAYLOADS["exactly 1 MiB"])


@pytest.mark.parametrize(
    "raw",
    [nested(1025), nested(1025, b"1"), nested_objects(1025), nested(5000), nested(100_000)],
    ids=["1025", "1025 around a number", "1025 objects", "5000", "100000"],
)
def test_one_level_deeper_than_1024_is_invalid(queue: Queue, ws: Socket, raw: bytes) -> None:
    queue.publish("here before")
    refused_everywhere(queue, ws, raw, "invalid")
    assert queue.counts()["pending"] == 1


def test_depth_outside_of_content_never_breaks_anything(api: httpx.Client, queue: Queue) -> None:
    queue.publish("here before")
    for content in (nested(100_000), b'{"a":' * 100_000, b'{"content":1,"headers":' + nested(3000) + b"}"):
        reply = api.post(queue.path + "/messages", content=content, headers=JSON)
        check_refusal(reply, {"invalid", "malformed"})
