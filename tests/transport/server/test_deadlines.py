"""How long a client may take: for a head, for a body, for reading its answer. Others may take as long as they like."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace

import pytest

from tests.transport.server.world import SHORT, Client, World, request, serving, upgrade

HEAD = b"GET /x HTTP/1.1\r\nHost: localhost\r\n"


async def head_deadline_over(world: World) -> None:
    """Returns when a connection that is opened now has been closed for its silence."""
    witness = await world.client()
    assert await witness.rest() == b""


async def trickled(client: Client, data: bytes) -> None:
    """Send byte by byte, each long before any deadline, until the connection is closed."""
    closed = asyncio.create_task(client.rest())
    bytes_ = itertools.chain((bytes([byte]) for byte in data), itertools.repeat(b"a"))
    while not closed.done():
        with contextlib.suppress(RuntimeError):  # uvloop's, for a transport that is closed
            client.send(next(bytes_))
        await asyncio.sleep(0.02)
    await closed


async def test_a_silent_connection_is_closed_without_a_word() -> None:
    async with serving() as world:
        client = await world.client()
        assert await client.rest() == b""
        await world.until(lambda: not world.protocols)
        assert len(world.watch) == 0


async def test_half_a_head_is_answered_408_and_closed() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(HEAD)
        answer = await client.answer()
        assert answer.status == 408
        assert answer.problem["code"] == "request_timeout"
        assert answer.problem["retryable"] is True
        assert await client.rest() == b""
        assert world.app.seen == []


async def test_a_head_that_comes_byte_by_byte_is_closed() -> None:
    async with serving() as world:
        client = await world.client()
        await trickled(client, HEAD + b"X-Long: ")
        assert world.app.seen == []


async def test_line_ends_before_a_request_are_no_way_to_stay() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/first"))
        assert (await client.answer()).status == 200
        await trickled(client, b"\r\n" * 10_000)


async def test_the_head_of_a_further_request_is_timed_and_the_time_between_is_not() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/first"))
        assert (await client.answer()).status == 200
        await head_deadline_over(world)
        client.send(request("/second"))
        assert (await client.answer()).status == 200
        client.send(HEAD)
        assert (await client.answer()).status == 408
        assert await client.rest() == b""


async def test_a_connection_that_is_idle_for_long_is_closed() -> None:
    async with serving(deadlines=replace(SHORT, idle=0.6)) as world:
        client = await world.client()
        for path in ("/1", "/2", "/3"):
            client.send(request(path))
            assert (await client.answer()).status == 200
        assert await client.rest() == b""


async def test_an_answer_that_takes_longer_than_the_idle_time_is_waited_for() -> None:
    async with serving(deadlines=replace(SHORT, idle=0.1)) as world:
        client = await world.client()
        client.send(request("/first"))
        assert (await client.answer()).status == 200
        client.send(request("/wait"))
        await world.until(lambda: "/wait" in world.app.seen)
        idle = await world.client()
        idle.send(request("/idle"))
        await idle.answer()
        assert await idle.rest() == b""
        world.app.go.set()
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_is_answered_408_and_the_application_hears_that_the_client_left(
    framing: bytes,
) -> None:
    async with serving() as world:
        client = await world.client()
        client.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % framing)
        answer = await client.answer()
        assert answer.status == 408
        assert answer.problem["code"] == "request_timeout"
        assert await client.rest() == b""
        async with asyncio.timeout(40):
            await world.app.left.wait()
        assert world.app.bodies == []


async def test_a_body_that_comes_byte_by_byte_is_closed() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        await trickled(client, b"x" * 10_000)
        assert world.app.bodies == []


async def test_a_large_body_has_more_time_as_long_as_it_comes_fast_enough() -> None:
    deadlines = replace(SHORT, body=0.3, rate=10_000)
    async with serving(deadlines=deadlines) as world:
        client = await world.client()
        client.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 90_000)
        slow = await world.client()
        slow.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100)
        assert (await slow.answer()).status == 408
        client.send(b"x" * 10_000)
        assert (await client.answer()).status == 200


async def test_a_body_that_the_application_lets_wait_is_not_timed() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(b"POST /late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n")
        sending = asyncio.create_task(client.send_all(b"x" * 4_000_000))
        await world.until(lambda: world.protocols and world.http.flow.read_paused)
        for _ in range(3):
            await head_deadline_over(world)
        world.app.go.set()
        answer = await client.answer()
        await sending
        assert answer.status == 200
        assert len(answer.body) == 4_000_006


async def test_a_request_behind_a_long_poll_is_not_timed() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/wait") + request("/behind", b"x" * 300_000)[:200_000])
        await world.until(lambda: world.app.seen == ["/wait"])
        for _ in range(3):
            await head_deadline_over(world)
        world.app.go.set()
        assert (await client.answer()).body == b"/wait "
        client.send(request("/behind", b"x" * 300_000)[200_000:])
        assert len((await client.answer()).body) == 300_008


async def test_neither_a_long_poll_nor_a_websocket_is_timed() -> None:
    async with serving() as world:
        poll, socket = await world.client(), await world.client()
        poll.send(request("/wait"))
        await socket.opened()
        for _ in range(3):
            await head_deadline_over(world)
        world.app.go.set()
        assert (await poll.answer()).status == 200
        socket.send(b"\x89\x80\0\0\0\0")
        assert await socket.frame() == (10, b"")


async def test_the_rest_of_a_body_that_is_answered_already_is_read_for_a_while_only() -> None:
    async with serving(deadlines=replace(SHORT, body=30)) as world:
        client = await world.client()
        client.send(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
        assert (await client.answer()).status == 413
        client.send(b"x" * 100_000)
        assert await client.rest() == b""


async def test_a_connection_goes_on_when_the_rest_of_an_answered_body_comes() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert (await client.answer()).status == 413
        client.send(b"x" * 100_000 + request("/next"))
        assert (await client.answer()).body == b"/next "
        await head_deadline_over(world)
        client.send(request("/third"))
        assert (await client.answer()).body == b"/third "


async def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async with serving() as world:
        client = await world.client(limit=1)
        client.send(request("/big/20000000"))
        await world.until(lambda: world.app.seen)
        await world.until(lambda: not world.protocols)
        assert len(world.watch) == 0


async def test_a_client_that_reads_slowly_gets_all() -> None:
    async with serving() as world:
        client = await world.client(limit=2**18)
        client.send(request("/big/12000000"))
        left = 12_000_000
        await client.reader.readuntil(b"\r\n\r\n")
        while left:
            left -= len(await client.reader.read(2**19))
            await asyncio.sleep(0.02)
        client.send(request("/next"))
        assert (await client.answer()).body == b"/next "


async def test_what_is_watched_is_forgotten_once_it_came() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/x", b"abc")[:-1])
        await world.until(lambda: len(world.watch) == 1)
        client.send(b"c")
        assert (await client.answer()).status == 200
        await world.until(lambda: len(world.watch) == 0)
        assert len(world.protocols) == 1


async def test_a_handshake_is_timed_like_any_head() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(upgrade()[:-2])
        assert (await client.answer()).status == 408
