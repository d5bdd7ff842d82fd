"""A broker that says what a test tells it to: a WebSocket server, and a transport in place of its REST."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

import httpx
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from streambroker.client import Client, Reconnecting

Frame = dict[str, Any]


class Conversation:
    """One connection of a client; `number` counts from 1. It has been welcomed."""

    def __init__(self, socket: ServerConnection, number: int) -> None:
        self._socket = socket
        self._read: list[Frame] = []
        self.number = number
        self.token = (socket.request.headers.get("authorization", "") if socket.request else "").removeprefix("Bearer ")
        self.messages: list[list[Frame]] = []
        """What came, a list of frames for each WebSocket message."""

    async def hear(self, op: str) -> Frame:
        """The next frame, which is an `op`."""
        while not self._read:
            await self.listen()
        frame = self._read.pop(0)
        assert frame["op"] == op, frame
        return frame

    async def listen(self) -> None:
        """Read one WebSocket message."""
        async with asyncio.timeout(40):
            said = json.loads(await self._socket.recv())
        self.messages.append(said if isinstance(said, list) else [said])
        self._read += self.messages[-1]

    async def say(self, *frames: Frame) -> None:
        """Send one frame, or several as an array."""
        await self._socket.send(json.dumps(frames[0] if len(frames) == 1 else frames))

    async def grant(self, frame: Frame, **members: Any) -> None:
        """Answer `ok`."""
        await self.say({"op": "ok", "id": frame["id"], **members})

    async def grant_publish(self, frame: Frame) -> None:
        """Answer with ids: the contents that were sent."""
        await self.grant(frame, message_ids=[str(one["content"]) for one in frame["messages"]], duplicates=[])

    async def refuse(self, frame: Frame, code: str, status: int, **members: Any) -> None:
        """Answer with an error."""
        problem = {"code": code, "status": status, "title": code, "detail": f"because of {code}", **members}
        await self.say({"op": "error", "id": frame["id"], "problem": problem})

    async def close(self, code: int, reason: str = "") -> None:
        """Close it with a code."""
        await self._socket.close(code, reason)

    def cut(self) -> None:
        """End the connection without a word."""
        self._socket.transport.abort()

    async def ended(self) -> int | None:
        """Grant every unsubscribe until the client ends it; the close code, None without one."""
        try:
            while True:
                while self._read:
                    frame = self._read.pop(0)
                    if frame["op"] == "unsubscribe":
                        await self.grant(frame)
                await self.listen()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


Script = Callable[[Conversation], Awaitable[None]]
Rest = Callable[[str, Any], Any]


class ScriptedBroker:
    """Runs `script` for each connection. `rest` answers `(path, body)` of a REST call; all of them are in `calls`.

    A script that raised is raised again at the end. `refusals` are statuses for the next upgrades, in order; with
    `leads_to` each upgrade is redirected there.
    """

    def __init__(self, script: Script, rest: Rest | None = None) -> None:
        self._script = script
        self._rest = rest or all_granted
        self._faults: list[BaseException] = []
        self.calls: list[tuple[str, Any]] = []
        self.conversations: list[Conversation] = []
        self.refusals: list[int] = []
        self.leads_to: str | None = None

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._converse, "127.0.0.1", 0, process_request=self._upgrade, compression=None, close_timeout=1
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        for fault in self._faults:
            raise fault

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    @property
    def transport(self) -> httpx.MockTransport:
        def answer(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content) if request.content else None
            self.calls.append((request.url.path, body))
            answered = self._rest(request.url.path, body)
            return answered if isinstance(answered, httpx.Response) else httpx.Response(200, json=answered)

        return httpx.MockTransport(answer)

    def _upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        if self.leads_to is not None:
            answer = socket.respond(307, "elsewhere")
            answer.headers["Location"] = self.leads_to
            return answer
        if not self.refusals:
            return None
        status = self.refusals.pop(0)
        return socket.respond(status, "no")

    async def _converse(self, socket: ServerConnection) -> None:
        conversation = Conversation(socket, len(self.conversations) + 1)
        self.conversations.append(conversation)
        try:
            await conversation.say({"op": "welcome", "session": "s", "heartbeat_ms": 10_000, "max_frame": 100_000})
            await self._script(conversation)
        except ConnectionClosed:
            pass
        except BaseException as fault:
            self._faults.append(fault)
            raise


def delivered(message_id: str, *, content: Any = None, attempt: int = 1, queue: str = "q") -> Frame:
    """A message as the broker delivers it."""
    return {
        "message_id": message_id, "queue": queue, "status": "processing", "content": content,
        "content_type": "application/json", "headers": None, "priority": 0, "attempt": attempt, "max_attempts": 5,
        "created_at": "2026-11-22T10:00:00.000Z", "updated_at": "2026-11-22T10:00:00.000Z",
        "available_at": "2026-11-22T10:00:00.000Z", "expires_at": None, "key": None, "dedup_id": None,
        "correlation_id": None, "reply_to": None, "traceparent": None, "error": None,
        "lease": f"lease-{message_id}-{attempt}", "lease_expires_at": None,
    }  # fmt: skip


def all_granted(path: str, body: Any) -> Any:
    """REST settles, all granted."""
    return {"results": [{"message_id": item["message_id"], "ok": True} for item in body["items"]]}


def logins(path: str, body: Any) -> Any:
    """Tokens that tell which login or refresh gave them."""
    if path in ("/login", "/refresh"):
        number = 0 if path == "/login" else int(body["refresh_token"].rpartition("-")[2]) + 1
        return {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}", "expires_in": 900}
    return all_granted(path, body)


async def subscribed(conversation: Conversation, *ids: str, attempt: int = 1) -> None:
    """Grant the next subscribe and deliver."""
    frame = await conversation.hear("subscribe")
    await conversation.grant(frame)
    if ids:
        messages = [delivered(one, attempt=attempt) for one in ids]
        await conversation.say({"op": "deliver", "sub": frame["sub"], "messages": messages})


class Waits:
    """Stands in for time: notes how long each wait would have been, and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def client_of(broker: ScriptedBroker, waits: Waits, **options: Any) -> Client:
    who = {} if "username" in options else {"token": "the-token"}
    return Client(
        broker.url,
        transport=broker.transport,
        reconnecting=Reconnecting(chance=lambda: 1.0, sleep=waits),
        environment={},
        **{**who, **options},
    )
