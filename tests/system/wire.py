"""The two public doors as the tests use them: a WebSocket and an HTTP connection, with refusals as exceptions."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.harness import BrokerProcess

Json = dict[str, Any]


class Refused(Exception):
    """The broker answered with a problem: ``code``, ``status`` and whether a retry may help."""

    def __init__(self, problem: Json) -> None:
        super().__init__(f"{problem.get('status')} {problem.get('code')}: {problem.get('detail')}")
        self.code: str = problem.get("code", "")
        self.status: int = problem.get("status", 500)

    @property
    def certain(self) -> bool:
        """Whether the operation certainly did not happen (4xx and 507), and not merely perhaps."""
        return self.status < 500 or self.status == 507


class Cut(Exception):
    """The connection ended before the answer came: the outcome is unknown."""


def unknown_or(refusal: Refused) -> Refused | Cut:
    """A 5xx of a broker that is going down leaves the outcome open, as a cut does; anything else is a refusal."""
    return refusal if refusal.certain else Cut(str(refusal))


async def eventually(condition: Callable[[], Awaitable[object]], timeout: float = 30) -> None:
    """Ask until the answer is true: for states of the broker that it tells nobody of by itself."""
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.05)


class Socket:
    """One WebSocket connection: calls by id, deliveries and notices in queues, the close code when it is over.

    It owns one reader task. ``deliveries`` and ``notices`` are unbounded on purpose: credit bounds the first. A
    delivery is the message as it came, with ``sub`` and with ``received``, the monotonic time of its arrival.
    ``newest`` has of each message the token that came last. An ack names ids, not tokens: the answer to one has
    ``leases``, what was newest of each when it came, which is what the broker took the ack for.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Json]] = {}
        self.newest: dict[str, str] = {}
        self.deliveries: asyncio.Queue[Json] = asyncio.Queue()
        self.notices: asyncio.Queue[Json] = asyncio.Queue()
        self.closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str, token: str, timeout: float = 40) -> Socket:
        """Connect and wait for the welcome; ``Cut`` when the broker is not there."""
        try:
            connection = await connect(
                url + "/ws",
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
                max_size=None,
                max_queue=None,
                ping_interval=None,
                open_timeout=timeout,
                close_timeout=2,
                proxy=None,
            )
        except (OSError, EOFError, TimeoutError, ConnectionClosed, InvalidHandshake) as error:
            raise Cut(str(error)) from error
        socket = cls(connection)
        await socket.notice("welcome", timeout)
        return socket

    async def _read(self) -> None:
        try:
            async for text in self._connection:
                parsed = json.loads(text)
                for frame in parsed if isinstance(parsed, list) else [parsed]:
                    self._accept(frame)
        except ConnectionClosed:
            pass
        finally:
            self.closed.set_result(self._connection.close_code)
            for call in self._calls.values():
                if not call.done():
                    call.set_exception(Cut("the socket is closed"))

    def _accept(self, frame: Json) -> None:
        call = self._calls.pop(frame["id"], None) if frame.get("id") is not None else None
        if call is not None and not call.done():
            if frame["op"] == "error":
                call.set_exception(Refused(frame["problem"]))
            else:
                leases = {
                    result["message_id"]: self.newest.get(result["message_id"]) for result in frame.get("results", ())
                }
                call.set_result({**frame, "leases": leases})
        elif frame["op"] == "deliver":
            for message in frame["messages"]:
                self.newest[message["message_id"]] = message["lease"]
                self.deliveries.put_nowait({"sub": frame["sub"], "received": time.monotonic(), **message})
        else:
            self.notices.put_nowait(frame)

    async def call(self, op: str, timeout: float = 40, **fields: Any) -> Json:
        """Send one frame with an id and wait for its answer; ``Refused`` or ``Cut`` when there is none."""
        call_id = next(self._ids)
        answer = self._calls[call_id] = asyncio.get_running_loop().create_future()
        try:
            await self.send(op, id=call_id, **fields)
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as error:
            raise Cut(f"{op} was not answered in {timeout} s") from error
        finally:
            self._calls.pop(call_id, None)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def send(self, op: str, **fields: Any) -> None:
        """Send one frame without waiting for an answer."""
        try:
            await self._connection.send(json.dumps({"op": op, **fields}))
        except ConnectionClosed as error:
            raise Cut(str(error)) from error

    async def notice(self, op: str, timeout: float = 40) -> Json:
        """The next notice of that kind; others are dropped on the way."""
        try:
            async with asyncio.timeout(timeout):
                while (frame := await self._next_notice())["op"] != op:
                    pass
                return frame
        except TimeoutError as error:
            raise Cut(f"no {op} came") from error

    async def _next_notice(self) -> Json:
        """The next notice; ``Cut`` when the connection ends instead."""
        if not self.notices.empty():
            return self.notices.get_nowait()
        coming = asyncio.ensure_future(self.notices.get())
        try:
            either: set[asyncio.Future[Any]] = {coming, self.closed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                raise Cut("the socket is closed")
            return coming.result()
        finally:
            coming.cancel()

    async def receive(self, count: int = 1, timeout: float = 60) -> list[Json]:
        """The next ``count`` deliveries."""
        async with asyncio.timeout(timeout):
            return [await self.deliveries.get() for _ in range(count)]

    def received(self) -> Iterator[Json]:
        """The deliveries that are already here."""
        while not self.deliveries.empty():
            yield self.deliveries.get_nowait()

    async def close(self) -> None:
        """A clean close (1000)."""
        await self._connection.close()
        await self._reader

    async def abort(self) -> None:
        """An end without a close frame, as when the process dies."""
        self._connection.transport.abort()
        await self._reader

    def resume_reading(self) -> None:
        self._connection.transport.resume_reading()

    def stop_reading(self) -> None:
        """Leave everything from the broker in the kernel's buffers from here on."""
        self._connection.transport.pause_reading()


class Rest:
    """One HTTP client, logged in; unanswered requests become ``Cut``, problems become ``Refused``."""

    def __init__(self, url: str, token: str, timeout: float = 30) -> None:
        self._client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout, trust_env=False, verify=False
        )

    async def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        try:
            reply = await self._client.request(method, path, json=body, params=params or None)
        except httpx.HTTPError as error:
            raise Cut(f"{method} {path}: {error!r}") from error
        if reply.status_code >= 400:
            with suppress(ValueError):
                raise Refused(reply.json())
            raise Refused({"status": reply.status_code, "detail": reply.text})
        return reply.json() if reply.content else None

    async def get(self, path: str, **params: Any) -> Any:
        return await self.call("GET", path, **params)

    async def post(self, path: str, body: Any = None, **params: Any) -> Any:
        return await self.call("POST", path, {} if body is None else body, **params)

    async def publish(self, queue: str, *contents: Any, **options: Any) -> list[str]:
        """One batch of contents with the same options; their message ids."""
        messages = [{"content": content, **options} for content in contents]
        reply = await self.post(f"/queues/{queue}/messages/batch", {"messages": messages})
        ids: list[str] = reply["message_ids"]
        return ids

    async def consume(self, queue: str, max: int = 1, wait_ms: int = 0, **options: Any) -> list[Json]:  # noqa: A002
        reply = await self.post(f"/queues/{queue}/messages/consume", {"max": max, "wait_ms": wait_ms, **options})
        messages: list[Json] = reply["messages"]
        return messages

    async def collect(self, queue: str, count: int, timeout: float = 30, **options: Any) -> list[Json]:
        """Consume until there are ``count`` messages; ``TimeoutError`` when they do not come."""
        got: list[Json] = []
        async with asyncio.timeout(timeout):
            while len(got) < count:
                got += await self.consume(queue, count - len(got), 5000, **options)
        return got

    async def ack(self, message: Json) -> Json:
        reply: Json = await self.post(f"/messages/{message['message_id']}/ack", {"lease": message["lease"]})
        return reply

    async def counts(self, queue: str) -> dict[str, int]:
        counts: dict[str, int] = (await self.get(f"/queues/{queue}"))["counts"]
        return counts

    async def browse(self, queue: str, **filters: Any) -> list[Json]:
        """Every message of a queue, page by page."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            page = await self.get(
                f"/queues/{queue}/messages", limit=500, **filters, **({"cursor": cursor} if cursor else {})
            )
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def consumers(self, queue: str) -> int:
        """How many subscriptions and parked polls a queue has; 0 where there is no such queue yet."""
        try:
            count: int = (await self.get(f"/queues/{queue}"))["consumers"]
        except Refused as refusal:
            if refusal.status == 404:
                return 0
            raise
        return count

    async def parked(self, queue: str) -> None:
        """Wait until somebody waits for messages of this queue."""
        await eventually(lambda: self.consumers(queue))

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Rest:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def rest(broker: BrokerProcess, timeout: float = 70) -> Rest:
    return Rest(broker.url, broker.token(), timeout)


async def socket(broker: BrokerProcess) -> Socket:
    return await Socket.open(broker.ws_url, broker.token())


def ids(messages: Iterable[Json]) -> list[str]:
    return [message["message_id"] for message in messages]
