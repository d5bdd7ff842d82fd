"""Receivers that answer anything: no request hangs, none is judged wrongly, no answer is taken for another one's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streambroker.transport.webhooks.addresses import Vetting, target
from streambroker.transport.webhooks.answers import OUTCOMES, Answer
from streambroker.transport.webhooks.sending import MAX_EXCERPT, Line, retry_after_ms

PATIENCE_S = 30.0
"""What a hang is told by; nothing here waits for it."""
LONG_MS = 20_000
TRUST = ssl.create_default_context()
PLAIN = b"HTTP/1.1 204 No Content\r\n\r\n"
INTERIM = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
HEAD_END = b"\r\n\r\n"
TURNS = 8
SECONDS = 1_800_000_000.0

fuzz = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True, slots=True)
class Said:
    """What a receiver writes for one request, in `parts`, and whether it closes then."""

    parts: tuple[bytes, ...]
    closes: bool


@dataclass
class Peer:
    """A receiver on this machine. It counts connections; `said` is set when it has written all that it will."""

    port: int
    said: asyncio.Event
    connections: int = 0
    requests: int = 0


async def _nobody(host: str, _: int) -> list[str]:
    raise AssertionError(host)


@asynccontextmanager
async def talking(
    *answers: Said | Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[tuple[Peer, Line]]:
    """A receiver that gives these answers one after another, `PLAIN` after the last, and a line to it."""
    left, peer, serving = list(answers), Peer(0, asyncio.Event()), list[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        serving.append(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(HEAD_END)
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                peer.requests += 1
                if not await _answered(writer, left.pop(0) if left else Said((PLAIN,), False)):
                    return
                peer.said.set()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the line has hung up
        finally:
            writer.close()
            peer.said.set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    goal = target(f"http://127.0.0.1:{peer.port}/hook")
    line = Line(goal, Vetting(("127.0.0.0/8",), _nobody), 2, TRUST, lambda: round(SECONDS * 1_000))
    async with server:
        try:
            yield peer, line
        finally:
            await line.close()
            server.close()
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


async def _answered(
    writer: asyncio.StreamWriter, answer: Said | Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> bool:
    """Whether the connection stays."""
    if not isinstance(answer, Said):
        await answer(writer)
        return False
    for part in answer.parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    return not answer.closes


async def _seen() -> None:
    """What was written on this machine has come through the loop."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def _post(line: Line, timeout_ms: int = LONG_MS) -> Answer:
    async with asyncio.timeout(PATIENCE_S):
        return await line.post(b'{"n": 1}', (), timeout_ms)


async def _twice(said: Said) -> tuple[Answer, Answer, int]:
    """What became of a request that was answered so, of one after it, and how many connections it took."""
    async with talking(said) as (peer, line):
        first = await _post(line)
        await peer.said.wait()
        await _seen()
        return first, await _post(line), peer.connections


# ---- answers as they should be, in pieces, and cut off


@dataclass(frozen=True, slots=True)
class Script:
    """An answer, what is to be made of it, and whether another request may follow on its connection."""

    said: Said
    status: int | None
    body: bytes
    whole: bool
    reusable: bool


def _chunked(body: bytes, sizes: list[int], trailers: bytes) -> bytes:
    made, at = b"", 0
    for size in sizes:
        if part := body[at : at + size]:
            made += b"%x;a=b\r\n%b\r\n" % (len(part), part)
        at += size
    if rest := body[at:]:
        made += b"%x\r\n%b\r\n" % (len(rest), rest)
    return made + b"0\r\n" + trailers + b"\r\n"


def _pieces(raw: bytes, cuts: list[int]) -> tuple[bytes, ...]:
    places = sorted({cut % (len(raw) + 1) for cut in cuts})
    return tuple(part for start, end in zip([0, *places], [*places, len(raw)], strict=True) if (part := raw[start:end]))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    status = draw(st.sampled_from([200, 201, 202, 299, 301, 400, 404, 410, 429, 500, 503, 599, 999]))
    body = draw(st.binary(max_size=40) | st.integers(1_000, 3_000).map(lambda size: b"x" * size))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    version = b"HTTP/1.0" if (old := framing != "chunked" and draw(st.booleans())) else b"HTTP/1.1"
    says_close = draw(st.booleans())
    heads = b"".join(draw(st.lists(st.sampled_from(INTERIM), max_size=3)))
    head = heads + version + b" %d Said\r\n" % status + (b"Connection: close\r\n" if says_close else b"")
    if framing == "length":
        raw = body
        head += b"Content-Length: %d\r\n" % len(body)
    elif framing == "chunked":
        raw = _chunked(
            body, draw(st.lists(st.integers(1, 9), max_size=4)), draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
        )
        head += b"Transfer-Encoding: chunked\r\n"
    else:
        raw = body
    head += b"\r\n"
    answer, closes = head + raw, framing == "close" or draw(st.booleans())
    surplus = b"" if framing == "close" else draw(st.sampled_from([b"", b"", b"\0", PLAIN, b"HTTP/1.1 500 No\r\n\r\n"]))
    end = draw(st.integers(0, len(answer) - 1)) if draw(st.booleans()) and framing != "close" else None
    cuts = draw(st.lists(st.integers(0, 10_000), max_size=6))
    whole = end is None
    if whole:
        pieces = (*_pieces(answer, cuts)[:-1], _pieces(answer, cuts)[-1] + surplus)
    else:
        pieces, closes = _pieces(answer[:end], cuts), True
    told = end is None or end >= len(head)
    reusable = whole and not (closes or says_close or old or surplus)
    sent = body if whole else b""
    return Script(Said(pieces, closes), status if told else None, sent, whole, reusable)


