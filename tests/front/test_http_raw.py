"""HTTP as bytes, against a real broker: bodies that lie, requests sent ahead, and what is no request at all."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.front.conftest import complaints, resident_kib
from tests.front.raw import Raw, authorization, handshake, request
from tests.harness import BrokerProcess

MAX_BODY = 1024 * 1024
PATH = "/queues/raw/messages"
GROWTH_KIB = 64 * 1024
GIVEN_UP_S = 20


def chunked(body: bytes, size: int = 50_000) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def of_size(size: int) -> bytes:
    """A publish body whose content has that many bytes, quotes included."""
    return b'{"content":"%b"}' % (b"x" * (size - 2))


@pytest.fixture
def raw(unharmed: BrokerProcess) -> Iterator[Raw]:
    with Raw(unharmed) as connection:
        yield connection


# --- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_chunks", [False, True])
def test_content_of_the_largest_size_is_taken_and_one_byte_more_is_not(
    broker: BrokerProcess, raw: Raw, in_chunks: bool
) -> None:
    for size, status in ((MAX_BODY, 201), (MAX_BODY + 1, 413)):
        if in_chunks:
            raw.send(request(broker, "POST", PATH, chunked(of_size(size)), b"Transfer-Encoding: chunked"))
        else:
            raw.send(request(broker, "POST", PATH, of_size(size)))
        answer = raw.answer()
        assert answer.status == status
        assert status == 201 or json.loads(answer.body)["code"] == "too_large"


def test_a_body_without_end_is_refused_before_its_end(broker: BrokerProcess, raw: Raw) -> None:
    before = resident_kib(broker)
    raw.send(request(broker, "POST", PATH, b"", b"Transfer-Encoding: chunked"))
    chunk = b"%x\r\n%b\r\n" % (65_536, b"x" * 65_536)
    for _ in range(160):
        if not raw.send(chunk):
            break
    assert raw.answer().status == 413
    assert resident_kib(broker) - before < GROWTH_KIB


def test_a_length_that_is_announced_too_large_is_refused_at_once(broker: BrokerProcess, raw: Raw) -> None:
    raw.send(request(broker, "POST", PATH, b"", b"Content-Length: 99999999999"))
    assert raw.answer().status == 413


def test_a_length_that_is_more_than_what_comes_leaves_nothing_behind(broker: BrokerProcess, raw: Raw) -> None:
    raw.send(request(broker, "POST", "/queues/lying/messages", of_size(10), b"Content-Length: 1000"))
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.answers() == []
    with broker.client() as client:
        assert client.get("/queues/lying").status_code == 404


def test_a_length_that_is_less_than_what_comes_makes_the_rest_no_request(broker: BrokerProcess, raw: Raw) -> None:
    raw.send(request(broker, "POST", PATH, of_size(10) + b"rest", b"Content-Length: %d" % len(of_size(10))))
    assert [answer.status for answer in raw.answers()] == [201, 400]


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"GZIP", b"gzip, identity"])
def test_an_encoded_body_is_not_decoded(broker: BrokerProcess, raw: Raw, encoding: bytes) -> None:
    body = of_size(10)
    fields = (b"Content-Encoding: " + encoding, b"Content-Length: %d" % len(body))
    raw.send(request(broker, "POST", PATH, body, *fields))
    answer = raw.answer()
    assert answer.status == 415
    assert json.loads(answer.body)["code"] == "unsupported_media_type"


# --- requests sent ahead -------------------------------------------------------------------------------------------


def test_a_thousand_requests_that_are_sent_ahead_are_answered_in_order(broker: BrokerProcess, raw: Raw) -> None:
    before = resident_kib(broker)
    ids = [b"X-Request-ID: number-%d" % number for number in range(1_000)]
    raw.send(b"".join(request(broker, "GET", "/healthz", b"", id_) for id_ in ids))
    answers = [raw.answer() for _ in ids]
    assert [answer.headers["x-request-id"] for answer in answers] == [f"number-{number}" for number in range(1_000)]
    assert {answer.status for answer in answers} == {200}
    assert resident_kib(broker) - before < GROWTH_KIB


def test_publishes_and_consumes_that_are_sent_ahead_do_not_cross(broker: BrokerProcess, raw: Raw) -> None:
    for number in range(100):
        raw.send(request(broker, "POST", "/queues/ahead/messages", b'{"content":%d}' % number))
        raw.send(request(broker, "GET", "/queues/ahead/messages/consume"))
    for number in range(100):
        published, consumed = raw.answer(), raw.answer()
        assert published.status == 201
        message = json.loads(consumed.body)
        assert message["content"] == number
        assert message["message_id"] == json.loads(published.body)["message_id"]
        raw.send(request(broker, "POST", f"/messages/{message['message_id']}/ack"))
    assert {raw.answer().status for _ in range(100)} == {200}


def test_garbage_behind_a_publish_does_not_become_its_answer(broker: BrokerProcess, raw: Raw) -> None:
    raw.send(request(broker, "POST", PATH, of_size(10)) + b"\0garbage\r\n\r\n")
    assert [answer.status for answer in raw.answers()] == [201, 400]


@pytest.mark.parametrize(
    "ambiguous",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Content-Length : 5",),
        (b"Transfer-Encoding:\x0bchunked",),
    ],
)
def test_what_is_ambiguous_is_refused_and_nothing_is_smuggled(
    broker: BrokerProcess, raw: Raw, ambiguous: tuple[bytes, ...]
) -> None:
    smuggled = request(broker, "POST", "/queues/smuggled/messages", of_size(10))
    raw.send(request(broker, "POST", PATH, b"0\r\n\r\n" + smuggled, *ambiguous))
    (answer,) = raw.answers()
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    with broker.client() as client:
        assert client.get("/queues/smuggled").status_code == 404


@pytest.mark.parametrize("field", [b"Host: localhost", b"Host: evil.example", b"Authorization: Bearer x"])
def test_a_second_host_or_authorization_line_is_refused(broker: BrokerProcess, raw: Raw, field: bytes) -> None:
    for ask in (request(broker, "GET", "/users/me", b"", field), handshake(broker, field)):
        raw.send(ask)
        answer = raw.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 20_000_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(20_000)) + b"\r\n", 431),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
def test_what_is_too_large_or_no_request_is_refused_with_a_problem(
    broker: BrokerProcess, raw: Raw, wrong: bytes, status: int
) -> None:
    before = resident_kib(broker)
    raw.send(wrong)
    (answer,) = raw.answers()
    assert answer.status == status
    assert json.loads(answer.body)["status"] == status
    assert answer.headers["connection"] == "close"
    assert resident_kib(broker) - before < GROWTH_KIB


def test_connections_beyond_the_cap_are_answered_503_and_websockets_count(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    env = {"STREAMBROKER_MAX_CONNECTIONS": "10", "STREAMBROKER_MAX_CONNECTIONS_PER_USER": "10"}
    with BrokerProcess(tmp_path_factory.mktemp("cap") / "data", env=env) as small:
        small.token()
        taken = []
        for _ in range(10):  # one after the other, for one address has no more than half before it says who it is
            connection = Raw(small)
            taken.append(connection)
            connection.send(request(small, "GET", "/users/me"))
            assert connection.answer().status == 200
        for ask in (request(small, "GET", "/users/me"), handshake(small), b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"):
            with Raw(small) as surplus:
                surplus.send(ask)
                (answer,) = surplus.answers()
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert json.loads(answer.body)["code"] == "overloaded"
        assert complaints(small) == []


# --- anything ------------------------------------------------------------------------------------------------------

TOKEN = b"\0the token\0"  # stands for the admin's, which is known later
FIELDS = [
    b"Content-Length: 15",
    b"Content-Length: 0",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: -1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Expect: 100-continue",
    b"Content-Type: application/json",
    b"Content-Type: text/plain",
    b"Content-Encoding: gzip",
    b"Authorization: Basic x",
    b"Host: localhost",
    b"Host: evil.example",
    b"X-Forwarded-For: 6.6.6.6",
    b"X-Message-Priority: high",
    b"Idempotency-Key: \xff",
    b"Trailer: x",
    b": empty",
    b" folded",
    b"X: " + b"y" * 9_000,
]
LINES = [
    f"{method} {path} {version}".encode("latin-1")
    for method, path, version in product(
        ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "BREW"),
        (
            "/",
            "/healthz",
            PATH,
            f"{PATH}/consume?wait_ms=0",
            "/queues/%00",
            "/ws",
            "*",
            "http://x/ws",
            "/\xff",
            "//..//",
        ),
        ("HTTP/1.1", "HTTP/1.0", "HTTP/3"),
    )
]
JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"
GOOD: list[tuple[bytes, list[bytes], bytes]] = [
    (b"POST %b HTTP/1.1" % PATH.encode(), [JSON, b"Content-Length: 15"], b'{"content":"x"}'),
    (b"POST %b HTTP/1.1" % PATH.encode(), [JSON, CHUNKED], chunked(b'{"content":"x"}', 4)),
    (b"POST %b HTTP/1.1" % PATH.encode(), [b"Content-Type: text/plain", b"Content-Length: 3"], b"\xff\0x"),
    (b"GET %b/consume?wait_ms=0 HTTP/1.1" % PATH.encode(), [], b""),
    (b"HEAD /readyz HTTP/1.1", [], b""),
    (b"POST /messages/x/ack HTTP/1.1", [b"Expect: 100-continue", b"Content-Length: 2"], b"{}"),
]
BAD: list[tuple[bytes, list[bytes], bytes]] = [
    (line, [], body) for line, body in product(LINES, (b"", b"0\r\n\r\n", b"\xff" * 15, b"ffffffff\r\n", b"[" * 5_000))
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, mostly good but for a field or two."""
    line, fields, body = draw(st.sampled_from(GOOD) | st.sampled_from(GOOD) | st.sampled_from(BAD))
    more = draw(st.just([]) | st.lists(st.sampled_from(FIELDS), max_size=3))
    known = [] if draw(st.integers(0, 4)) == 4 else [TOKEN]
    return b"\r\n".join([line, b"Host: localhost", *known, *fields, *more, b"", body])


