"""Redis Streams with a consumer group: from redis-py with hiredis, and from a leaner client of our own.

redis-py with the loop of its documentation (read, handle, ack, read again) is what a user would take, and the
reference of the goals. The lean client shows the best Redis can do: hiredis packs and parses, an asyncio protocol
pipelines on one connection, acks overlap the next read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
import redis.asyncio

from bench.clients.contract import Received

Part = str | int | float | bytes | memoryview
_GROUP = b"bench"
_FIELD = b"c"
_BLOCK_MS = 2_000


class RedisClient:
    """XADD in pipelines, XREADGROUP of what the credit allows, one XACK per reply."""

    overlap_acks = False
    """Whether the next read starts before the ack is confirmed."""

    def __init__(self, port: int, token: str, queue: str) -> None:
        self._port = port
        self._queue = queue.encode()
        self._reader: asyncio.Task[None] | None = None
        self._acks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._room = asyncio.Event()
        self.settled = asyncio.Event()

    async def _command(self, *parts: Part) -> Any:
        """One command on a connection that never blocks."""
        raise NotImplementedError

    async def _read(self, *parts: Part) -> Any:
        """One command that may block."""
        raise NotImplementedError

    async def publish(self, contents: list[bytes]) -> None:
        raise NotImplementedError

    async def prepare(self) -> None:
        await self._command(b"XGROUP", b"CREATE", self._queue, _GROUP, b"0", b"MKSTREAM")

    async def fill(self, contents: list[bytes]) -> None:
        for at in range(0, len(contents), 1_000):
            await self.publish(contents[at : at + 1_000])

    async def consume(self, received: Received, credit: int, consumers: int = 1) -> None:
        name = f"c{id(self)}".encode()
        self._reader = asyncio.get_running_loop().create_task(self._consume(received, credit, name))

    async def _consume(self, received: Received, credit: int, name: bytes) -> None:
        while True:
            while self._held >= credit:
                self._room.clear()
                await self._room.wait()
            reply = await self._read(
                b"XREADGROUP", b"GROUP", _GROUP, name, b"COUNT", credit - self._held, b"BLOCK", _BLOCK_MS,
                b"STREAMS", self._queue, b">",
            )  # fmt: skip
            if not reply:
                continue
            entries = reply[0][1] if isinstance(reply, list) else next(iter(reply.values()))[0]
            self._held += len(entries)
            last = received([fields[1] for _, fields in entries])
            ack = self._ack([entry for entry, _ in entries], last)
            if self.overlap_acks:
                task = asyncio.get_running_loop().create_task(ack)
                self._acks.add(task)
                task.add_done_callback(self._acks.discard)
            else:
                await ack

    async def _ack(self, entries: list[bytes], last: bool) -> None:
        await self._command(b"XACK", self._queue, _GROUP, *entries)
        self._held -= len(entries)
        self._room.set()
        if last:
            self.settled.set()

    async def unsettled(self) -> int:
        pending = await self._command(b"XPENDING", self._queue, _GROUP)
        return int(pending["pending"] if isinstance(pending, dict) else pending[0])

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


class RedisPyClient(RedisClient):
    """redis-py's asyncio client, RESP2, hiredis parser; a pool of connections, as it does by itself."""

    def __init__(self, port: int, token: str, queue: str) -> None:
        super().__init__(port, token, queue)
        self._redis = redis.asyncio.Redis(host="127.0.0.1", port=port, protocol=2)
        self._redis.response_callbacks.clear()

    async def _command(self, *parts: Part) -> Any:
        return await self._redis.execute_command(*parts)

    _read = _command

    async def publish(self, contents: list[bytes]) -> None:
        if len(contents) == 1:
            await self._command(b"XADD", self._queue, b"*", _FIELD, contents[0])
            return
        pipeline = self._redis.pipeline(transaction=False)
        for content in contents:
            pipeline.execute_command(b"XADD", self._queue, b"*", _FIELD, content)
        await pipeline.execute()

    async def close(self) -> None:
        await super().close()
        await self._redis.aclose()


class LeanRedisClient(RedisClient):
    """Two pipelined connections: one for commands, one for the blocking read."""

    overlap_acks = True

    def __init__(self, port: int, token: str, queue: str) -> None:
        super().__init__(port, token, queue)
        self._connections: dict[str, _Pipe] = {}

    async def _pipe(self, use: str) -> _Pipe:
        if use not in self._connections:
            loop = asyncio.get_running_loop()
            _, self._connections[use] = await loop.create_connection(_Pipe, "127.0.0.1", self._port)
        return self._connections[use]

    async def _command(self, *parts: Part) -> Any:
        return (await (await self._pipe("commands")).run([parts]))[0]

    async def _read(self, *parts: Part) -> Any:
        return (await (await self._pipe("reads")).run([parts]))[0]

    async def publish(self, contents: list[bytes]) -> None:
        queue = self._queue
        pipe = self._connections.get("commands") or await self._pipe("commands")
        await pipe.run([(b"XADD", queue, b"*", _FIELD, content) for content in contents])

    async def close(self) -> None:
        await super().close()
        for connection in self._connections.values():
            connection.close()


class _Pipe(asyncio.Protocol):
    """One connection; replies come in the order of the commands."""

    def __init__(self) -> None:
        self._parser = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[list[Any]], int]] = deque()
        self._replies: list[Any] = []
        self._transport: asyncio.Transport | None = None

    def run(self, commands: Sequence[tuple[Part, ...]]) -> asyncio.Future[list[Any]]:
        """Send the commands in one write; the future holds their replies."""
        assert self._transport is not None
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, len(commands)))
        pack: Callable[[tuple[Part, ...]], bytes] = hiredis.pack_command
        self._transport.write(b"".join([pack(command) for command in commands]))
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        replies = self._replies
        while (reply := self._parser.gets()) is not False:
            replies.append(reply)
            future, count = self._waiting[0]
            if len(replies) == count:
                self._waiting.popleft()
                self._finish(future, replies[:])
                replies.clear()

    def _finish(self, future: asyncio.Future[list[Any]], replies: list[Any]) -> None:
        failed = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if future.done():
            return
        if failed is not None:
            future.set_exception(failed)
        else:
            future.set_result(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        for future, _ in self._waiting:
            if not future.done():
                future.set_exception(exc or ConnectionError("redis closed the connection"))
