"""HTTP without a network: the SDK's calls, carried straight into the broker's application (ASGI 3, HTTP scope).

httpx's own ASGI transport answers only when the body is complete, which that of an event stream never is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
from starlette.types import Message, Receive, Scope, Send

from streambroker.embedded.hosting import Host

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
BASE_URL = "http://localhost"
_CLIENT = ("in-process", 0)
_MOST_PARTS = 64
"""Parts of an answer that may wait for who reads it; the application waits beyond that."""


class InProcess(httpx.AsyncBaseTransport):
    """Calls an application on the loop of `host`, where it is asked for too; may be used on another loop."""

    def __init__(self, application: Callable[[], Application], host: Host) -> None:
        self._application = application
        self._host = host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. The answer's body comes as the application sends it."""
        body = await request.aread()
        exchange = await self._host.call(_begin(self._application, _scope(request), body))
        try:
            status, headers = await self._host.call(exchange.head())
        except BaseException:
            self._host.soon(exchange.hang_up)
            raise
        return httpx.Response(status, headers=headers, stream=_Body(exchange, self._host))


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange, host: Host) -> None:
        self._exchange = exchange
        self._host = host

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._host.call(self._exchange.part())) is not None:
            yield part

    async def aclose(self) -> None:
        self._host.soon(self._exchange.hang_up)


class _Exchange:
    """One request and its answer, on the application's loop. `hang_up()` tells the application that nobody listens."""

    def __init__(self, body: bytes) -> None:
        self._request: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._gone = asyncio.Event()
        self._started: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_PARTS)
        self._task: asyncio.Task[None] | None = None

    def begin(self, application: Application, scope: Scope) -> None:
        self._task = asyncio.create_task(self._answer(application, scope))

    async def _answer(self, application: Application, scope: Scope) -> None:
        try:
            await application(scope, self._receive, self._send)
        except Exception as error:
            if not self._started.done():
                self._started.set_exception(error)
        finally:
            if not self._started.done():
                self._started.cancel()
            if not self._gone.is_set():
                await self._parts.put(None)

    async def _receive(self) -> Message:
        if (request := self._request) is not None:
            self._request = None
            return request
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started.set_result(message)
        elif not self._gone.is_set() and (part := message.get("body")):
            await self._parts.put(part)

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        start = await asyncio.shield(self._started)
        return start["status"], list(start["headers"])

    async def part(self) -> bytes | None:
        return await self._parts.get()

    def hang_up(self) -> None:
        self._gone.set()
        while not self._parts.empty():  # who waits to put something there goes on
            self._parts.get_nowait()


async def _begin(application: Callable[[], Application], scope: Scope, body: bytes) -> _Exchange:
    exchange = _Exchange(body)
    exchange.begin(application(), scope)
    return exchange


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": _CLIENT,
        "root_path": "",
    }
