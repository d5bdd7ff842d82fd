"""One `graphql-transport-ws` connection: a reader, a task for each operation, timers that watch the token."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from starlette.types import Message, Receive, Scope, Send

from streambroker.core.access import Principal
from streambroker.core.errors import BrokerError, Internal, Malformed, RateLimited, Unauthenticated
from streambroker.transport.auditing import audited_from_now_on
from streambroker.transport.gate import Gate, recognized
from streambroker.transport.graphql import frames
from streambroker.transport.graphql.engine import Engine, Refused
from streambroker.transport.graphql.frames import Frame
from streambroker.transport.graphql.outlet import Outlet
from streambroker.transport.graphql.request import Operations, Request
from streambroker.transport.graphql.verbatim import decoded
from streambroker.transport.graphql.wire import envelope, refused
from streambroker.transport.limiting import Kind
from streambroker.transport.presence import Presence

log = logging.getLogger(__name__)

INIT_DEADLINE_S = 5
MAX_OPERATIONS = 10
"""Subscriptions, and other operations under way, of one connection."""
_CLOSE_S = 3
_DAY_S = 86_400


class Door(Protocol):
    """What a connection needs of the door that it came in by."""

    engine: Engine
    operations: Operations
    gate: Gate
    authenticate: Callable[[str], Principal]
    presence: Presence
    wall: Callable[[], int]

    def entered(self, connection: Connection) -> None:
        """It was accepted."""
        ...

    def left(self, connection: Connection) -> None:
        """It has ended."""
        ...


class Connection:
    """One client. Owns its operations; `presence.Guest`."""

    def __init__(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = secrets.token_urlsafe(9)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._door = door
        self._scope = scope
        self._receive = receive
        self._send = send
        self._principal: Principal | None = None
        self._welcome = False
        self._outlet = Outlet(send, scope.get("extensions", {}).get("streambroker.transport"))
        self._running: dict[str, tuple[asyncio.Task[None], Request]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._who()

    # -- who is it -----------------------------------------------------------------------------------------------------

    def _who(self) -> None:
        """Learn who it is by header or subprotocol, where one says it.

        Raises `Unauthenticated`, `RateLimited`, and `Malformed` where the client speaks another protocol.
        """
        offered: list[str] = self._scope.get("subprotocols", [])
        if frames.SUBPROTOCOL not in offered:
            raise Malformed(f"offer the WebSocket subprotocol {frames.SUBPROTOCOL}; no other is spoken here")
        token = next((item.removeprefix("bearer.") for item in offered if item.startswith("bearer.")), None)
        header = self._scope["streambroker.headers"].get(b"authorization")
        if header is not None:
            if header[:7].lower() != b"bearer ":
                raise Unauthenticated("the Authorization header must be: Bearer <access token>")
            token = header[7:].strip().decode("latin-1")
        if token is not None:
            self._enter(token)

    def _enter(self, token: str) -> None:
        """It is somebody from now on. Raises `Unauthenticated` or `RateLimited`."""
        try:
            self._principal = self._door.authenticate(token)
        except Unauthenticated:
            self._door.gate.refused.unknown(token.encode(errors="replace"))
            raise
        try:
            self._door.presence.enter(self)
        except BrokerError:
            self._principal = None
            raise
        recognized(self._scope)
        audited_from_now_on(self._scope, self._principal)
        self._door.entered(self)
        self._watch_token()

    @property
    def principal(self) -> Principal:
        """See `presence.Guest`."""
        if self._principal is None:
            raise Unauthenticated("say who you are in connection_init first")
        return self._principal

    def turned_out(self) -> None:
        """See `presence.Guest`."""
        self.close(4401, "the session was ended")

    def recognized(self, principal: Principal) -> None:
        """See `presence.Guest`."""
        self._principal = principal
        for _, request in self._running.values():
            request.recognized(principal)

    def _watch_token(self) -> None:
        """(Re)start the timer of the token."""
        ends = self.principal.expires_at_ms
        if ends is None:
            return
        left = max(ends - self._door.wall(), 0) / 1_000
        loop = asyncio.get_running_loop()
        if left > _DAY_S:  # a key that lives for years: looked at again, for clocks are set meanwhile
            self._timer = loop.call_later(_DAY_S, self._watch_token)
        else:
            self._timer = loop.call_later(left, self.close, 4450, "the token expired; come back with a new one")

    # -- life ----------------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Close it; the first reason given counts."""
        self._outlet.close(code, reason)

    async def run(self) -> None:
        """Serve it until it ends, whoever ends it."""
        request_id = (b"x-request-id", self._scope["streambroker.request_id"])
        reader: asyncio.Task[None] | None = None
        try:
            await self._send({"type": "websocket.accept", "subprotocol": frames.SUBPROTOCOL, "headers": [request_id]})
            reader = asyncio.create_task(self._read())
            ends: tuple[asyncio.Future[Any], ...] = reader, self._outlet.closed
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await self._stop(reader)
            if self._outlet.closed.done():
                await self._outlet.finish(self._outlet.closed.result(), _CLOSE_S)
        except OSError:
            pass  # uvicorn's ClientDisconnected: the peer is gone
        finally:
            await self._stop(reader)
            self._end()

    async def _stop(self, reader: asyncio.Task[None] | None) -> None:
        """End what is under way, and wait until what it held is given back."""
        tasks = [task for task, _ in self._running.values()]
        if reader is not None:
            tasks.append(reader)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._principal is not None:
            self._door.left(self)
            self._door.presence.leave(self)
        self.ended.set_result(None)

    # -- messages in ---------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read until the peer closes, or does what closes the connection."""
        try:
            try:
                async with asyncio.timeout(INIT_DEADLINE_S):
                    while not self._welcome and await self._take():
                        pass
            except TimeoutError:
                self.close(4408, f"no connection_init came within {INIT_DEADLINE_S} s")
                return
            while self._welcome and await self._take():
                pass
        except Malformed as fault:
            self.close(4400, fault.detail[:100])
        except Unauthenticated as refusal:
            self.close(4401, refusal.detail[:100])
        except RateLimited as refusal:
            self.close(4429, refusal.detail[:100])
        except OSError:
            return  # the peer is gone
        except Exception:
            log.exception("GraphQL connection %s failed", self.id)
            self.close(4500, "internal error")

    async def _take(self) -> bool:
        """Act on one message; False when there will be none any more."""
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            return False
        text: str | None = event.get("text")
        message = frames.frame(decoded(event["bytes"]) if text is None else text)
        match message.type:
            case "connection_init":
                return await self._begin(message.payload)
            case "ping":
                if self._welcome:
                    await self._door.gate.admit(self._scope, self.principal, Kind.DEFAULT)
                await self._outlet.say(frames.pong(message.payload))
            case "pong":
                pass
            case "subscribe":
                return await self._subscribe(message)
            case "complete":
                if (running := self._running.pop(message.id, None)) is not None:
                    running[0].cancel()
            case _:
                raise Malformed(f"{frames.SUBPROTOCOL} has no message of that type")
        return True

    async def _begin(self, payload: str) -> bool:
        """Raises `Unauthenticated` or `RateLimited`."""
        if self._welcome:
            self.close(4429, "too many initialisation requests")
            return False
        if self._principal is None:
            try:
                self._enter(frames.token_of(payload) or "")
            except Unauthenticated:
                await self._door.gate.admit(self._scope, None, Kind.DEFAULT)
                raise
        self._welcome = True
        await self._outlet.say(frames.ACK)
        return True

    async def _subscribe(self, message: Frame) -> bool:
        """Raises `Unauthenticated` before the connection has begun, and `Malformed`."""
        if not self._welcome:
            raise Unauthenticated("connection_init comes first")
        if not message.id:
            raise Malformed("subscribe needs an id")
        if message.id in self._running:
            self.close(4409, f"subscriber for {message.id} already exists")
            return False
        request = Request(self._door.operations, self._door.gate, self._scope, _never, self.principal)
        if len(self._running) >= MAX_OPERATIONS:
            fault = RateLimited(f"{MAX_OPERATIONS} operations are under way on this connection; complete one")
            await self._outlet.say(frames.error(message.id, [refused(fault, request.instance)]))
            return True
        task = asyncio.create_task(self._serve(message, request))
        self._running[message.id] = task, request
        return True

    # -- answers -------------------------------------------------------------------------------------------------------

    async def _serve(self, message: Frame, request: Request) -> None:
        """Execute one operation, and say what comes of it."""
        try:
            last = await self._answered(message, request)
        except OSError:
            return  # the peer is gone; the reader hears of it too
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("GraphQL operation failed on connection %s", self.id)
            last = frames.error(message.id, [refused(Internal("the broker failed at this"), request.instance)])
        if self._running.get(message.id, (None, None))[1] is request:
            del self._running[message.id]  # before the client hears of it, and takes the id again
            with contextlib.suppress(OSError):
                await self._outlet.say(last)

    async def _answered(self, message: Frame, request: Request) -> bytes:
        """Say each answer; what is to be said last."""
        try:
            answers = self._door.engine.stream(request, envelope(message.payload))
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    await self._outlet.say(frames.following(message.id, answer))
                    request.sent()
        except Refused as refusal:
            return frames.error(message.id, refusal.answer.errors or [])
        except BrokerError as fault:
            return frames.error(message.id, [refused(fault, request.instance)])
        finally:
            request.sent()
        return frames.complete(message.id)


async def _never() -> Message:
    """What an operation hears of its client: nothing, for it is cancelled when the client leaves."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError
