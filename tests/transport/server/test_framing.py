"""Where a request ends must never be in doubt: what two servers could read in two ways is refused."""

from __future__ import annotations

import asyncio

import pytest

from tests.transport.server.world import request, serving, upgrade

NEXT = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /x HTTP/1.1", b"Host: localhost", *fields, b"", body])


AMBIGUOUS = {
    "two lengths": post(b"Content-Length: 3", b"Content-Length: 4", body=b"abc"),
    "one length twice": post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
    "lengths in a list": post(b"Content-Length: 3, 3", body=b"abc"),
    "length and chunks": post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunks and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"0\r\n\r\n"),
    "chunked, but not at last": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "a coding nobody knows": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "a plus before the length": post(b"Content-Length: +3", body=b"abc"),
    "a minus before the length": post(b"Content-Length: -3", body=b"abc"),
    "a length in hexadecimal": post(b"Content-Length: 0x3", body=b"abc"),
    "a length beyond 64 bits": post(b"Content-Length: 99999999999999999999", body=b"abc"),
    "an empty length": post(b"Content-Length: ", body=b"abc"),
    "a space before the colon": post(b"Content-Length : 3", body=b"abc"),
    "a folded field": post(b"X-Folded: a\r\n b", b"Content-Length: 0"),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "bare line feeds": b"POST /x HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n",
    "one bare line feed": b"POST /x HTTP/1.1\r\nHost: localhost\nContent-Length: 0\r\n\r\n",
    "a bare carriage return": b"POST /x HTTP/1.1\r\nHost: localhost\rContent-Length: 0\r\n\r\n",
    "a null in a field": post(b"X-Null: a\0b", b"Content-Length: 0"),
    "a field without a name": post(b": x", b"Content-Length: 0"),
    "no version": b"GET /x\r\nHost: localhost\r\n\r\n",
    "another version": b"GET /x HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100") + b"\xf4\x01\x00",
    "a size that is no number": post(b"Transfer-Encoding: chunked", body=b"g\r\nabc\r\n0\r\n\r\n"),
    "a size with a sign": post(b"Transfer-Encoding: chunked", body=b"-1\r\nabc\r\n0\r\n\r\n"),
    "a size beyond 64 bits": post(b"Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": post(b"Transfer-Encoding: chunked", body=b"2\r\nabc\r\n0\r\n\r\n"),
    "line feeds after a chunk": post(b"Transfer-Encoding: chunked", body=b"3\nabc\n0\n\n"),
    "a line feed in an extension": post(b"Transfer-Encoding: chunked", body=b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "a target that is no path": b"GET x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("ambiguous", AMBIGUOUS.values(), ids=list(AMBIGUOUS))
async def test_what_is_ambiguous_is_refused_and_what_follows_is_not_read(ambiguous: bytes) -> None:
    async with serving() as world:
        client = await world.client()
        client.send(ambiguous + NEXT)
        answer = await client.answer()
        assert answer.status == 400
        assert answer.headers["connection"] == "close"
        assert answer.problem["code"] == "malformed"
        assert await client.rest() == b""
        assert "/smuggled" not in world.app.seen
        assert world.app.bodies == []


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("whole", "body"),
    [
        (post(b"Content-Length: 3", body=b"abc"), b"abc"),
        (post(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"), b"abc"),
        (post(b"Transfer-Encoding: Chunked", body=b"3;ext=1\r\nabc\r\n00\r\nX-Trailer: 1\r\n\r\n"), b"abc"),
        (post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n0A\r\nbbbbbbbbbb\r\n0\r\n\r\n"), b"a" + b"b" * 10),
        (b"\r\n" + post(b"Content-Length: 0"), b""),
    ],
)
async def test_what_is_right_is_taken_in_pieces_of_any_size(whole: bytes, body: bytes, pieces: int) -> None:
    async with serving() as world:
        client = await world.client()
        data = whole + NEXT
        for at in range(0, len(data), pieces):
            await client.send_all(data[at : at + pieces])
        assert (await client.answer()).body == b"/x " + body
        assert (await client.answer()).body == b"/smuggled "


async def test_trailers_do_not_become_header_fields() -> None:
    async with serving() as world:
        client = await world.client()
        trailers = b"Authorization: Bearer x\r\nHost: evil\r\n"
        client.send(post(b"Transfer-Encoding: chunked", body=b"0\r\n" + trailers + b"\r\n"))
        assert (await client.answer()).status == 200
        assert world.app.scopes[0]["headers"] == [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("protocol", [b"h2c", b"TLS/1.0", b"foo, bar"])
async def test_an_upgrade_to_another_protocol_is_not_looked_at(protocol: bytes) -> None:
    fields = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: x")
    async with serving() as world:
        client = await world.client()
        client.send(request("/1", b"", *fields) + request("/2", b"def"))
        assert (await client.answer()).body == b"/1 "
        assert (await client.answer()).body == b"/2 def"
        client.send(request("/3", b"", *fields))
        assert (await client.answer()).body == b"/3 "
        client.send(upgrade())
        assert (await client.answer()).status == 101


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_comes_with_a_request_whose_upgrade_is_not_looked_at(chunked: bool, whole: bool) -> None:
    """As clients send it that would rather speak HTTP/2 in clear, Java's among them."""
    framing, body = b"Content-Length: %d" % len(NEXT), NEXT
    if chunked:
        framing, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(NEXT), NEXT)
    asked = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x", b"X-Own: 1", framing)
    async with serving() as world:
        client = await world.client()
        sent = post(*asked, body=body) + request("/2", b"def")
        for part in [sent] if whole else [sent[at : at + 7] for at in range(0, len(sent), 7)]:
            client.send(part)
            if not whole:
                await asyncio.sleep(0)
        assert (await client.answer()).body.endswith(b" " + NEXT)
        assert (await client.answer()).body == b"/2 def"
        assert (b"x-own", b"1") in world.app.scopes[0]["headers"]
        client.send(upgrade())
        assert (await client.answer()).status == 101
        assert world.app.bodies == [NEXT, b"def"]


@pytest.mark.parametrize("asks", [b"Upgrade: websocket", b"X-Other: 1"])
async def test_the_body_of_a_handshake_or_a_tunnel_is_not_taken_for_a_request(asks: bytes) -> None:
    async with serving() as world:
        client = await world.client()
        method = b"POST" if asks.startswith(b"Upgrade") else b"CONNECT"
        sent = post(b"Connection: Upgrade", asks, b"Content-Length: %d" % len(NEXT), body=NEXT)
        client.send(sent.replace(b"POST", method, 1))
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
        assert world.app.seen == []


async def test_nothing_may_follow_a_handshake_before_its_answer() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(upgrade() + NEXT)
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
        assert world.app.seen == []


@pytest.mark.parametrize(
    ("handshake", "status"),
    [
        (upgrade().replace(b"Version: 13", b"Version: 12"), 400),
        (upgrade().replace(b"Sec-WebSocket-Key: ", b"X-Key: "), 400),
        (upgrade().replace(b"Key: dGhlIHNhbXBsZSBub25jZQ==", b"Key: short"), 400),
        (upgrade().replace(b"GET ", b"POST "), 405),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (upgrade("/ws", b"Content-Length: 5") + b"hello", 400),
        (upgrade("/ws", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    ],
)
async def test_a_bad_handshake_is_answered_with_a_problem(handshake: bytes, status: int) -> None:
    async with serving() as world:
        client = await world.client()
        client.send(handshake)
        answer = await client.answer()
        assert answer.status == status
        assert answer.problem["code"] == ("method_not_allowed" if status == 405 else "malformed")
        assert await client.rest() == b""
        assert world.app.seen == []


async def test_an_answer_is_one_even_where_the_client_only_asks_for_its_head() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/x", method="HEAD") + request("/y"))
        assert (await client.answer(head=True)).headers["content-length"] == "3"
        assert (await client.answer()).body == b"/y "
