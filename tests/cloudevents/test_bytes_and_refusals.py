"""What is kept byte for byte, and what is refused: by the name of the attribute that is wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tests.wire.doors import Queue
from tests.wire.problems import check_refusal

pytestmark = pytest.mark.system

STRUCTURED = {"Content-Type": "application/cloudevents+json"}
REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
HEADERS = {f"ce-{name}": value for name, value in REQUIRED.items()}


def structured(queue: Queue, body: bytes, **headers: str) -> httpx.Response:
    return queue.api.post(f"{queue.path}/messages", content=body, headers={**STRUCTURED, **headers})


def binary(queue: Queue, body: bytes = b"1", media: str | None = "application/json", **more: Any) -> httpx.Response:
    """Publish in binary mode; `more` are attributes, None takes one away. Values go out as they are."""
    given = {**HEADERS, **{f"ce-{name}": value for name, value in more.items()}}
    fields = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in given.items()
              if value is not None]  # fmt: skip
    if media is not None:
        fields.append((b"content-type", media.encode()))
    return queue.api.post(f"{queue.path}/messages", content=body, headers=fields)


def with_data(text: str, **more: Any) -> bytes:
    """An event whose data is that JSON text."""
    return json.dumps({**REQUIRED, **more}).encode()[:-1] + f',"data":{text}}}'.encode()


def pointer(reply: httpx.Response, code: str = "invalid") -> str:
    found: str = check_refusal(reply, code)["errors"][0]["pointer"]
    return found


# -- bytes -------------------------------------------------------------------------------------------------------------

TEXTS = [
    '{"b":1,"a":[1.0,1e400,123456789012345678901234567890]}',
    '{ "white" :\t"space" ,\n"a":1}',
    '"\\u00fc\\ud83d\\ude00 and \\/"',
    '{"half":"\\ud800"}',
    "null",
    "[]",
    '{"a":1,"a":2}',
]


@pytest.mark.parametrize("text", TEXTS)
def test_json_data_is_kept_byte_for_byte(queue: Queue, text: str) -> None:
    assert structured(queue, with_data(text)).status_code == 201
    assert binary(queue, text.encode(), id="2").status_code == 201
    for _ in range(2):
        taken = queue.api.get(f"{queue.path}/messages/consume", params={"format": "cloudevents-binary"})
        assert taken.content == text.encode()
        looked = queue.api.get(f"/messages/{taken.headers['x-message-id']}", params={"format": "cloudevents"})
        assert f'"data":{text}'.encode() in looked.content


def test_the_white_space_around_a_body_is_kept_too(queue: Queue) -> None:
    binary(queue, b' \n{"a":1}\r\n ')
    taken = queue.api.get(f"{queue.path}/messages/consume", params={"format": "cloudevents-binary"})
    assert taken.content == b' \n{"a":1}\r\n '


def test_bytes_are_kept_whatever_they_are_said_to_be(queue: Queue) -> None:
    data = bytes(range(256))
    body = json.dumps({**REQUIRED, "datacontenttype": "text/plain", "data_base64": base64.b64encode(data).decode()})
    assert structured(queue, body.encode()).status_code == 201
    taken = queue.api.get(f"{queue.path}/messages/consume", params={"format": "cloudevents"}).json()
    assert base64.b64decode(taken["data_base64"]) == data


def test_bytes_that_are_json_stay_bytes(queue: Queue) -> None:
    body = json.dumps({**REQUIRED, "datacontenttype": "application/json", "data_base64": "eyJhIjoxfQ=="})
    structured(queue, body.encode())
    taken = queue.api.get(f"{queue.path}/messages/consume", params={"format": "cloudevents"}).json()
    assert (taken["data_base64"], "data" in taken) == ("eyJhIjoxfQ==", False)


def test_attributes_keep_their_types_in_json(queue: Queue) -> None:
    structured(queue, json.dumps({**REQUIRED, "yes": True, "number": -5, "text": "5", "none": None}).encode())
    path = f"/messages/{queue.browse()[0]['message_id']}"
    seen = queue.api.get(path, params={"format": "cloudevents"}).json()
    assert seen == {**REQUIRED, "yes": True, "number": -5, "text": "5"}
    headers = queue.api.get(path, params={"format": "cloudevents-binary"}).headers
    assert (headers["ce-yes"], headers["ce-number"], "ce-none" in headers) == ("true", "-5", False)
    assert "content-type" not in headers


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("a%20b", "a b"),
        ("%C3%BC%E2%82%AC%F0%9D%84%9E", "ü€𝄞"),
        ('"quoted \\"text\\" and \\\\"', 'quoted "text" and \\'),
        ("100%25", "100%"),
        ("100%2525", "100%25"),
        ("%zz", "%zz"),
        ("ü".encode(), "ü"),
        ("two  words", "two  words"),
    ],
)
def test_a_header_is_read_as_the_binding_says(queue: Queue, sent: str | bytes, meant: str) -> None:
    assert binary(queue, subject=sent).status_code == 201
    assert queue.take()["headers"]["ce-subject"] == meant


def test_nothing_of_an_attribute_gets_out_of_its_header(queue: Queue) -> None:
    forged = {**HEADERS, "ce-type": "a\r\nSet-Cookie: x"}
    queue.publish(1, headers=forged, correlation_id="a\r\nSet-Cookie: x", reply_to="ü")
    taken = queue.api.get(f"{queue.path}/messages/consume", params={"format": "cloudevents-binary"})
    assert "set-cookie" not in taken.headers
    assert taken.headers["ce-type"] == "streambroker.message"  # a type with control characters makes no event
    assert taken.headers["x-message-correlation-id"] == "a%0D%0ASet-Cookie:%20x"
    assert taken.headers["x-message-reply-to"] == "%C3%BC"


# -- refusals ----------------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, Any]] = [
    *((name, None) for name in REQUIRED),
    *((name, "") for name in (*REQUIRED, "subject", "time", "dataschema")),
    *(("specversion", version) for version in ("0.3", "1.1", "1")),
    *(("source", source) for source in ("a b", "<x>", "/%zz")),
    *(("time", time) for time in ("yesterday", "2026-11-22", "2026-11-22T10:13:00", "2026-13-01T00:00:00Z")),
    *(("dataschema", uri) for uri in ("/relative", "no scheme")),
    ("subject", "control\u0085character"),
    ("subject", "no character\uffff"),
    ("Upper", "x"),
    ("under_score", "x"),
    ("dash-ed", "x"),
    ("partitionkey", "x" * 513),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_bad_attribute_is_named(queue: Queue, name: str, value: Any) -> None:
    fields = {**REQUIRED, name: value}
    assert pointer(structured(queue, json.dumps(fields).encode())) == f"/{name}"
    if name.islower() and (name, value) != ("source", "/%zz"):  # which in a header is a percent sign
        sent = value if value is None else httpx.QueryParams({"": value}).__str__()[1:].replace("+", "%20")
        assert (
            pointer(binary(queue, b"1", "application/json", **{name: sent})).removeprefix("/ce-").removeprefix("/")
            == name
        )
    assert queue.api.get(queue.path).json()["counts"]["pending"] == 0


@pytest.mark.parametrize("value", [1.5, {"a": 1}, [1], 2**31, -(2**31) - 1, "\ud800"])
def test_an_extension_holds_a_string_an_integer_or_a_boolean(queue: Queue, value: Any) -> None:
    assert pointer(structured(queue, json.dumps({**REQUIRED, "ext": value}).encode())) == "/ext"


@pytest.mark.parametrize("name", [*REQUIRED, "subject", "time"])
def test_an_attribute_of_the_specification_is_a_string(queue: Queue, name: str) -> None:
    assert pointer(structured(queue, json.dumps({**REQUIRED, name: 1}).encode())) == f"/{name}"


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"data": 1, "data_base64": "MQ=="}, "/data_base64"),
        ({"data_base64": "not base64"}, "/data_base64"),
        ({"data_base64": 1}, "/data_base64"),
        ({"datacontenttype": "text/plain", "data": {"a": 1}}, "/data"),
        ({"datacontenttype": "nonsense", "data": 1}, "/datacontenttype"),
        ({"datacontenttype": 1, "data": 1}, "/datacontenttype"),
    ],
)
def test_bad_data_is_named(queue: Queue, more: dict[str, Any], at: str) -> None:
    assert pointer(structured(queue, json.dumps({**REQUIRED, **more}).encode())) == at


def test_what_is_no_utf8_in_a_header_is_named(queue: Queue) -> None:
    assert pointer(binary(queue, subject="%ff")) == "/ce-subject"
    assert pointer(binary(queue, subject=b"\xff")) == "/ce-subject"


def test_the_type_of_the_data_is_no_attribute_of_its_own_in_headers(queue: Queue) -> None:
    assert pointer(binary(queue, datacontenttype="text/plain")) == "/ce-datacontenttype"


@pytest.mark.parametrize("body", [b"", b"no json", b"[1", b"\xff"])
def test_what_is_no_json_is_malformed(queue: Queue, body: bytes) -> None:
    check_refusal(structured(queue, body), "malformed")
    if body:
        check_refusal(binary(queue, body), "malformed")
        check_refusal(binary(queue, body, media=None), "malformed")


@pytest.mark.parametrize("body", [b"1,2", b"1],[2", b'1,"a":2', b"{}{}"])
def test_a_body_is_one_json_value(queue: Queue, body: bytes) -> None:
    check_refusal(binary(queue, body), "malformed")


def test_an_event_is_an_object_and_a_batch_an_array(queue: Queue) -> None:
    assert structured(queue, b"[]").status_code == 422
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    assert queue.api.post(f"{queue.path}/messages", content=with_data("1"), headers=batch).status_code == 422
    many = b"[%b]" % b",".join([with_data("1")] * 1_001)
    assert queue.api.post(f"{queue.path}/messages", content=many, headers=batch).status_code == 422
    assert queue.api.get(queue.path).json()["counts"]["pending"] == 0


@pytest.mark.parametrize(
    "media", ["application/cloudevents", "application/cloudevents+xml", "application/cloudevents+avro"]
)
def test_other_formats_of_events_are_not_taken_for_content(queue: Queue, media: str) -> None:
    check_refusal(structured(queue, b"<event/>", **{"Content-Type": media}), "unsupported_media_type")


def test_a_single_event_is_no_batch(queue: Queue) -> None:
    reply = queue.api.post(f"{queue.path}/messages/batch", content=with_data("1"), headers=STRUCTURED)
    check_refusal(reply, "unsupported_media_type")


def test_data_is_bounded_in_size_and_depth(queue: Queue) -> None:
    assert structured(queue, with_data('"%s"' % ("x" * 1_048_577))).status_code == 413
    deep = "[" * 1_025 + "]" * 1_025
    assert pointer(structured(queue, with_data(deep))) == "/data"
    assert check_refusal(binary(queue, deep.encode()), "invalid")
    assert structured(queue, with_data("[" * 1_023 + "]" * 1_023)).status_code == 201


def test_headers_for_attributes_cannot_be_given_twice(queue: Queue) -> None:
    reply = binary(queue, id="7")
    assert reply.status_code == 201
    forged = {"X-Message-Headers": '{"ce-id":"8"}'}
    assert pointer(structured(queue, with_data("1"), **forged)) == "/x-message-headers"


# -- what it does not touch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, application/cloudevents+json;q=0.9", "application/json"),
        ("application/cloudevents+json;q=0", "application/json"),
        ("application/cloudevents+json", "application/cloudevents+json; charset=utf-8"),
        ("application/json, application/cloudevents+json", "application/cloudevents+json; charset=utf-8"),
        ("APPLICATION/CLOUDEVENTS+JSON ; q=0.5", "application/cloudevents+json; charset=utf-8"),
    ],
)
def test_an_event_comes_to_who_asks_for_one(queue: Queue, accept: str | None, media: str) -> None:
    queue.publish(1)
    headers = {} if accept is None else {"Accept": accept}
    reply = queue.api.get(f"{queue.path}/messages/consume", headers=headers)
    assert reply.headers["content-type"] == media


@pytest.mark.parametrize("path", ["{queue}/messages/consume", "/messages/{id}"])
def test_a_format_that_there_is_not_is_named(queue: Queue, path: str) -> None:
    path = path.format(queue=queue.path, id=queue.publish(1))
    assert pointer(queue.api.get(path, params={"format": "xml"})) == "/format"


@pytest.mark.parametrize("media", ["text/plain\r\nX-Evil: 1", "text/plain; a=\x0b", "text/plain; ü", " ", ""])
def test_a_media_type_that_is_no_header_neither_adds_one_nor_spoils_the_answer(queue: Queue, media: str) -> None:
    """Whoever publishes plain messages may call their type anything; whoever consumes them as events must get them."""
    given = {"content_base64": "AAAA", "content_type": media}
    if (published := queue.api.post(f"{queue.path}/messages", json=given)).status_code == 422:
        return
    assert published.status_code == 201
    answer = queue.api.get(f"{queue.path}/messages/consume", params={"format": "cloudevents-binary"})
    assert (answer.status_code, answer.content, "x-evil" in answer.headers) == (200, b"\0\0\0", False)
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("media", ["text/plain; \x0bX\x07", "text/plain; a=\x7f", "text/plain;\n"])
def test_control_characters_in_a_media_type_are_refused(queue: Queue, media: str) -> None:
    assert pointer(structured(queue, with_data('"x"', datacontenttype=media))) == "/datacontenttype"
