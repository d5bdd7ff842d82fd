"""No secret stands in a line, however it came there (D7)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from streambroker.observe.redaction import MASK, MAX_EXCEPTION, MAX_TEXT, Redaction

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl"
PASSWORD = "hunter2!, and more"
REDACTION = Redaction(['the admin\'s "password"'])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"the token {JWT} is bad", "the token *** is bad"),
        ("eyJhbGciOiJIUzI1NiJ9.", MASK),
        (JWT[:20], MASK),
        ("key sbk_abcDEF-12_3 and sbr_abc", "key sbk_*** and sbr_***"),
        ("subprotocols streambroker.v1+json, bearer.abc_def", "subprotocols streambroker.v1+json, bearer.***"),
        ("Authorization: Basic YWRtaW46aHVudGVyMg==", "Authorization: ***"),
        ("Authorization: Bearer opaque and more\nHost: x", "Authorization: ***\nHost: x"),
        ("[(b'authorization', b'Bearer a b'), (b'host', b'x')]", "[(b'authorization', ***), (b'host', b'x')]"),
        ("Cookie: a=b; c=d", "Cookie: ***"),
        ('{"username":"bob","password":"a \\"b\\" c","x":1}', '{"username":"bob","password":***,"x":1}'),
        ('{"username":"bob","password":"cut off he', '{"username":"bob","password":***'),
        ('"{\\"refresh_token\\": \\"a \\\\\\" b\\", \\"x\\": 1}"', '"{\\"refresh_token\\": ***, \\"x\\": 1}"'),
        ("Login(username='bob', password='a\\'b, c')", "Login(username='bob', password=***)"),
        ("POST /x?access_token=abc&y=1", "POST /x?***"),
        ("access_token=abc&y=1", "access_token=***&y=1"),
        ("GET /queues/q/messages?contains=their+payload HTTP/1.1", "GET /queues/q/messages?*** HTTP/1.1"),
        ("redis://user:p@ss:word@host:6379/0", "redis://user:***@host:6379/0"),
        ("he said the admin's \"password\" aloud", "he said *** aloud"),
        ("[SQL: X]\n[parameters: ('a payload',\n b']')]\n(Background)", "[SQL: X]\n[parameters: ***]\n(Background)"),
        ("user 'bob' was created; is it? no", "user 'bob' was created; is it? no"),
        ("a used refresh token of user 'bob' came again", "a used refresh token of user 'bob' came again"),
    ],
)  # fmt: skip
def test_secrets_in_a_text_are_masked_and_the_rest_stays(text: str, masked: str) -> None:
    assert REDACTION.text(text) == masked


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "current_password", "passwd", "secret", "jwt_secret", "token", "refresh_token"),
        *("Authorization", "cookie", "api_key", "x-api-key", "apikey", "private_key", "credentials"),
    ],
)
def test_a_field_is_masked_by_its_name_at_any_depth(name: str) -> None:
    for value in (PASSWORD, 12_345, ["a", PASSWORD], {"a": PASSWORD}, PASSWORD.encode()):
        event = REDACTION.event({name: value, "nested": {"list": [{name: value}], "pair": (name, value)}})
        assert event == {name: MASK, "nested": {"list": [{name: MASK}], "pair": [name, MASK]}}


def test_headers_as_asgi_has_them_are_masked() -> None:
    event = REDACTION.event({"headers": [(b"host", b"x"), (b"authorization", b"Bearer opaque")]})
    assert event == {"headers": [["host", "x"], ["authorization", MASK]]}


def test_what_is_no_secret_stays_what_it_is() -> None:
    event: dict[str, Any] = {"event": "x", "queue": "q", "n": 1, "f": 0.5, "b": True, "none": None, "token": None}
    assert REDACTION.event(event) == event


def test_values_of_any_type_become_text_without_secrets() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(PASSWORD)

    event = REDACTION.event({"error": ValueError(f"password='{PASSWORD}'"), "broken": Broken(), 1: {2}})  # type: ignore[dict-item]
    assert event == {"error": "password=***", "broken": "<Broken: RuntimeError>", "1": [2]}


def test_an_exception_is_searched_and_its_end_kept() -> None:
    text = "Traceback\n" + "x\n" * MAX_EXCEPTION + f"ValueError: bad header Authorization: Bearer {JWT}"
    kept = REDACTION.event({"event": "x", "exception": text})["exception"]
    assert isinstance(kept, str) and len(kept) <= MAX_EXCEPTION
    assert kept.endswith("ValueError: bad header Authorization: ***")


def test_a_line_is_bounded_however_much_is_logged() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = {"deeper": deep}
    event = REDACTION.event({"long": "x" * 10**6, "wide": list(range(10**5)), "deep": deep})
    assert len(json.dumps(event)) < 2 * MAX_TEXT


@pytest.mark.parametrize(
    "piece", ["token", "password=", "eyJ", "/", "?", "a?", "://", "bearer ", '\\"', "token\\'", "sbk_", '"']
)
def test_a_hostile_text_takes_no_more_time_than_its_length(piece: str) -> None:  # fmt: skip
    def cpu_seconds(length: int) -> float:
        text = piece * (length // len(piece)) + " pwd"  # or no pattern would be tried on most of these
        started = time.thread_time()
        REDACTION.text(text)
        return time.thread_time() - started

    # Quadratic time would take hundreds of times as long; a busy machine does not count, for only our own time does.
    short = max(min(cpu_seconds(4_000) for _ in range(5)), 1e-4)
    assert min(cpu_seconds(64_000) for _ in range(3)) < 100 * short