@st.composite
def damaged(draw: st.DrawFn) -> list[bytes]:
    """A few requests on one connection, some of their bytes changed, cut into pieces."""
    data = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from([b"", b"\n", b"\r", b"\0", b" ", b":", b"\xff"]))
        if not data:
            data = bytearray(b"x")
    at = draw(st.integers(0, len(data)))
    return [bytes(data[:at]), bytes(data[at:])]


LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_no_bytes_hang_or_harm_the_broker(unharmed: BrokerProcess) -> None:
    broker = unharmed
    token, before = authorization(broker), resident_kib(broker)
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=1_000,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged())
    def one(pieces: list[bytes]) -> None:
        with Raw(broker, patience=0.1) as raw:
            for piece in [*pieces, LAST]:
                if not raw.send(piece.replace(TOKEN, token)):
                    break
            found = statuses_of(raw)
            statuses.update(found)
            assert all(status < 500 for status in found)

    one()
    assert resident_kib(broker) - before < GROWTH_KIB
    assert complaints(broker) == []
    assert {200, 201, 400, 401, 404, 405} <= statuses.keys()  # what is sent gets beyond the parser, too


def statuses_of(raw: Raw) -> list[int]:
    """Those of all answers until the broker closes the connection. Where it waits, it is told that nothing comes."""
    try:
        said = raw.gone()
    except TimeoutError:
        raw.socket.settimeout(GIVEN_UP_S)
        with contextlib.suppress(OSError):
            raw.socket.shutdown(socket.SHUT_WR)
        said = raw.gone()
    # Not read one by one, for which the methods would have to be known: the answer to a HEAD has no body.
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", said)]
