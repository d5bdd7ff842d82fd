"""JSON as the broker takes it: strict outside, content byte for byte, and pointers to what is wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from streambroker.core.errors import BrokerError, Invalid, Malformed, TooLarge
from streambroker.core.message import Attributes
from streambroker.core.names import QueueName
from streambroker.core.policy import QueueConfig
from streambroker.protocol.json import MAX_DEPTH, JsonDecoder, check_depth
from streambroker.protocol.messages import DraftIn, Label, Limits, digest, draft
from streambroker.transport.user_schemas import Username

NOW = 1_700_000_000_000


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[DraftIn]


one = JsonDecoder[DraftIn](DraftIn)
many = JsonDecoder[Batch](Batch)


def content_of(text: bytes) -> bytes:
    return made(b'{"content":%b}' % text).content


def made(text: bytes, config: QueueConfig | None = None, **options: Any) -> Any:
    return draft(one(text), 1, config or QueueConfig(), Limits(), NOW, **options)


def refusal(text: bytes, decoder: Any = one) -> BrokerError:
    with pytest.raises(BrokerError) as refused:
        decoder(text)
    return refused.value


def pointers(error: BrokerError) -> list[str]:
    return [each.pointer for each in error.errors]


# -- content


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b"1E400",
        b"-0.0",
        b"123456789012345678901234567890",
        b'{"b":1, "a" : 2,"b":3}',
        b'"\\u00e9\\/\\ud83d\\ude00"',
        '"é😀"'.encode(),
        b'"\\ud800"',
        b'["\\udfff", "\\uD83D", {"\\ud800": "\\ud83d\\ude00\\ud83d"}]',
        b'"\\\\ud800"',
        b'"\\\\\\ud800"',
        b'"lone-0000-ud800;"',
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'"' + b"[{" * 2_000 + b'"',
    ],
    ids=lambda text: text[:24].decode(),
)
def test_content_comes_out_byte_for_byte(text: bytes) -> None:
    assert content_of(text) == text
    first, second = many(b'{"messages":[{"content":%b},{"content":1}]}' % text).messages
    assert (first.content, second.content) == (msgspec.Raw(text), msgspec.Raw(b"1"))


def test_two_lone_surrogates_in_different_messages_stay_where_they_were() -> None:
    text = b'{"messages":[{"content":"\\ud800"},{"content":{"k":["\\udc00"]}},{"key":"\\ud83d\\ude00","content":2}]}'
    batch = many(text)
    contents = [b'"\\ud800"', b'{"k":["\\udc00"]}', b"2"]
    assert [m.content for m in batch.messages] == [msgspec.Raw(content) for content in contents]
    assert batch.messages[2].key == "😀"


@pytest.mark.parametrize("field", ["key", "dedup_id", "correlation_id", "reply_to", "content_type", "traceparent"])
def test_half_a_surrogate_pair_is_refused_everywhere_but_in_content(field: str) -> None:
    error = refusal(b'{"content":1,"%b":"x\\ud800"}' % field.encode())
    assert isinstance(error, Invalid)
    assert pointers(error) == [f"/{field}"]
    error = refusal(b'{"messages":[{"content":"\\ud800"},{"content":1,"%b":"\\udc00"}]}' % field.encode(), many)
    assert pointers(error) == [f"/messages/1/{field}"]


@pytest.mark.parametrize("headers", [b'{"a":"\\ud800"}', b'{"\\ud800":1}'])
def test_half_a_surrogate_pair_is_refused_in_headers(headers: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        made(b'{"content":1,"headers":%b}' % headers)
    assert all(pointer.startswith("/headers") for pointer in pointers(refused.value))


def test_what_is_not_json_is_malformed_also_beside_half_a_surrogate_pair() -> None:
    for text in (b"", b"{", b"{'a':1}", b'{"content":1}x', b'{"content":NaN}', b'{"content":"\\ud800"', b'"\xff"'):
        assert isinstance(refusal(text), Malformed), text
    for text in (b'{"content":1,}', b'{"content":"\\x"}', b'{"content":01}'):
        assert isinstance(refusal(text), Malformed), text


def test_bytes_that_are_no_utf_8_are_malformed_wherever_they_stand() -> None:
    for text in (b'{"content":"\xff"}', b'{"content":1,"key":"\xc3"}', b'{"content":"\xed\xa0\x80"}'):
        assert isinstance(refusal(text), Malformed)


# -- depth


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["arrays", "objects"])
def test_content_nests_so_deep_and_no_deeper(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> bytes:
        inner = b"1" if opening != b"[" else b""
        return opening * depth + inner + closing * depth

    assert content_of(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 100_000):
        error = refusal(b'{"content":%b}' % nested(depth))
        assert isinstance(error, Invalid)
    error = refusal(b'{"messages":[{"content":1},{"content":%b}]}' % nested(MAX_DEPTH + 1), many)
    assert pointers(error) == ["/messages/1/content"]


def test_brackets_in_strings_and_beside_each_other_are_no_depth() -> None:
    check_depth(b'["' + b"[" * 5_000 + b'"]')
    check_depth(b'["\\"' + b"[" * 5_000 + b'"]')
    check_depth(b"[" + b"[]," * 5_000 + b"1]")
    with pytest.raises(Invalid):
        check_depth(b'["\\\\",' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]")


# -- pointers


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'{"content":1,"priority":10}', "/priority"),
        (b'{"content":1,"priority":"5"}', "/priority"),
        (b'{"content":1,"nonsense":5}', "/nonsense"),
        (b'{"content":1,"a/b~c":5}', "/a~1b~0c"),
        (b'{"content":1,"key":"a\\u0000"}', "/key"),
        (b'{"content":1,"key":""}', "/key"),
        (b'{"content":1,"available_at":"2026-01-01T00:00:00"}', "/available_at"),
        (b"[]", ""),
    ],
)
def test_a_value_that_does_not_fit_is_pointed_at(text: bytes, pointer: str) -> None:
    error = refusal(text)
    assert isinstance(error, Invalid)
    assert pointers(error) == [pointer]
    assert (pointer or "the body") in error.detail


def test_a_value_deep_inside_is_pointed_at_by_its_index() -> None:
    error = refusal(b'{"messages":[{"content":1},{"content":1,"delay_ms":-1}]}', many)
    assert pointers(error) == ["/messages/1/delay_ms"]
    assert pointers(refusal(b"{}", many)) == ["/messages"]


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b"{}", "/content"),
        (b'{"content":1,"content_base64":""}', "/content_base64"),
        (b'{"content_base64":"a"}', "/content_base64"),
        (b'{"content_base64":"a b="}', "/content_base64"),
        (b'{"content_base64":"-_-_"}', "/content_base64"),
        (b'{"content":1,"delay_ms":1,"available_at":"2026-01-01T00:00:00Z"}', "/available_at"),
        (b'{"content":1,"headers":[]}', "/headers"),
        (b'{"content":1,"headers":{"a":[]}}', "/headers"),
        (b'{"content":1,"headers":{"a":"\\u0000"}}', "/headers/a"),
    ],
)
def test_members_that_do_not_go_together_are_pointed_at_in_their_place(text: bytes, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        made(text, at="/messages/7")
    assert all(each.startswith("/messages/7" + pointer) for each in pointers(refused.value))


# -- drafts


def test_base64_stands_for_bytes_of_at_most_the_limit() -> None:
    limits = Limits(1_024)
    for size, fits in ((1_024, True), (1_025, False)):
        given = one(json.dumps({"content_base64": base64.b64encode(b"\xff" * size).decode()}).encode())
        if fits:
            stored = draft(given, 1, QueueConfig(), limits, NOW)
            assert stored.content == b"\xff" * size
            assert msgspec.json.decode(stored.attributes or b"{}", type=Attributes).binary
        else:
            with pytest.raises(TooLarge):
                draft(given, 1, QueueConfig(), limits, NOW)


def test_times_count_from_now_and_the_shorter_life_is_the_one() -> None:
    config = QueueConfig(message_ttl_ms=500)
    assert made(b'{"content":1,"delay_ms":10}').available_at == NOW + 10
    assert made(b'{"content":1,"delay_ms":0}').available_at is None
    assert made(b'{"content":1,"ttl_ms":0}').expires_at is None
    assert made(b'{"content":1,"ttl_ms":100}', config).expires_at == NOW + 100
    assert made(b'{"content":1,"ttl_ms":900}', config).expires_at == NOW + 500
    assert made(b'{"content":1,"ttl_ms":0}', config).expires_at == NOW + 500
    assert made(b'{"content":1,"available_at":"2023-11-14T23:13:20.5+01:00"}').available_at == NOW + 500


def test_a_message_that_carries_nothing_has_no_attributes() -> None:
    assert made(b'{"content":1,"headers":null,"priority":3,"key":"k"}').attributes is None
    assert made(b'{"content":1}', trace="00-1").attributes is not None


def test_a_digest_tells_contents_apart_and_nothing_else() -> None:
    assert digest(made(b'{"content":1,"priority":1}')) == digest(made(b'{"content":1}'))
    assert digest(made(b'{"content":1}')) != digest(made(b'{"content":1.0}'))


@pytest.mark.parametrize(
    ("kind", "told"),
    [(QueueName, "a queue's name is 1 to 128 of"), (Username, "a user's name is 1 to 128 of"), (Label, "holds a NUL")],
    ids=["a queue's name", "a user's name", "a label"],
)
def test_a_text_of_the_wrong_form_is_told_in_words(kind: Any, told: str) -> None:
    with pytest.raises(Invalid, match=rf"^/0: {told}") as caught:
        JsonDecoder(list[kind])(b'["a \\u0000"]')
    assert "regex" not in caught.value.detail
    assert [fault.pointer for fault in caught.value.errors] == ["/0"]
