"""What clients do not read: bounded in memory over all connections, and in time, in clear and over TLS."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from streambroker.certificates import make
from streambroker.transport.server import Deadlines
from streambroker.transport.server.portions import PORTION
from tests.transport.server.world import SHORT, Client, World, frame, request, serving, upgrade

PATIENT = Deadlines(unread=3_600.0)
LARGE, SMALLER = 24_000_000, 16_000_000
Serving = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture(params=["clear", "tls"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serving:
    if request.param == "clear":
        return serving
    pair = make(tmp_path, ["127.0.0.1"], 30, datetime.datetime.now(datetime.UTC), replace=False)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert_file, pair.key_file)
    return partial(serving, tls=tls, trust=ssl.create_default_context(cafile=str(pair.cert_file)))


async def stuck(world: World, path: str) -> Client:
    """A client that has asked for an answer and reads next to nothing of it."""
    behind = len(world.watch.backlog)
    client = await world.client(limit=1_000)
    client.send(request(path))
    await world.until(lambda: len(world.watch.backlog) == behind + 1)
    return client


async def received(client: Client) -> int:
    """How many bytes come until the connection ends, whatever ends it."""
    size = 0
    async with asyncio.timeout(40):
        try:
            while part := await client.reader.read(1_000_000):
                size += len(part)
        except OSError:
            pass
    return size


@pytest.mark.parametrize("path", ["/big/{}", "/whole/{}"])
async def test_what_waits_is_counted_to_the_byte_but_for_what_the_system_has(serve: Serving, path: str) -> None:
    async with serve(deadlines=PATIENT) as world:
        await stuck(world, path.format(LARGE))
        waits = world.watch.backlog.count()
        assert LARGE / 3 < waits < LARGE
        await stuck(world, path.format(LARGE))
        assert world.watch.backlog.count() > waits + LARGE / 3


@pytest.mark.parametrize("path", ["/big/{}", "/whole/{}"])
async def test_beyond_the_bound_whoever_has_most_waiting_is_cut_and_the_others_get_all(
    serve: Serving, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(deadlines=PATIENT) as world:
        backlog = world.watch.backlog
        large = await stuck(world, path.format(LARGE))
        backlog.most = backlog.count()
        smaller = await world.client(limit=1_000)
        smaller.send(request(path.format(SMALLER)))
        await world.until(lambda: "most of the" in caplog.text and len(world.protocols) == 1)
        assert 0 < backlog.count() <= backlog.most
        assert await received(large) < LARGE
        assert len((await smaller.answer()).body) == SMALLER
        await world.until(lambda: not len(backlog))
        smaller.send(request("/next", b"1"))
        assert (await smaller.answer()).body == b"/next 1"


async def test_a_single_client_may_have_more_than_the_bound(serve: Serving) -> None:
    async with serve(deadlines=PATIENT) as world:
        world.watch.backlog.most = 1
        client = await stuck(world, f"/whole/{LARGE}")
        assert world.watch.backlog.count() > 1
        assert len((await client.answer()).body) == LARGE


async def test_an_answer_that_is_taken_too_slowly_is_cut_off_though_something_is_taken_all_the_time(
    serve: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    slow = replace(SHORT, unread=1.0, least=20_000_000.0)
    async with serve(deadlines=slow) as world:
        client = await stuck(world, f"/whole/{LARGE}")
        got = 0
        while world.protocols:  # at a megabyte a second
            got += len(await client.reader.read(20_000))
            await asyncio.sleep(0.02)
        assert got + await received(client) < LARGE
        assert "fewer than 20,000,000 bytes a second" in caplog.text


async def test_a_client_that_takes_what_the_system_kept_for_it_reads_on(caplog: pytest.LogCaptureFixture) -> None:
    """The system asks for more when a third of what it keeps is gone: a slow reader takes much before that."""
    async with serving(deadlines=PATIENT) as world:
        client = await world.client(limit=1_000)
        client.send(request(f"/whole/{LARGE}"))
        await world.until(lambda: len(world.watch.backlog) == 1)
        reading = world.http._reading
        began, waits = reading._left, world.watch.backlog.count()
        taken = 0
        while reading._not_taken() == began and taken < LARGE:
            taken += len(await client.reader.read(100_000))
        assert world.watch.backlog.count() == waits
        now = asyncio.get_running_loop().time()
        assert reading.look(now + 1) > now + 3_000
        assert reading._left < began


async def test_the_last_answer_of_a_connection_comes_whole(serve: Serving) -> None:
    async with serve(deadlines=PATIENT) as world:
        client = await world.client(limit=1_000)
        client.send(request(f"/whole/{LARGE}", b"", b"Connection: close"))
        await world.until(lambda: len(world.watch.backlog) == 1)
        assert len((await client.answer()).body) == LARGE
        assert await client.rest() == b""


async def test_answers_that_are_sent_ahead_for_follow_each_other_whole(serve: Serving) -> None:
    async with serve(deadlines=PATIENT) as world:
        client = await world.client()
        sizes = [PORTION - 200, 3_000_000, 1, 0, PORTION, 2_000_000]
        client.send(b"".join(request(f"/whole/{size}") for size in sizes))
        for size in sizes:
            assert (await client.answer()).body == b"x" * size


async def test_what_is_no_request_is_answered_after_those_that_wait_for_their_client_to_read(serve: Serving) -> None:
    async with serve(deadlines=PATIENT) as world:
        client = await stuck(world, f"/whole/{LARGE}")
        client.send(request("/after", b"1") + b"nonsense\r\n\r\n")
        assert len((await client.answer()).body) == LARGE
        assert (await client.answer()).body == b"/after 1"
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
        assert world.app.seen == [f"/whole/{LARGE}", "/after"]


async def test_a_request_that_waits_for_its_client_to_read_goes_with_it(serve: Serving) -> None:
    async with serve(deadlines=PATIENT) as world:
        client = await stuck(world, f"/whole/{LARGE}")
        client.send(request("/after", b"1"))
        await world.until(lambda: world.http._deferred is not None)
        client.writer.transport.abort()
        await world.until(lambda: not world.protocols and not world.front.server_state.tasks)
        assert world.app.seen == [f"/whole/{LARGE}"]
        assert len(world.watch.backlog) == 0


async def test_what_a_websocket_is_sent_counts_with_the_answers(serve: Serving) -> None:
    async with serve(deadlines=PATIENT, max_frame=LARGE) as world:
        backlog = world.watch.backlog
        socket_ = await world.client(limit=1_000)
        await socket_.opened("/echo")
        socket_.send(frame(b"x" * LARGE, 1))
        await world.until(lambda: len(backlog) == 1)
        backlog.most = backlog.count()
        other = await world.client(limit=1_000)
        other.send(request(f"/whole/{SMALLER}"))
        await world.until(lambda: len(world.protocols) == 1)
        async with asyncio.timeout(40):
            await world.app.left.wait()
        assert backlog.count() <= backlog.most


async def test_those_who_wait_to_write_on_a_websocket_write_one_after_another() -> None:
    async with serving(deadlines=PATIENT, max_frame=LARGE) as world:
        client = await world.client(limit=1_000)
        await client.opened("/crowd")
        client.send(frame(b"x" * 4_000_000, 1))
        await world.until(lambda: len(world.watch.backlog) == 1)
        for _ in range(5):
            opcode, payload = await client.frame()
            assert (opcode, len(payload)) == (2, 4_000_000)
            assert world.watch.backlog.count() <= 4_000_010


async def test_a_websocket_after_an_answer_that_is_not_read_yet_is_opened_and_counted() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await stuck(world, f"/whole/{LARGE}")
        client.send(upgrade())
        assert len((await client.answer()).body) == LARGE
        assert (await client.answer()).status == 101
        await world.until(lambda: not len(world.watch.backlog))
