"""How much a client may send: heads, fields, requests ahead of their answers; and how many clients there may be."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from streambroker.transport.server.bounds import MAX_FIELDS, MAX_HEAD, MAX_TARGET, PORTION, REFUSED_AT_ONCE
from tests.transport.server.world import SHORT, Client, request, serving, upgrade

PATIENT = replace(SHORT, head=10, body=10, refused=10)
HANDSHAKE_FIELDS = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
ONE_READ = 256_000
"""What the event loop reads at a time."""
IN_BETWEEN = 8_000_000
"""What the operating system may hold for two sockets on loopback."""


async def sent(client: Client, data: bytes) -> int:
    """Send until all is sent or the server hangs up; how much it was at most that the server took."""
    for at in range(0, len(data), 65_536):
        try:
            await client.send_all(data[at : at + 65_536])
        except (OSError, RuntimeError):  # the latter is uvloop's, for a transport that is closed
            return at
    return len(data)


# --- heads ---------------------------------------------------------------------------------------------------------


async def test_a_head_of_twenty_megabytes_is_refused_after_its_first_64_kib() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        answering = asyncio.create_task(client.answer())
        taken = await sent(client, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000_000)
        answer = await answering
        assert answer.status == 431
        assert answer.problem["code"] == "too_large"
        assert answer.headers["connection"] == "close"
        assert taken <= MAX_HEAD + ONE_READ + IN_BETWEEN
        assert await client.rest() == b""
        assert world.app.seen == []


async def test_no_more_of_a_head_is_kept_than_64_kib_and_one_read() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        await client.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * (MAX_HEAD - 2 * PORTION))
        await world.until(lambda: world.http._got > MAX_HEAD - 3 * PORTION)
        client.send(b"x" * 3 * PORTION)
        assert (await client.answer()).status == 431


async def test_a_head_of_almost_64_kib_is_taken() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        fields = [b"X-Field-%d: " % number + b"x" * 1_000 for number in range(60)]
        for path in ("/1", "/2"):
            client.send(request(path, b"abc", *fields))
            assert (await client.answer()).body == path.encode() + b" abc"


@pytest.mark.parametrize("count", [MAX_FIELDS - 1, 20_000])
@pytest.mark.parametrize("path", ["/x", "/ws"])
async def test_too_many_fields_are_refused(path: str, count: int) -> None:
    fields = [b"X-%d: 1" % number for number in range(count)]
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        client.send(upgrade(path, *fields) if path == "/ws" else request(path, b"", *fields))
        answer = await client.answer()
        assert answer.status == 431
        assert answer.problem["code"] == "too_large"
        assert await client.rest() == b""
        assert world.app.seen == []


async def test_as_many_fields_as_are_allowed_are_taken() -> None:
    fields = [b"X-%d: 1" % number for number in range(MAX_FIELDS - 2)]
    async with serving() as world:
        client = await world.client()
        client.send(request("/x", b"", *fields))
        assert (await client.answer()).status == 200
        assert len(world.app.scopes[0]["headers"]) == MAX_FIELDS


@pytest.mark.parametrize("size", [MAX_TARGET + 1, 10 * MAX_TARGET])
@pytest.mark.parametrize("ends", [True, False])
async def test_a_long_target_is_refused_whether_it_ends_or_not(size: int, ends: bool) -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        line = b"GET /" + b"x" * (size - 1)
        client.send(line + b" HTTP/1.1\r\nHost: localhost\r\n\r\n" if ends else line)
        answer = await client.answer()
        assert answer.status in (414, 431)
        assert answer.problem["code"] == "too_large"
        assert world.app.seen == []


async def test_a_handshake_with_too_large_a_head_is_refused() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        client.send(upgrade("/ws", *[b"X-%d: " % number + b"x" * 2_000 for number in range(50)]))
        assert (await client.answer()).status == 431
        assert await client.rest() == b""
        client = await world.client()
        client.send(upgrade("/ws", b"X-Line: " + b"x" * 10_000))  # more than `websockets` takes in a line
        answer = await client.answer()
        assert answer.status == 431
        assert answer.problem["code"] == "too_large"
        assert await client.rest() == b""


# --- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flood", [b"1;" + b"x" * 200_000, b"0\r\n" + b"X: y\r\n" * 40_000, b"0\r\nX: " + b"y" * 200_000]
)
async def test_a_chunked_body_of_little_but_framing_is_refused(flood: bytes) -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + flood)
        assert (await client.answer()).problem["code"] == "malformed"
        assert await client.rest() == b""
        assert world.app.bodies == []


async def test_small_chunks_are_no_flood() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        chunks = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert (await client.answer()).status == 200
        assert world.app.bodies == [b"x" * 50_000]


# --- requests ahead of their answers -------------------------------------------------------------------------------


async def test_requests_that_are_sent_ahead_are_answered_in_order() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(b"".join(request(f"/{number}", b"b%d" % number) for number in range(1_000)))
        for number in range(1_000):
            assert (await client.answer()).body == b"/%d b%d" % (number, number)
        assert world.app.seen == [f"/{number}" for number in range(1_000)]


async def test_few_of_the_requests_that_are_sent_ahead_are_held_parsed() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/wait"))
        await world.until(lambda: world.app.seen == ["/wait"])
        small = b"GET / HTTP/1.1\r\n\r\n"
        sending = asyncio.create_task(client.send_all(small * 200_000))
        await world.until(lambda: world.http.flow.held)
        protocol = world.http
        most = 0
        world.app.go.set()
        for _ in range(2_000):
            answer = await client.answer()
            assert answer.status == 200
            most = max(most, len(protocol.pipeline))
            assert len(protocol._unfed) <= 2 * ONE_READ
        assert most <= PORTION / len(small) + 1
        sending.cancel()


async def test_a_client_that_leaves_is_missed_by_its_long_poll_also_with_a_request_behind_it() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/wait") + request("/behind"))
        await world.until(lambda: world.protocols and world.http.pipeline)
        client.writer.transport.abort()
        async with asyncio.timeout(40):
            await world.app.left.wait()
        assert world.app.seen == ["/wait"]


@pytest.mark.parametrize(
    "wrong",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Field: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        upgrade(),
        request("/x", b"", *[b"X-%d: 1" % number for number in range(MAX_FIELDS)]),
    ],
)
async def test_a_refusal_waits_until_the_requests_before_it_are_answered(wrong: bytes) -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/wait/1") + request("/2") + wrong + request("/smuggled"))
        await world.until(lambda: world.protocols and world.http._deaf)
        world.app.go.set()
        assert (await client.answer()).body == b"/wait/1 "
        assert (await client.answer()).body == b"/2 "
        assert (await client.answer()).status in (400, 431)
        assert await client.rest() == b""
        assert world.app.seen == ["/wait/1", "/2"]


# --- how many clients ----------------------------------------------------------------------------------------------


async def test_a_connection_too_many_is_answered_503_and_there_is_room_again_when_one_leaves() -> None:
    async with serving(most_connections=3, deadlines=PATIENT) as world:
        clients = [await world.client() for _ in range(2)]
        socket = await world.client()
        await socket.opened()
        surplus = await world.client()
        surplus.send(request())
        answer = await surplus.answer()
        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["connection"] == "close"
        assert answer.problem["code"] == "overloaded"
        assert await surplus.rest() == b""
        surplus = await world.client()
        surplus.send(upgrade())
        assert (await surplus.answer()).status == 503
        for client in clients:
            client.send(request())
            assert (await client.answer()).status == 200
        socket.writer.transport.abort()
        await world.until(lambda: len(world.protocols) == 2)
        client = await world.client()
        await client.opened()
        assert world.app.seen == ["/ws", "/", "/", "/ws"]


async def test_connections_that_are_refused_take_nobodys_place() -> None:
    async with serving(most_connections=1, deadlines=PATIENT) as world:
        first = await world.client()
        await world.until(lambda: len(world.protocols) == 1)
        waiting = [await world.client() for _ in range(5)]
        await world.until(lambda: len(world.protocols) == 6)
        first.writer.transport.abort()
        await world.until(lambda: len(world.protocols) == 5)
        client = await world.client()
        client.send(request("/x"))
        assert (await client.answer()).status == 200
        for surplus in waiting:
            surplus.send(request("/y"))
            assert (await surplus.answer()).status == 503
        await world.until(lambda: world.watch.surplus == 0)


async def test_a_silent_connection_too_many_is_answered_before_long() -> None:
    async with serving(most_connections=1, deadlines=replace(PATIENT, refused=0.2)) as world:
        await world.client()
        await world.until(lambda: world.protocols)
        surplus = await world.client()
        assert (await surplus.answer()).status == 503
        assert await surplus.rest() == b""


async def test_of_very_many_connections_too_many_some_are_answered_before_they_ask() -> None:
    async with serving(most_connections=1, deadlines=PATIENT) as world:
        clients = [await world.client() for _ in range(REFUSED_AT_ONCE + 20)]
        answers = [asyncio.create_task(client.answer()) for client in clients]
        await world.until(lambda: len(world.protocols) == 1 + REFUSED_AT_ONCE)
        done, waiting = await asyncio.wait(answers, timeout=40, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status for task in done} == {503}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
