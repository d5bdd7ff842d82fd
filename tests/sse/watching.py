"""A broker on a store in memory, the door of its events, and clients that are plain ASGI, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from httpx_sse import ServerSentEvent
from httpx_sse._decoders import SSEDecoder

from streambroker.core.access import Principal
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Draft, Message
from streambroker.transport.http import Call, Streaming
from streambroker.transport.presence import Presence
from streambroker.transport.resource import Counters
from streambroker.transport.sse import EventsDoor
from streambroker.transport.sse.stream import CHUNK
from tests.broker.virtual import clock, turns
from tests.broker.world import USERS, World


class Theatre(World):
    """A world with a door for those who watch. `users` are who they are now, by name; None: nobody any more."""

    def __init__(self, most_open: int = 0) -> None:
        super().__init__()
        self.users: dict[str, Principal | None] = dict(USERS)
        self.presence = Presence(lambda principal: self.users.get(principal.username), most_open)
        self.counters = Counters()
        self.events = EventsDoor(self.broker, self.presence, self.counters, clock)

    async def watch(self, query: str = "", user: str = "admin", queue: str = "q", **headers: str) -> Watcher:
        """Somebody who watches; raises what the door refuses it with."""
        principal = self.users[user]
        assert principal is not None
        watcher = Watcher(queue, query, headers)
        answer = await self.events.events(Call(watcher.scope, watcher.receive, principal))
        self._tasks.add(asyncio.create_task(watcher.follow(answer)))
        await turns()
        return watcher

    async def publish(self, *contents: bytes, queue: str = "q", ttl_ms: int | None = None) -> list[int]:
        now = clock()
        ends = None if ttl_ms is None else now + ttl_ms
        ids = self.broker.new_ids(len(contents), now)
        drafts = [Draft(number, content, expires_at=ends) for number, content in zip(ids, contents, strict=True)]
        return list((await self.broker.publish(queue, drafts)).ids)

    async def take_one(self, queue: str = "q") -> Message:
        (message,) = await self.take(queue)
        return message

    async def settle(self, message: Message, event: Event, **fields: Any) -> None:
        await self.broker.settle([Settlement(message.id, event, message.lease, **fields)])

    def change(self, name: str, principal: Principal | None) -> None:
        """The user has other rights from now on, or none at all."""
        self.users[name] = principal
        self.presence.changed(name)


class Watcher:
    """The client's end of a stream. While it does not read, what is sent beyond a chunk gets stuck."""

    def __init__(self, queue: str, query: str, headers: dict[str, str]) -> None:
        self.scope: Any = {
            "type": "http",
            "method": "GET",
            "path_params": {"queue": queue},
            "query_string": query.encode(),
            "streambroker.headers": {n.replace("_", "-").encode(): v.encode() for n, v in headers.items()},
            "streambroker.request_id": b"request-1",
        }
        self.head: dict[bytes, bytes] = {}
        self.text = ""
        self.over = False
        self._unread = ""
        self._gone = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()

    async def follow(self, answer: Streaming) -> None:
        await answer.answer(self.scope, self.send, ())

    async def receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.head = dict(message["headers"])
            return
        if len(self._unread) >= CHUNK:
            await self._reads.wait()
        self._unread += message["body"].decode()
        self.over = not message["more_body"]
        if self._reads.is_set():
            self._read()

    def _read(self) -> None:
        self.text, self._unread = self.text + self._unread, ""

    def stop_reading(self) -> None:
        self._reads.clear()

    async def read_on(self) -> None:
        self._read()
        self._reads.set()
        await turns()

    def leave(self) -> None:
        self._gone.set()

    def events(self) -> list[ServerSentEvent]:
        """What it was told until now, without what has no data, for which no client makes an event."""
        decoder = SSEDecoder()
        found = [decoder.decode(line) for line in self.text.split("\n")]
        return [event for event in found if event is not None and event.data]

    @property
    def last_id(self) -> str:
        return next(line for line in reversed(self.text.split("\n")) if line.startswith("id: ")).removeprefix("id: ")

    def kinds(self) -> list[str]:
        return [event.event for event in self.events()]

    def data(self, index: int = -1) -> dict[str, Any]:
        data: dict[str, Any] = msgspec.json.decode(self.events()[index].data)
        return data

    def told(self) -> list[tuple[str, str, int]]:
        """Kind, status and attempt of each event."""
        found = ((event.event, msgspec.json.decode(event.data)) for event in self.events())
        return [(kind, data["status"], data["attempt"]) for kind, data in found]


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Theatre]:
    """A theatre with a started broker and the queue `q`."""
    theatre = Theatre(**options)
    await theatre.broker.start()
    await theatre.queue("q")
    try:
        yield theatre
    finally:
        await theatre.events.close_all()
        await theatre.broker.stop()
