"""Every way to get a REST request wrong, and the exact problem it is answered with (contract §1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.wire import bad_values
from tests.wire.bad_values import BAD_NAMES, BAD_NAMES_IN_A_PATH, Row, laid_over, row_id
from tests.wire.doors import JSON, Messages, Queue, body
from tests.wire.problems import check_refusal

# ---- every path and method: (method, path, a good body or None, is a body due)
GOOD_DRAFT = {"content": {"n": 1}}
ENDPOINTS: list[tuple[str, str, Any, bool]] = [
    ("POST", "/queues", {"name": "other"}, True),
    ("GET", "/queues", None, False),
    ("GET", "/queues/{q}", None, False),
    ("PATCH", "/queues/{q}", {"lease_ms": 30_000}, True),
    ("DELETE", "/queues/{q}", None, False),
    ("POST", "/queues/{q}/purge", {"status": "pending"}, False),
    ("POST", "/queues/{q}/pause", None, False),
    ("POST", "/queues/{q}/resume", None, False),
    ("POST", "/queues/{q}/redrive", {"from": "failed"}, False),
    ("POST", "/queues/{q}/messages", GOOD_DRAFT, True),
    ("GET", "/queues/{q}/messages", None, False),
    ("POST", "/queues/{q}/messages/batch", {"messages": [GOOD_DRAFT]}, True),
    ("GET", "/queues/{q}/messages/consume", None, False),
    ("POST", "/queues/{q}/messages/consume", {"max": 1}, False),
    ("POST", "/consume", {"queues": ["nobody-home"], "max": 1, "wait_ms": 0}, True),
    ("POST", "/publish", {"queue": "somewhere", **GOOD_DRAFT}, True),
    ("GET", "/messages/{id}", None, False),
    ("DELETE", "/messages/{id}", None, False),
    ("POST", "/messages/{id}/ack", {}, False),
    ("POST", "/messages/{id}/nack", {}, False),
    ("POST", "/messages/{id}/extend", {"lease_ms": 1000}, True),
    ("POST", "/messages/ack", {"items": [{"message_id": "m", "lease": "l"}]}, True),
    ("POST", "/messages/nack", {"items": [{"message_id": "m", "lease": "l"}]}, True),
    ("POST", "/messages/extend", {"items": [{"message_id": "m", "lease": "l", "lease_ms": 1}]}, True),
    ("GET", "/stats", None, False),
]
OPEN_ENDPOINTS: list[tuple[str, str, Any, bool]] = [
    ("POST", "/login", {"username": "admin", "password": "wrong"}, True),
    ("POST", "/refresh", {"refresh_token": "none"}, True),
]
WITH_BODY = [row for row in [*ENDPOINTS, *OPEN_ENDPOINTS] if row[2] is not None]
# A publish takes what is not JSON as raw bytes; the alias has the queue in its body.
JSON_ONLY = [row for row in WITH_BODY if row[1] not in ("/queues/{q}/messages", "/publish")]


def endpoint_id(row: Any) -> str:
    return f"{row[0]} {row[1]}" if isinstance(row, tuple) else str(row)


@pytest.fixture(scope="module")
def place(api: httpx.Client) -> dict[str, str]:
    """A queue and one of its messages for requests that must change nothing."""
    queue = Queue(api, lease_ms=30_000)  # a name of its own: pytest-xdist may come to this module more than once
    return {"q": queue.name, "id": queue.publish()}


@pytest.fixture(autouse=True)
def nothing_is_changed_by_a_refused_request(api: httpx.Client, place: dict[str, str]) -> Iterator[None]:
    yield
    reply = api.get("/queues/" + place["q"])
    assert reply.json()["counts"] == {"pending": 1, "delayed": 0, "processing": 0, "processed": 0, "failed": 0}


def path_of(template: str, place: dict[str, str]) -> str:
    return template.format(**place)


# ---- who you are: before everything else


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=endpoint_id)
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer x.y.z", "Bearer sbk_nope", "Basic YWRtaW46eA=="])
def test_who_does_not_say_who_he_is_gets_401(
    stranger: httpx.Client, place: dict[str, str], endpoint: tuple[str, str, Any, bool], authorization: str | None
) -> None:
    method, template, good, _ = endpoint
    headers = {**JSON} if authorization is None else {**JSON, "Authorization": authorization}
    content = None if good is None else body(good)
    reply = stranger.request(method, path_of(template, place), content=content, headers=headers)
    check_refusal(reply, "unauthenticated")


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/queues", b"{"),
        ("POST", "/queues", b""),
        ("POST", "/queues", b'{"name": "not a name"}'),
        ("POST", "/queues/-bad-/messages", b"{"),
        ("GET", "/queues/no-such-queue", None),
        ("GET", "/messages/no-such-message", None),
        ("POST", "/messages/no-such-message/ack", b"["),
        ("POST", "/queues/q/messages", b'{"content": "' + b"x" * 1_100_000 + b'"}'),
    ],
)
def test_identity_is_checked_before_the_request_itself(
    stranger: httpx.Client, method: str, path: str, content: bytes | None
) -> None:
    check_refusal(stranger.request(method, path, content=content, headers=JSON), "unauthenticated")


@pytest.mark.parametrize("name", ["token", "access_token", "api_key"])
@pytest.mark.parametrize("path", ["/queues", "/stats", "/queues/{q}", "/queues/{q}/messages/consume"])
def test_a_token_in_the_query_string_is_refused(
    api: httpx.Client, token: str, place: dict[str, str], name: str, path: str
) -> None:
    reply = api.get(path_of(path, place), params={name: token})
    problem = check_refusal(reply, "malformed")
    assert token not in json.dumps(problem)


def test_a_token_in_the_query_string_does_not_log_anybody_in(stranger: httpx.Client, token: str) -> None:
    reply = stranger.get("/queues", params={"access_token": token})
    check_refusal(reply, {"malformed", "unauthenticated"})
    assert token not in reply.text


# ---- what you may see: before the request itself


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/queues/no-such-queue", None),
        ("DELETE", "/queues/no-such-queue", None),
        ("PATCH", "/queues/no-such-queue", b'{"lease_ms": 1000}'),
        ("PATCH", "/queues/no-such-queue", b'{"lease_ms": "x"}'),
        ("POST", "/queues/no-such-queue/purge", b'{"status": "failed"}'),
        ("POST", "/queues/no-such-queue/pause", None),
        ("POST", "/queues/no-such-queue/resume", None),
        ("POST", "/queues/no-such-queue/redrive", b"{}"),
        ("GET", "/queues/no-such-queue/messages", None),
        ("GET", "/messages/no-such-message", None),
        ("GET", "/messages/%00", None),
        ("GET", "/messages/" + "9" * 400, None),
        ("DELETE", "/messages/no-such-message", None),
        ("POST", "/messages/no-such-message/ack", None),
        ("POST", "/messages/no-such-message/ack", b'{"lease": "x"}'),
        ("POST", "/messages/no-such-message/nack", b'{"requeue": true}'),
        ("POST", "/messages/no-such-message/extend", b'{"lease_ms": 1000}'),
        ("GET", "/no/such/path", None),
        ("GET", "/queues/a/b/c/d", None),
        ("POST", "/queues/a/messages/consume/more", b"{}"),
        ("GET", "/v1", None),
        ("GET", "/v1/nothing", None),
        ("GET", "/v1/v1/queues", None),
        ("GET", "/v2/queues", None),
    ],
)
def test_what_is_not_there_is_not_found(api: httpx.Client, method: str, path: str, content: bytes | None) -> None:
    check_refusal(api.request(method, path, content=content, headers=JSON if content else None), "not_found")


# ---- the request itself: its method, type, form and size

METHODS = [
    ("GET", "/login", {"POST"}),
    ("GET", "/refresh", {"POST"}),
    ("POST", "/healthz", {"GET"}),
    ("DELETE", "/readyz", {"GET"}),
    ("POST", "/stats", {"GET"}),
    ("POST", "/openapi.json", {"GET"}),
    ("DELETE", "/queues", {"GET", "POST"}),
    ("PUT", "/queues", {"GET", "POST"}),
    ("POST", "/queues/{q}", {"GET", "PATCH", "DELETE"}),
    ("PUT", "/queues/{q}", {"GET", "PATCH", "DELETE"}),
    ("GET", "/queues/{q}/purge", {"POST"}),
    ("PUT", "/queues/{q}/pause", {"POST"}),
    ("GET", "/queues/{q}/resume", {"POST"}),
    ("DELETE", "/queues/{q}/redrive", {"POST"}),
    ("PUT", "/queues/{q}/messages", {"GET", "POST"}),
    ("DELETE", "/queues/{q}/messages", {"GET", "POST"}),
    ("GET", "/queues/{q}/messages/batch", {"POST"}),
    ("DELETE", "/queues/{q}/messages/consume", {"GET", "POST"}),
    ("GET", "/consume", {"POST"}),
    ("GET", "/publish", {"POST"}),
    ("PUT", "/messages/{id}", {"GET", "DELETE"}),
    ("POST", "/messages/{id}", {"GET", "DELETE"}),
    ("GET", "/messages/{id}/ack", {"POST"}),
    ("DELETE", "/messages/{id}/nack", {"POST"}),
    ("PUT", "/messages/{id}/extend", {"POST"}),
    ("PATCH", "/messages/{id}/ack", {"POST"}),
]


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize(("method", "template", "allowed"), METHODS)
def test_a_method_that_a_path_does_not_have_gets_405_and_the_ones_it_has(
    api: httpx.Client, place: dict[str, str], prefix: str, method: str, template: str, allowed: set[str]
) -> None:
    reply = api.request(method, prefix + path_of(template, place))
    check_refusal(reply, "method_not_allowed")
    assert {m.strip() for m in reply.headers["allow"].split(",")} - {"HEAD", "OPTIONS"} == allowed


NOT_JSON = [b"{", b"}", b'{"a": 1} x', b"{'a': 1}", b'{"a": NaN}', b'{"a": 01}', b'{"a": "\xff"}', b"\x00", b"hello"]


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=endpoint_id)
@pytest.mark.parametrize("content", NOT_JSON)
def test_what_is_not_json_is_malformed(
    api: httpx.Client, place: dict[str, str], endpoint: tuple[str, str, Any, bool], content: bytes
) -> None:
    method, template, _, _ = endpoint
    reply = api.request(method, path_of(template, place), content=content, headers=JSON)
    check_refusal(reply, "malformed")


@pytest.mark.parametrize("endpoint", [row for row in WITH_BODY if row[3]], ids=endpoint_id)
@pytest.mark.parametrize("content", [b"", b"  \n"])
def test_nothing_where_a_body_is_due_is_malformed(
    api: httpx.Client, place: dict[str, str], endpoint: tuple[str, str, Any, bool], content: bytes
) -> None:
    method, template, _, _ = endpoint
    check_refusal(api.request(method, path_of(template, place), content=content, headers=JSON), "malformed")


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=endpoint_id)
@pytest.mark.parametrize("content", [b"[]", b"5", b'"x"', b"true", b"[{}]"])
def test_json_that_is_not_an_object_is_invalid(
    api: httpx.Client, place: dict[str, str], endpoint: tuple[str, str, Any, bool], content: bytes
) -> None:
    method, template, _, _ = endpoint
    check_refusal(api.request(method, path_of(template, place), content=content, headers=JSON), "invalid")


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=endpoint_id)
def test_an_unknown_field_is_named(
    api: httpx.Client, place: dict[str, str], endpoint: tuple[str, str, Any, bool]
) -> None:
    method, template, good, _ = endpoint
    content = body({**good, "no_such_field": 1})
    reply = api.request(method, path_of(template, place), content=content, headers=JSON)
    check_refusal(reply, "invalid", pointer="/no_such_field")


@pytest.mark.parametrize("endpoint", JSON_ONLY, ids=endpoint_id)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_another_content_type_than_json_is_unsupported(
    api: httpx.Client, place: dict[str, str], endpoint: tuple[str, str, Any, bool], content_type: str
) -> None:
    method, template, good, _ = endpoint
    headers = {"Content-Type": content_type}
    reply = api.request(method, path_of(template, place), content=body(good), headers=headers)
    check_refusal(reply, "unsupported_media_type")


def test_a_wrong_content_type_is_said_before_a_wrong_field(api: httpx.Client) -> None:
    reply = api.post("/queues", content=b'{"name": 5}', headers={"Content-Type": "text/plain"})
    check_refusal(reply, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/queues", "/queues/{q}/messages/batch", "/queues/{q}/messages"])
def test_a_compressed_body_is_unsupported(api: httpx.Client, place: dict[str, str], path: str) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    reply = api.post(path_of(path, place), content=b"\x1f\x8b not really", headers=headers)
    check_refusal(reply, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/JSON", "application/json;"])
def test_json_may_be_announced_in_other_words(api: httpx.Client, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    reply = api.post("/consume", content=b'{"queues": ["nobody-home"], "max": 1, "wait_ms": 0}', headers=headers)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("endpoint", [row for row in WITH_BODY if "batch" not in row[1]], ids=endpoint_id)
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_body_of_sixteen_mebibytes_is_too_large(
    api: httpx.Client, place: dict[str, str], endpoint: tuple[str, str, Any, bool], chunked: bool
) -> None:
    method, template, _, _ = endpoint
    oversize = b'{"content": "' + b"x" * (16 << 20) + b'"}'
    content: Any = (oversize[at : at + 65536] for at in range(0, len(oversize), 65536)) if chunked else oversize
    try:
        reply = api.request(method, path_of(template, place), content=content, headers=JSON)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pytest.skip("the broker answered and hung up while the body was still on its way, as RFC 9110 §9.5 allows")
    check_refusal(reply, "too_large")


# ---- queue names

NAMED_PATHS = [
    ("GET", "", None),
    ("PATCH", "", b"{}"),
    ("DELETE", "", None),
    ("POST", "/purge", b"{}"),
    ("POST", "/pause", None),
    ("POST", "/resume", None),
    ("POST", "/redrive", b"{}"),
    ("POST", "/messages", b'{"content": 1}'),
    ("GET", "/messages", None),
    ("POST", "/messages/batch", b'{"messages": [{"content": 1}]}'),
    ("GET", "/messages/consume", None),
    ("POST", "/messages/consume", b'{"max": 1}'),
]


@pytest.mark.parametrize(("method", "rest", "content"), NAMED_PATHS)
@pytest.mark.parametrize("name", BAD_NAMES_IN_A_PATH, ids=ascii)
def test_a_bad_queue_name_in_a_path_is_invalid(
    api: httpx.Client, method: str, rest: str, content: bytes | None, name: str
) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in name.encode())
    reply = api.request(method, f"/queues/{encoded}{rest}", content=content, headers=JSON if content else None)
    check_refusal(reply, "invalid")


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_bad_queue_name_in_a_body_is_invalid(api: httpx.Client, name: str) -> None:
    for path, field, fields in [
        ("/queues", "/name", {"name": name}),
        ("/publish", "/queue", {"queue": name, "content": 1}),
        ("/consume", "/queues/0", {"queues": [name], "max": 1, "wait_ms": 0}),
        ("/consume", "/queues/1", {"queues": ["fine", name], "max": 1, "wait_ms": 0}),
    ]:
        check_refusal(api.post(path, content=body(fields), headers=JSON), "invalid", pointer=field)


# ---- fields, by the tables


@pytest.mark.parametrize("row", bad_values.DRAFT, ids=row_id)
def test_a_bad_field_of_a_message_is_pointed_at_on_every_door(
    api: httpx.Client, place: dict[str, str], row: Row
) -> None:
    fields, pointer = row
    bad, names = laid_over(GOOD_DRAFT, fields), "" if pointer else next(iter(fields))
    for path, sent, prefix in [
        ("/queues/{q}/messages", bad, ""),
        ("/publish", {"queue": place["q"], **bad}, ""),
        ("/queues/{q}/messages/batch", {"messages": [GOOD_DRAFT, bad]}, "/messages/1"),
    ]:
        reply = api.post(path_of(path, place), content=body(sent), headers=JSON)
        check_refusal(reply, "invalid", pointer=pointer and prefix + pointer, names=names)


@pytest.mark.parametrize("row", bad_values.CONFIG, ids=row_id)
def test_a_bad_setting_of_a_queue_is_pointed_at(api: httpx.Client, place: dict[str, str], row: Row) -> None:
    fields, pointer = row
    reply = api.post("/queues", content=body({"name": "never-made", **fields}), headers=JSON)
    check_refusal(reply, "invalid", pointer=pointer)
    reply = api.patch("/queues/" + place["q"], content=body(fields), headers=JSON)
    check_refusal(reply, "invalid", pointer=pointer)
    check_refusal(api.get("/queues/never-made"), "not_found")


@pytest.mark.parametrize("fields", [{}, {"lease_ms": 1000}, {"name": 5}, {"name": True}, {"name": ["q"]}], ids=row_id)
def test_a_queue_without_a_name_is_not_made(api: httpx.Client, fields: dict[str, Any]) -> None:
    check_refusal(api.post("/queues", content=body(fields), headers=JSON), "invalid", names="name")


def test_a_queue_is_not_renamed(api: httpx.Client, place: dict[str, str]) -> None:
    reply = api.patch("/queues/" + place["q"], content=b'{"name": "other"}', headers=JSON)
    check_refusal(reply, "invalid", pointer="/name")


@pytest.mark.parametrize(("fields", "pointer"), bad_values.CONSUME, ids=row_id)
def test_a_bad_field_of_a_consume_is_pointed_at(api: httpx.Client, fields: dict[str, Any], pointer: str) -> None:
    good = {"max": 1, "wait_ms": 0}
    path = "/queues/nobody-home/messages/consume"
    check_refusal(api.post(path, content=body({**good, **fields}), headers=JSON), "invalid", pointer=pointer)
    if "lease_ms" not in fields:  # the contract gives POST /consume no lease_ms
        sent = {"queues": ["nobody-home"], **good, **fields}
        check_refusal(api.post("/consume", content=body(sent), headers=JSON), "invalid", pointer=pointer)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"max": 1}, "queues"),
        ({"queues": "q", "max": 1}, "queues"),
        ({"queues": [5], "max": 1}, "queues/0"),
        ({"queues": {"q": 1}, "max": 1}, "queues"),
        ({"queues": [["q"]], "max": 1}, "queues/0"),
    ],
)
def test_a_consume_must_say_from_which_queues(api: httpx.Client, fields: dict[str, Any], names: str) -> None:
    check_refusal(api.post("/consume", content=body(fields), headers=JSON), "invalid", names=names)


@pytest.mark.parametrize(
    ("name", "value"),
    [("wait_ms", v) for v in ("-1", "60001", "abc", "1.5", "", "true", "1e3", "9" * 30, "\uff15")]
    + [("lease_ms", v) for v in ("-1", "abc", "1.5", "", "9" * 30)],
)
def test_a_bad_query_of_a_long_poll_is_named(api: httpx.Client, name: str, value: str) -> None:
    check_refusal(api.get("/queues/nobody-home/messages/consume", params={name: value}), "invalid", names=name)


@pytest.mark.parametrize("path", ["/queues", "/queues/{q}/messages"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", v) for v in ("0", "-1", "501", "abc", "1.5", "", "9" * 30)]
    + [("cursor", v) for v in ("%00", "é", "\x00", "x" * 5000)],
)
def test_a_bad_page_of_a_list_is_named(
    api: httpx.Client, place: dict[str, str], path: str, name: str, value: str
) -> None:
    check_refusal(api.get(path_of(path, place), params={name: value}), "invalid", names=name)


@pytest.mark.parametrize("status", ["", "done", "PENDING", "delayed", "pending,failed"])
def test_only_the_four_statuses_can_be_browsed(api: httpx.Client, place: dict[str, str], status: str) -> None:
    reply = api.get(f"/queues/{place['q']}/messages", params={"status": status})
    check_refusal(reply, "invalid", names="status")


@pytest.mark.parametrize("status", ["processing", "done", "", 5, True, ["pending"]])
def test_only_what_nobody_holds_can_be_purged(api: httpx.Client, place: dict[str, str], status: Any) -> None:
    reply = api.post(f"/queues/{place['q']}/purge", content=body({"status": status}), headers=JSON)
    check_refusal(reply, "invalid", pointer="/status")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        *bad_values.count("limit")[:-1],
        *bad_values.text("from"),
        ({"from": "not a name"}, "/from"),
        ({"to": "x"}, "/to"),
    ],
    ids=row_id,
)
def test_a_bad_redrive_is_pointed_at(
    api: httpx.Client, place: dict[str, str], fields: dict[str, Any], pointer: str
) -> None:
    reply = api.post(f"/queues/{place['q']}/redrive", content=body(fields), headers=JSON)
    check_refusal(reply, "invalid", pointer=pointer)


@pytest.mark.parametrize(
    ("verb", "row"),
    [("ack", row) for row in bad_values.ACK]
    + [("nack", row) for row in bad_values.NACK]
    + [("extend", row) for row in bad_values.EXTEND],
    ids=row_id,
)
def test_a_bad_settle_is_invalid_before_its_state_is_looked_at(
    api: httpx.Client, place: dict[str, str], verb: str, row: Row
) -> None:
    fields, pointer = row
    good = {"lease_ms": 1000} if verb == "extend" else {}
    sent, names = laid_over(good, fields), "" if pointer else next(iter(fields))
    reply = api.post(f"/messages/{place['id']}/{verb}", content=body(sent), headers=JSON)
    check_refusal(reply, "invalid", pointer=pointer, names=names)


@pytest.mark.parametrize("requeue", ["maybe", "2", "", "yes"])
def test_requeue_in_the_query_is_a_boolean(api: httpx.Client, place: dict[str, str], requeue: str) -> None:
    reply = api.post(f"/messages/{place['id']}/nack", params={"requeue": requeue})
    check_refusal(reply, "invalid", names="requeue")


@pytest.mark.parametrize("verb", ["ack", "nack", "extend"])
@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, "items"),
        ({"items": "x"}, "items"),
        ({"items": {}}, "items"),
        ({"items": [5]}, "items/0"),
        ({"items": [{"lease": "l"}]}, "message_id"),
        ({"items": [{"message_id": 5, "lease": "l"}]}, "message_id"),
        ({"items": [{"message_id": "m", "lease": 5}]}, "lease"),
        ({"items": [{"message_id": "m", "lease": "l", "what": 1}]}, "what"),
        ({"items": [{"message_id": "m", "lease": "l"}], "what": 1}, "what"),
    ],
)
def test_a_bad_batch_settle_is_invalid_as_a_whole(
    api: httpx.Client, verb: str, fields: dict[str, Any], names: str
) -> None:
    if verb == "extend" and "items" in fields:
        items = [{"lease_ms": 5, **item} if isinstance(item, dict) else item for item in fields["items"]]
        fields = {**fields, "items": items if isinstance(fields["items"], list) else fields["items"]}
    check_refusal(api.post(f"/messages/{verb}", content=body(fields), headers=JSON), "invalid", names=names)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": {"content": 1}}, "messages"),
        ({"messages": [5]}, "messages/0"),
        ({"messages": [{"content": 1}, None]}, "messages/1"),
        ({"messages": [{"content": 1}] * 1001}, "messages"),
        ({"messages": [{"content": 1}], "queue": "q"}, "queue"),
    ],
    ids=["no messages", "a text", "an object", "a number inside", "a null inside", "1001 messages", "unknown field"],
)
def test_a_bad_batch_publish_stores_nothing(
    api: httpx.Client, place: dict[str, str], fields: dict[str, Any], names: str
) -> None:
    reply = api.post(f"/queues/{place['q']}/messages/batch", content=body(fields), headers=JSON)
    check_refusal(reply, "invalid", names=names)


@pytest.mark.parametrize("row", bad_values.CREDENTIALS, ids=row_id)
def test_a_bad_login_is_invalid(stranger: httpx.Client, row: Row) -> None:
    fields, pointer = row
    sent = laid_over({"username": "admin", "password": "x"}, fields)
    names = "" if pointer else next(iter(fields))
    reply = stranger.post("/login", content=body(sent), headers=JSON)
    check_refusal(reply, "invalid", pointer=pointer, names=names)


@pytest.mark.parametrize("fields", [{}, {"refresh_token": 5}, {"refresh_token": ["x"]}, {"refresh_token": True}])
def test_a_bad_refresh_is_invalid(stranger: httpx.Client, fields: dict[str, Any]) -> None:
    check_refusal(stranger.post("/refresh", content=body(fields), headers=JSON), "invalid", names="refresh_token")


RAW_HEADERS = [
    ("X-Message-Priority", ["abc", "-1", "10", "1.5", ""]),
    ("X-Message-Delay-Ms", ["abc", "-1", "1.5", "9" * 30]),
    ("X-Message-Ttl-Ms", ["abc", "-1", "1.5", "9" * 30]),
    ("X-Message-Max-Attempts", ["abc", "-1"]),
]


@pytest.mark.parametrize(("header", "value"), [(header, value) for header, values in RAW_HEADERS for value in values])
def test_a_bad_option_of_a_raw_publish_is_invalid(
    api: httpx.Client, place: dict[str, str], header: str, value: str
) -> None:
    headers = {"Content-Type": "application/octet-stream", header: value}
    reply = api.post(f"/queues/{place['q']}/messages", content=b"\x00\x01", headers=headers)
    check_refusal(reply, "invalid")


def test_two_different_dedup_ids_in_one_request_are_invalid(api: httpx.Client, place: dict[str, str]) -> None:
    headers = {**JSON, "Idempotency-Key": "one"}
    content = body({"content": 1, "dedup_id": "two"})
    check_refusal(api.post(f"/queues/{place['q']}/messages", content=content, headers=headers), "invalid")


def test_a_wrong_request_is_said_before_a_wrong_state(api: httpx.Client, place: dict[str, str]) -> None:
    messages = Messages(api)
    check_refusal(messages.reply(place["id"], "ack", lease=5), "invalid", pointer="/lease")
    check_refusal(messages.reply(place["id"], "ack"), "not_processing")
    check_refusal(api.post(f"/messages/{place['id']}/extend", headers=JSON), "malformed")
    check_refusal(messages.reply(place["id"], "extend", lease_ms=1000), "not_processing")
    reply = api.post("/queues", json={"name": place["q"], "lease_ms": "x"})
    check_refusal(reply, "invalid", pointer="/lease_ms")
    reply = api.post("/queues", json={"name": place["q"], "lease_ms": 999})
    check_refusal(reply, "conflict")
