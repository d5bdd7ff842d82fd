"""A broker on a store in memory, its WebSocket door, and clients that are plain ASGI: nothing but our own code runs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from limits import RateLimitItem

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Grant, Principal, Role
from streambroker.core.errors import Unauthenticated
from streambroker.core.message import Draft, Message, State
from streambroker.core.policy import QueueConfig
from streambroker.notify.local import LocalNotifier
from streambroker.protocol.messages import Limits
from streambroker.transport.limiting import Kind, RateLimits
from streambroker.transport.presence import Presence
from streambroker.transport.websocket import Sockets, WebSocketDoor
from tests.broker.stores import MemoryStore
from tests.broker.virtual import clock

Frame = dict[str, Any]
PATIENCE_S = 5
WRITE_BUFFER = 64 * 1024


def member(name: str, *grants: tuple[str, tuple[Action, ...]]) -> Principal:
    return Principal(name, Role.MEMBER, tuple(Grant(*grant) for grant in grants), f"sid-{name}", None, f"jti-{name}")


ADMIN = Principal("admin", Role.ADMIN, (), "sid-admin", None, "jti-admin")
MEMBER = member("mia", ("open.*", tuple(Action)), ("half.*", (Action.VIEW,)))
"""May do everything in `open.*`, only look at `half.*`, and know of nothing else."""
USERS = {"admin": ADMIN, "mia": MEMBER}


class World:
    """What a test has in hand."""

    @property
    def held(self) -> int:
        """How many messages all connections hold."""
        return sum(len(s.held) for c in self.sockets.open for s in c.session.subscriptions.values())

    def __init__(self, messages: RateLimitItem | None = None, store: MemoryStore | None = None, **options: Any) -> None:
        self.store = store or MemoryStore()
        self.engine = self.store.engine
        self.broker = Broker(self.store, LocalNotifier(), clock, chance=lambda: 0.5, **options)
        self.sockets = Sockets()
        self.presence = Presence(lambda principal: USERS.get(principal.username))
        self.door = WebSocketDoor(
            self.broker,
            authenticate,
            self.sockets,
            self.presence,
            RateLimits({Kind.MESSAGES: messages}, clock),
            Limits(),
            heartbeat_ms=10_000,
            max_frame=1_114_112,
            wall=clock,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def queue(self, name: str = "q", **config: Any) -> None:
        await self.broker.create_queue(name, QueueConfig(**config))

    async def publish(self, *contents: bytes, queue: str = "q") -> list[int]:
        ids = self.broker.new_ids(len(contents), clock())
        drafts = [Draft(number, content) for number, content in zip(ids, contents, strict=True)]
        return list((await self.broker.publish(queue, drafts)).ids)

    async def take(self, queue: str = "q", limit: int = 1, wait_ms: int = 0, user: str = "admin") -> list[Message]:
        return await self.broker.consume([queue], user, limit, wait_ms, None)

    async def states(self, queue: str = "q") -> list[State]:
        messages, _ = await self.store.browse(queue, None, None, None, 1_000, None)
        return [message.state for message in sorted(messages, key=lambda m: m.id)]

    async def connect(self, path: str = "/ws", user: str = "admin", query: bytes = b"") -> Peer:
        """A client that is logged in and welcomed."""
        peer = Peer(path, user, query)
        task = asyncio.create_task(self.door(peer.scope, peer.receive, peer.take))
        self._tasks.add(task)
        await peer.frame("welcome")
        return peer

    async def ended(self) -> None:
        """Until every connection has ended."""
        await asyncio.wait_for(asyncio.gather(*self._tasks), 10 * PATIENCE_S)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[World]:
    """A world with a started broker."""
    world = World(**options)
    await world.broker.start()
    try:
        yield world
    finally:
        await world.sockets.close_all(1001, "the test is over")
        await world.broker.stop()


def authenticate(token: str) -> Principal:
    if token not in USERS:
        raise Unauthenticated("who is that?")
    return USERS[token]


class Peer:
    """The client's end of an ASGI WebSocket, and the transport below it: while it does not read, sends get stuck."""

    def __init__(self, path: str, user: str, query: bytes) -> None:
        queue = path.removeprefix("/queues/").removesuffix("/ws") if path != "/ws" else None
        self.scope: Any = {
            "type": "websocket",
            "path": path,
            "path_params": {} if queue is None else {"queue": queue},
            "query_string": query,
            "subprotocols": [],
            "extensions": {"streambroker.transport": self},
            "streambroker.headers": {b"authorization": b"Bearer " + user.encode()},
            "streambroker.request_id": b"request-1",
        }
        self.inbox: list[Frame] = []
        self.accepted: Any = None
        self.close_code: int | None = None
        self.aborted = False
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._events.put_nowait({"type": "websocket.connect"})
        self._came = asyncio.Condition()
        self._reads = True
        self._unread: list[Any] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._ids = itertools.count(1)

    # -- what the door is given ----------------------------------------------------------------------------------------

    async def receive(self) -> Any:
        return await self._events.get()

    async def take(self, event: Any) -> None:
        """ASGI's `send`: it waits while what the client has not read yet is too much."""
        await self._writable.wait()
        if self.aborted:
            raise ConnectionResetError("the peer is gone")
        self._unread.append(event)
        if self._reads:
            await self.read_on()
        elif self.get_write_buffer_size() > WRITE_BUFFER:
            self._writable.clear()

    def get_write_buffer_size(self) -> int:
        return sum(len(event.get("text") or "") for event in self._unread)

    def abort(self) -> None:
        """The connection is cut: sends fail, and the reader hears of it after what had come before."""
        self.aborted = True
        self._writable.set()
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1005})

    def _read(self, event: Any) -> None:
        match event["type"]:
            case "websocket.accept":
                self.accepted = event
            case "websocket.close":
                self.close_code = event["code"]
                self._events.put_nowait({"type": "websocket.disconnect", "code": event["code"], "reason": ""})
            case "websocket.send":
                frames = msgspec.json.decode(event["text"])
                self.inbox += frames if isinstance(frames, list) else [frames]

    # -- what the client does ------------------------------------------------------------------------------------------

    def stop_reading(self) -> None:
        self._reads = False

    async def read_on(self) -> None:
        """Read what has gathered, and from now on what comes."""
        self._reads = True
        async with self._came:
            for event in self._unread:
                self._read(event)
            self._unread.clear()
            self._writable.set()
            self._came.notify_all()

    def send(self, *frames: Frame) -> None:
        self.send_raw(msgspec.json.encode(frames[0] if len(frames) == 1 else frames).decode())

    def send_raw(self, text: str) -> None:
        self._events.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self, code: int = 1000) -> None:
        """Close, cleanly unless `code` says otherwise."""
        self._events.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    async def when(self, wanted: Callable[[], Any]) -> Any:
        """Until `wanted` is true, looked at whenever something came."""
        async with asyncio.timeout(PATIENCE_S), self._came:
            return await self._came.wait_for(wanted)

    async def frame(self, op: str, **members: Any) -> Frame:
        """The next frame with that op and these members, which may be there already."""
        items = {"op": op, **members}.items()

        def found() -> Frame | None:
            return next((frame for frame in self.inbox if items <= _hashable(frame).items()), None)

        frame: Frame = await self.when(found)
        self.inbox.remove(frame)
        return frame

    async def call(self, op: str, **fields: Any) -> Frame:
        """The answer to a frame: `ok` or `error`."""
        number = next(self._ids)
        self.send({"op": op, "id": number, **fields})

        def answer() -> Frame | None:
            return next((frame for frame in self.inbox if frame.get("id") == number), None)

        frame: Frame = await self.when(answer)
        self.inbox.remove(frame)
        return frame

    async def refusal(self, op: str, **fields: Any) -> str:
        """The code of the error that answers a frame."""
        frame = await self.call(op, **fields)
        assert frame["op"] == "error", frame
        return str(frame["problem"]["code"])

    async def deliveries(self, count: int) -> list[Frame]:
        """The next messages delivered, exactly so many."""
        messages: list[Frame] = []
        while len(messages) < count:
            messages += (await self.frame("deliver"))["messages"]
        assert len(messages) == count
        return messages

    async def closed(self) -> int:
        """The code with which the door closes."""
        await self.when(lambda: self.close_code is not None)
        assert self.close_code is not None
        return self.close_code


def _hashable(frame: Frame) -> Frame:
    return {name: value for name, value in frame.items() if not isinstance(value, list | dict)}
