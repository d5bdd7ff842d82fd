"""What is tried again, how often, and after which waits."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from streambroker.client.errors import ConnectionLost, Overloaded, RateLimited, ServerError, StreambrokerTimeout
from streambroker.client.http import Http
from streambroker.client.models import Draft, Published
from streambroker.client.overview import ready
from streambroker.client.posting import Posting
from tests.client.answers import Script, Waits, http, problem

OK = httpx.Response(200, json={"message_id": "m1", "status": "pending", "duplicate": False})
REFUSED = httpx.ConnectError("refused")
CUT = httpx.RemoteProtocolError("the server went away")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_is_tried_again_whatever_the_call(method: str) -> None:
    script, waits = Script(REFUSED, REFUSED, OK), Waits()
    await http(script, waits=waits).call(method, "/x", Published)
    assert waits.seconds == [0.5, 1.0]


async def test_tries_come_to_an_end() -> None:
    script = Script(REFUSED)
    with pytest.raises(ConnectionLost) as caught:
        await http(script).call("GET", "/x")
    assert len(script.requests) == 3
    assert not caught.value.outcome_unknown


async def test_a_call_that_may_have_been_done_is_not_made_again() -> None:
    script = Script(CUT, OK)
    with pytest.raises(ConnectionLost) as caught:
        await http(script).call("POST", "/x")
    assert len(script.requests) == 1
    assert caught.value.outcome_unknown


async def test_a_get_is_made_again_after_a_cut() -> None:
    script = Script(CUT, OK)
    await http(script).call("GET", "/x")
    assert len(script.requests) == 2


async def test_a_publish_is_made_again_with_the_same_dedup_id() -> None:
    script = Script(CUT, httpx.Response(502), OK)
    published = await Posting(http(script)).publish("q", Draft(content={"a": 1}))
    assert published.message_id == "m1"
    assert len(script.requests) == 3
    assert b'"dedup_id":"' in script.bodies[0]
    assert script.bodies[0] == script.bodies[1] == script.bodies[2]


async def test_two_publishes_have_dedup_ids_of_their_own() -> None:
    script = Script(OK)
    posting = Posting(http(script))
    await posting.publish("q", Draft(content=1))
    await posting.publish("q", Draft(content=1))
    assert script.bodies[0] != script.bodies[1]


@pytest.mark.parametrize(("code", "status"), [("rate_limited", 429), ("overloaded", 503), ("draining", 503)])
async def test_what_was_certainly_not_done_is_tried_again_when_the_broker_says(code: str, status: int) -> None:
    script, waits = Script(problem(code, status, retry_after_ms=2_000), OK), Waits()
    await http(script, waits=waits).call("POST", "/x")
    assert waits.seconds == [2.5]


async def test_a_503_of_something_in_between_says_nothing_certain() -> None:
    script = Script(httpx.Response(503), OK)
    with pytest.raises(Exception, match="503"):
        await http(script).call("POST", "/x")
    assert len(script.requests) == 1


async def test_a_fault_of_the_broker_is_not_repeated_for_a_call_that_may_be_done_once_only() -> None:
    script = Script(problem("internal", 500))
    with pytest.raises(ServerError) as caught:
        await http(script).call("POST", "/x")
    assert len(script.requests) == 1
    assert caught.value.outcome_unknown


async def test_a_wait_longer_than_the_call_may_take_is_not_begun() -> None:
    waits = Waits()
    with pytest.raises(RateLimited):
        await http(Script(problem("rate_limited", 429, retry_after_ms=60_000)), waits=waits, timeout=30).call(
            "GET", "/x"
        )
    assert waits.seconds == []


async def test_waits_grow_to_a_bound() -> None:
    script, waits = Script(problem("overloaded", 503)), Waits()
    with pytest.raises(Overloaded):
        await http(script, waits=waits).call("GET", "/x")
    assert waits.seconds == [0.5, 1.0]


async def test_a_call_that_takes_too_long_says_that_nobody_knows() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Http(f"http://127.0.0.1:{port}")
    try:
        with pytest.raises(StreambrokerTimeout) as caught:
            await client.call("GET", "/x", timeout=0.05)
        assert caught.value.outcome_unknown
        assert isinstance(caught.value, TimeoutError)
    finally:
        await client.close()
        server.close()


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:9")

    async def ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(ok, "127.0.0.1", 0)
    client = Http(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        assert await client.call("GET", "/x", dict[str, int], timeout=5) == {}
    finally:
        await client.close()
        server.close()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://u:p@x", "http://x/?token=1"])
def test_what_is_no_url_of_a_broker_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Http(url)


async def test_whether_a_broker_is_ready_is_asked_once() -> None:
    script = Script(problem("overloaded", 503, retry_after_ms=1))
    with pytest.raises(Overloaded):
        await ready(http(script))
    assert len(script.requests) == 1