def _outcome(status: int | None) -> str:
    if status is None:
        return "unreachable"
    return "delivered" if 200 <= status < 300 else "gone" if status == 410 else "refused"


@fuzz
@given(scripts())
def test_an_answer_in_any_pieces_is_judged_by_its_head_and_never_taken_for_the_next_ones(script: Script) -> None:
    first, second, connections = asyncio.run(_twice(script.said))
    assert (first.outcome, first.status) == (_outcome(script.status), script.status)
    if script.whole and script.body.isascii() and script.body.decode().isprintable():
        assert first.response == (script.body[:MAX_EXCERPT].decode() or None)
    assert (second.outcome, second.status) == ("delivered", 204)
    assert connections == (1 if script.reusable else 2)


# ---- answers that are none


@st.composite
def noises(draw: st.DrawFn) -> bytes:
    """Bytes of any kind, or an answer with some of its bytes replaced, removed or doubled."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    made = bytearray(b"".join(draw(scripts()).said.parts)[:400])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        made[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"\r\n", b"\0", b"9" * 25])
        )
    return bytes(made)


@fuzz
@given(noises(), st.lists(st.integers(0, 10_000), max_size=4))
@example(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab", [])
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab", [])
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5_000 + b"\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", [])
@example(b"HTTP/2 200 OK\r\n\r\n", [])
@example(b"HTTP/1.1 503 No\r\nRetry-After: Mon, 23 Nov 2026 00:00:00 +" + b"9" * 25 + b"\r\n\r\n", [])
def test_whatever_comes_has_an_outcome_and_the_next_request_is_untouched(noise: bytes, cuts: list[int]) -> None:
    first, second, _ = asyncio.run(_twice(Said(_pieces(noise, cuts), True)))
    assert first.outcome in OUTCOMES
    assert (first.status is None) == (first.outcome == "unreachable")
    assert (first.outcome == "delivered") == (first.status is not None and 200 <= first.status < 300)
    assert (second.outcome, second.status) == ("delivered", 204)


@fuzz
@given(
    st.text(max_size=40)
    | st.builds(
        "Mon, {} {} {} {}:{}:{} {}".format,
        *(st.integers(0, 99) | st.integers(0, 10**30) | st.just("Nov") for _ in range(6)),
        st.sampled_from(["GMT", "+0000", "-9999", "+" + "9" * 30, "EST", ""]),
    ),
    st.floats(0, 4_000_000_000),
)
def test_any_retry_after_is_a_time_within_a_day_or_nothing(value: str, now_s: float) -> None:
    asked = retry_after_ms(value, now_s)
    assert asked is None or 0 <= asked <= 86_400_000


# ---- answers without an end


async def _forever(writer: asyncio.StreamWriter, beginning: bytes, more: bytes) -> None:
    writer.write(beginning)
    while not writer.transport.is_closing():
        writer.write(more)
        await writer.drain()
        await asyncio.sleep(0)


async def _silent(writer: asyncio.StreamWriter, beginning: bytes) -> None:
    writer.write(beginning)
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("beginning", "more", "outcome"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "timeout"),
        (b"HTTP/1.1 200", b"", "timeout"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", "unreachable"),  # no head is that long
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", b"", "delivered"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n", "delivered"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"a" * 100, "delivered"),
        (b"HTTP/1.1 410 Gone\r\n\r\n", b"x" * 1_000, "gone"),
    ],
)
async def test_an_answer_without_an_end_has_its_verdict_in_time(beginning: bytes, more: bytes, outcome: str) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        await (_forever(writer, beginning, more) if more else _silent(writer, beginning))

    async with talking(endless) as (peer, line):
        assert (await _post(line, LONG_MS if outcome == "unreachable" else 300)).outcome == outcome
        assert (await _post(line)).status == 204
        assert peer.connections == 2


async def test_a_large_answer_in_one_piece_leaves_its_connection_able_to_hear_the_next_one() -> None:
    head = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000 + b"\r\ncontent-length: 50000\r\n\r\n"
    async with talking(Said((head + b"z" * 50_000,), False)) as (peer, line):
        for _ in range(5):
            assert (await _post(line)).outcome == "delivered"
        assert peer.connections == 1
