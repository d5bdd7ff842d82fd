"""A body that came with its head is handed over at once, another is waited for; none is lost or taken twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from streambroker.core.errors import BrokerError
from streambroker.transport import server
from streambroker.transport.front import Front, Hosts
from streambroker.transport.http import Call
from streambroker.transport.problems import Reply, problem_reply, respond

LIMIT = 100


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    scope["path_params"] = {}
    call = Call(scope, receive, None)
    try:
        answer = Reply(200, await call.body(LIMIT))
    except BrokerError as error:
        answer = problem_reply(error, call.request_id)
    await respond(scope, send, answer)


async def answered(*parts: bytes) -> bytes:
    """What the server says to `parts`, each sent when the one before it was certainly read."""
    sock = server.listen("127.0.0.1", 0)
    front = server.Server(server.configured(Front(echo, Hosts(())), 10_000, 1_000))
    running = asyncio.create_task(front.serve(sockets=[sock]))
    try:
        async with asyncio.timeout(60):
            await front.listening.wait()
            reader, writer = await asyncio.open_connection(*sock.getsockname()[:2])
            for number, part in enumerate(parts):
                writer.write(part)
                while number + 1 < len(parts) and not front.server_state.tasks:
                    await asyncio.sleep(0)  # until the application has begun
            answer = await reader.read()
            writer.close()
            return answer
    finally:
        front.should_exit = True
        await running


def head(*fields: bytes) -> bytes:
    return b"".join(
        line + b"\r\n" for line in (b"POST / HTTP/1.1", b"Host: localhost", b"Connection: close", *fields, b"")
    )


WHOLE: list[tuple[bytes, ...]] = [
    (head(b"Content-Length: 3") + b"abc",),
    (head(b"Content-Length: 3"), b"abc"),
    (head(b"Content-Length: 3") + b"a", b"bc"),
    (head(b"Transfer-Encoding: chunked") + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",),
    (head(b"Transfer-Encoding: chunked") + b"1\r\na\r\n", b"2\r\nbc\r\n0\r\n\r\n"),
]


@pytest.mark.parametrize("parts", WHOLE)
async def test_the_whole_body_comes_however_it_was_sent(parts: tuple[bytes, ...]) -> None:
    answer = await answered(*parts)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\nabc")


async def test_no_body_is_an_empty_one() -> None:
    assert (await answered(head())).endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")


LARGE: list[Any] = [
    (head(b"Content-Length: 101") + b"x" * 101,),
    (head(b"Content-Length: 101"),),  # refused by its length, before it comes
    (head(b"Transfer-Encoding: chunked") + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",),
]


@pytest.mark.parametrize("parts", LARGE)
async def test_one_that_is_too_large_is_refused_however_it_was_sent(parts: tuple[bytes, ...]) -> None:
    assert (await answered(*parts)).startswith(b"HTTP/1.1 413")
