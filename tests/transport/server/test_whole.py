"""A whole answer in one call says on the wire what the same answer in ASGI's parts says."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.transport.server.world import SHORT, request, serving


async def test_answers_in_one_call_follow_each_other_on_one_connection() -> None:
    async with serving() as world:
        client = await world.client()
        for number in range(3):
            client.send(request("/whole", b"%d" % number))
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"/whole %d" % number)
            assert "connection" not in answer.headers


async def test_they_keep_their_order_among_others_that_are_sent_ahead() -> None:
    async with serving() as world:
        client = await world.client()
        paths = ["/wait", "/whole", "/x", "/whole", "/whole/204", "/y"]
        client.send(b"".join(request(path, b"%d" % number) for number, path in enumerate(paths)))
        await world.until(lambda: world.app.seen == ["/wait"])
        world.app.go.set()
        answers = [await client.answer() for _ in paths]
        assert [answer.body for answer in answers] == [b"/wait 0", b"/whole 1", b"/x 2", b"/whole 3", b"", b"/y 5"]


async def test_the_answer_to_a_head_has_the_length_and_no_body() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/whole", method="HEAD") + request("/whole"))
        assert (await client.answer(head=True)).headers["content-length"] == "7"
        assert (await client.answer()).body == b"/whole "


async def test_an_answer_without_content_has_no_length() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/whole/204") + request("/whole"))
        answer = await client.answer()
        assert (answer.status, answer.headers) == (204, {})
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("wish", [b"Connection: close", b"1.0"])
async def test_it_is_the_last_one_where_the_client_wants_no_more(wish: bytes) -> None:
    async with serving() as world:
        client = await world.client()
        asked = request("/whole", b"", wish) if wish != b"1.0" else b"GET /whole HTTP/1.0\r\n\r\n"
        client.send(asked)
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"/whole ", "close")
        assert await client.rest() == b""


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it_and_then_the_answer() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/whole", b"abc", b"Expect: 100-continue")[:-3])
        async with asyncio.timeout(40):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc" + request("/whole", b"d"))
        assert (await client.answer()).body == b"/whole abc"
        assert (await client.answer()).body == b"/whole d"


async def test_a_request_waits_for_its_client_to_read_the_answer_before() -> None:
    async with serving(deadlines=SHORT) as world:
        client = await world.client(limit=1_000)
        client.send(request("/whole/8000000") * 3)
        await world.until(lambda: len(world.watch.backlog) == 1)
        protocol = world.http
        assert protocol.flow.write_paused
        for _ in range(20):  # turns of the loop, in which the second would be begun
            await asyncio.sleep(0)
        assert len(world.app.seen) == 1
        assert protocol.transport.get_write_buffer_size() < 8_000_000
        for _ in range(3):
            assert len((await client.answer()).body) == 8_000_000


async def test_a_client_that_is_gone_is_not_answered_and_that_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as world:
        client = await world.client(limit=1_000)
        client.send(request("/whole/8000000") * 2)
        await world.until(lambda: world.app.seen and world.http.flow.write_paused)
        client.writer.transport.abort()
        await world.until(lambda: not world.front.server_state.tasks)
    assert caplog.records == []


async def test_there_is_one_answer_to_a_request(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/x"))
        assert (await client.answer()).status == 200
        scope: Any = world.app.scopes[0]
        with pytest.raises(RuntimeError, match="has begun already"):
            await scope["streambroker.answer"](200, b"content-length: 0\r\n", b"")
        client.send(request("/y"))
        assert (await client.answer()).body == b"/y "


async def test_an_answered_request_leaves_nothing_for_the_garbage_collector() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(request("/whole"))
        await client.answer()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                client.send(request("/whole", b"abc"))
                await client.answer()
            world.app.scopes.clear()
            alive = sum(type(one) is RequestResponseCycle for one in gc.get_objects())
        finally:
            gc.enable()
    assert alive <= 1  # the connection's last one
