"""A receiver of webhooks: a small HTTP server in the test's own loop that answers what the test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks.webhooks import Webhook

PATIENCE_S = 40
Write = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """One request as it came in; `headers` by their names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def verified(self, secret: str) -> Any:
        """The body, once the library of Standard Webhooks has found its signature right."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Answers 204, or what was put into `answers`: a status, a whole answer in bytes, or a function that writes one.

    While `open` is not set, requests wait for their answers. `connections` counts those who came.
    """

    url: str = ""
    port: int = 0
    answers: deque[int | bytes | Write] = field(default_factory=deque)
    otherwise: int | bytes | Write = 204
    open: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Request] = field(default_factory=list)
    connections: int = 0
    waiting: int = 0
    most_waiting: int = 0
    server_names: list[str | None] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def until(self, count: int) -> list[Request]:
        """All requests, once there are so many."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen) < count:
                self._news.clear()
                await self._news.wait()
        return self.seen

    async def one(self) -> Request:
        """The only request that came."""
        (request,) = await self.until(1)
        return request

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(await self._request(head, reader), writer)
        writer.close()

    async def _request(self, head: bytes, reader: asyncio.StreamReader) -> Request:
        line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = [one.partition(":") for one in lines]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Request(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        self.seen.append(request)
        self._news.set()
        try:
            await self.open.wait()
            answer = self.answers.popleft() if self.answers else self.otherwise
            if callable(answer):
                await answer(writer)
            else:
                writer.write(status(answer) if isinstance(answer, int) else answer)
                await writer.drain()
        finally:
            self.waiting -= 1


def status(code: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {code} Told", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of 127.0.0.1."""
    receiver = Receiver()
    if tls is not None:
        tls.sni_callback = lambda _, name, __: receiver.server_names.append(name)
    tasks = set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    receiver.url = f"http{'s' if tls else ''}://127.0.0.1:{receiver.port}/hook"
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
