"""The I/O of one WebSocket connection around a `Session`.

Three parts share a connection on the event loop: the reader (`run`) decodes frames and acts on them, the outbox sends
what has gathered in one frame, and timers watch the token and the peer's reading.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any, Protocol, assert_never

from starlette.types import Receive, Scope, Send

from streambroker.broker.broker import Broker
from streambroker.core.access import Principal
from streambroker.core.errors import BrokerError, Forbidden, Invalid, RateLimited, Unauthenticated, invalid
from streambroker.core.names import is_queue_name
from streambroker.protocol import frames
from streambroker.protocol.messages import Limits
from streambroker.protocol.session import Session
from streambroker.transport.auditing import audited_from_now_on
from streambroker.transport.counting import Refused
from streambroker.transport.gate import recognized
from streambroker.transport.http import Call
from streambroker.transport.limiting import Kind, RateLimits, counted_as
from streambroker.transport.presence import Presence
from streambroker.transport.schemas import ConnectQuery
from streambroker.transport.websocket.answers import Answers
from streambroker.transport.websocket.incoming import (
    Close,
    check_length,
    first_of,
    frame_of,
    frames_of,
    id_of,
    parts_of,
    text_of,
)
from streambroker.transport.websocket.outbox import CLOSE_S, Outbox
from streambroker.transport.websocket.publishing import Publishing
from streambroker.transport.websocket.settling import Settling
from streambroker.transport.websocket.subscribing import Subscribing, shown_to

log = logging.getLogger(__name__)

HELLO_DEADLINE_S = 5
EXPIRING_S = 60
"""How long before its token ends a client hears of it."""
MAX_REFUSED = 10_000
"""Frames in a row that a rate limit may refuse before the connection is closed."""
_DAY_S = 86_400
_CLEAN = frozenset({1000, 1001, 1005})
_NO_LONGER_WELCOME = frozenset({4401, 4450})
_NOT_THE_CLIENTS_FAULT = frozenset({4403, 4450, 4503})


class Door(Protocol):
    """What a connection needs of the door that it came in by."""

    broker: Broker
    authenticate: Callable[[str], Principal]
    sockets: Any
    presence: Presence
    rates: RateLimits
    refused: Refused
    limits: Limits
    heartbeat_ms: int
    max_frame: int
    wall: Callable[[], int]


class Connection:
    """One client. Owns its session, its outbox and what is delivered but not yet sent."""

    def __init__(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        self._door = door
        self._broker = door.broker
        self._scope = scope
        self._receive = receive
        self._send = send
        self.id = secrets.token_urlsafe(12)
        self._principal: Principal | None = None
        self._rate_key = ""
        self._subprotocol = self._who(scope)
        queue, self._credit = self._asked_for(scope)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox = Outbox(
            send,
            scope.get("extensions", {}).get("streambroker.transport"),
            partial(shown_to, self._broker),
            self._broker.feed,
            self._moved,
        )
        self.answers = Answers(self.id, self._outbox)
        self._publishing = Publishing(self._broker, self.answers, door.limits, self._user)
        self._subscribing = Subscribing(
            self._broker,
            self._outbox,
            self.answers,
            self._user,
            self.close,
            queue,
            door.presence.consumers,
            scope.get("streambroker.address", ""),
        )
        self._settling = Settling(self._broker, self.answers, self._subscribing)
        self._refused = 0
        self._timers: list[asyncio.TimerHandle] = []
        if self._rate_key:  # it is somebody already
            door.presence.enter(self)

    # -- who is it -----------------------------------------------------------------------------------------------------

    def _who(self, scope: Scope) -> str | None:
        """Learn who it is by header or subprotocol; the subprotocol to choose. Raises `Unauthenticated`."""
        offered: list[str] = scope.get("subprotocols", [])
        given = next((item for item in offered if item.startswith("bearer.")), None)
        # A browser fails the connection where none of what it offered is chosen.
        chosen = frames.SUBPROTOCOL if frames.SUBPROTOCOL in offered else given
        header = scope["streambroker.headers"].get(b"authorization")
        if header is not None:
            if header[:7].lower() != b"bearer ":
                raise Unauthenticated("the Authorization header must be: Bearer <access token>")
            self._become(self._known(header[7:].strip().decode("latin-1")))
        elif given is not None:
            self._become(self._known(given.removeprefix("bearer.")))
        return chosen

    def _known(self, token: str) -> Principal:
        """Who a token or API key stands for. Raises `Unauthenticated`."""
        try:
            return self._door.authenticate(token)
        except Unauthenticated:
            self._door.refused.unknown(token.encode(errors="replace"))
            raise

    def _become(self, principal: Principal) -> None:
        self._principal = principal
        self._rate_key = counted_as(principal)
        recognized(self._scope)
        audited_from_now_on(self._scope, principal)

    def _asked_for(self, scope: Scope) -> tuple[str | None, int]:
        """The queue that the path subscribes to, and the credit. Raises `Invalid`."""
        name = scope["path_params"].get("queue")
        if name is None:
            Call(scope, self._receive, self._principal).without_query()
            return None, 0
        if not is_queue_name(name):
            raise invalid("/queue", "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        return name, Call(scope, self._receive, self._principal).options(ConnectQuery).credit

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it ends, whoever ends it; what it held is given back then."""
        self._door.sockets.open.add(self)
        writer = asyncio.create_task(self._outbox.run())
        clean = False
        try:
            request_id = (b"x-request-id", self._scope["streambroker.request_id"])
            await self._send({"type": "websocket.accept", "subprotocol": self._subprotocol, "headers": [request_id]})
            clean = await self._read()
        except Close as close:
            clean = close.code in _NOT_THE_CLIENTS_FAULT
            await self._finish(writer, close)
        except OSError:
            pass  # uvicorn's ClientDisconnected: the peer is gone
        except Exception:
            log.exception("connection %s failed", self.id)
            await self._finish(writer, Close(4500, "internal error"))
        finally:
            self._door.sockets.open.discard(self)
            if self._principal is not None:
                self._door.presence.leave(self)
            for timer in self._timers:
                timer.cancel()
            self._outbox.stop()
            writer.cancel()
            self._subscribing.give_back(clean)
            self.ended.set_result(None)

    async def _read(self) -> bool:
        """Read frames until the peer closes; whether it did so cleanly."""
        if self._principal is None:
            if (event := await self._hello()) is not None:
                return _is_clean(event)
        else:
            self._welcome(None)
        await self._subscribing.by_path(self._credit)
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                if self._outbox.closing is not None:
                    return self._outbox.closing.code in _NOT_THE_CLIENTS_FAULT
                return _is_clean(event)
            if self._turned_away:
                continue
            await self._take(text_of(event))
            await self.answers.room()

    @property
    def _turned_away(self) -> bool:
        """Its session has ended: nothing more is done in its name."""
        return self._outbox.closing is not None and self._outbox.closing.code in _NO_LONGER_WELCOME

    async def _hello(self) -> Any:
        """Wait for the first frame, which must say who it is; returns the event where the peer closed instead."""
        try:
            async with asyncio.timeout(HELLO_DEADLINE_S):
                event = await self._receive()
        except TimeoutError:
            raise Close(4408, "no hello came within 5 s") from None
        if event["type"] == "websocket.disconnect":
            return event
        first, rest = first_of(text_of(event))
        if not isinstance(first, frames.Hello) or first.token is None:
            raise Close(4401, "the first frame must be a hello with a token")
        try:
            self._become(self._known(first.token))
            self._door.presence.enter(self)
        except Unauthenticated as error:
            raise Close(4401, error.detail) from None
        except RateLimited as error:
            raise Close(4429, error.detail[:100]) from None
        self._welcome(first.id)
        try:
            await self._take_apart(rest)
        except Invalid as error:
            self.answers.refuse(None, error)
        return None

    def _welcome(self, frame_id: frames.FrameId) -> None:
        expires_in = self._watch_token()
        self.answers.say(frames.welcome(frame_id, self.id, self._door.heartbeat_ms, self._door.max_frame, expires_in))

    def _watch_token(self) -> int | None:
        """(Re)start the timers of the token; the seconds until it ends."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if (ends := self._user().expires_at_ms) is None:
            return None
        left = max(ends - self._door.wall(), 0) / 1_000
        loop = asyncio.get_running_loop()
        if left > _DAY_S:  # a key that lives for years: looked at again, for clocks are set meanwhile
            self._timers.append(loop.call_later(_DAY_S, self._watch_token))
            return int(left)
        notice = min(EXPIRING_S, left / 2)
        self._timers.append(loop.call_later(left - notice, lambda: self.answers.say(frames.expiring(int(notice)))))
        self._timers.append(loop.call_later(left, self.close, 4450, "the token expired; come back with a new one"))
        return int(left)

    def close(self, code: int, reason: str) -> None:
        """Close the connection from outside, after what is in the outbox."""
        self._outbox.close(Close(code, reason))
        self.answers.moved()

    async def _finish(self, writer: asyncio.Task[None], close: Close) -> None:
        """Say the last words, then close."""
        self._outbox.close(close)
        await asyncio.wait([writer], timeout=2 * CLOSE_S)

    # -- frames in -----------------------------------------------------------------------------------------------------

    async def _take(self, text: str) -> None:
        try:
            given = frames_of(text)
            if given is None:  # some frame does not fit: answer each on its own
                await self._take_apart(parts_of(text))
                return
        except Invalid as error:
            self.answers.refuse(None, error)
            return
        for queue, run in groupby(await self._admitted(given), _publishes_to):
            if self._turned_away:
                return
            if queue is None:
                for frame in run:
                    if not self._turned_away:
                        await self._act(frame)
            else:
                await self._publishing.run(queue, [frame for frame in run if isinstance(frame, frames.Publish)])

    async def _take_apart(self, parts: list[bytes]) -> None:
        """Raises `Invalid` where they are too many."""
        check_length(parts)
        for part in parts:
            if self._turned_away:
                return
            try:
                await self._admit(1)
                frame = frame_of(part)
            except BrokerError as error:
                self.answers.refuse(id_of(part), error)
            else:
                await self._act(frame)

    async def _admitted(self, given: list[frames.ClientFrame]) -> list[frames.ClientFrame]:
        """Those of the frames that the rate limit lets through; the others are refused."""
        if self._door.rates.take(Kind.MESSAGES, self._rate_key, len(given)):
            return given
        admitted = []
        for frame in given:
            try:
                await self._admit(1)
                admitted.append(frame)
            except RateLimited as error:
                self.answers.refuse(frame.id, error)
        return admitted

    async def _admit(self, count: int) -> None:
        """Raises `RateLimited`, and `Close` where a client goes on without a pause all the same."""
        try:
            if not self._door.rates.take(Kind.MESSAGES, self._rate_key, count):
                await self._door.rates.refill(Kind.MESSAGES, self._rate_key, count)
            self._refused = 0
        except RateLimited:
            self._door.refused.limited(Kind.MESSAGES, count)
            self._refused += count
            if self._refused > MAX_REFUSED:
                raise Close(4429, "too many frames that the rate limit refused; wait for retry_after_ms") from None
            raise

    async def _act(self, frame: frames.ClientFrame) -> None:
        """Act on one frame; an error is answered and does not stop the rest."""
        try:
            match frame:
                case frames.Publish():
                    await self._publishing.one(frame)
                case frames.Ack() | frames.Nack():
                    self._settling.settle(frame)
                case frames.Extend():
                    self._settling.extend(frame)
                case frames.Subscribe():
                    await self._subscribing.subscribe(frame)
                case frames.Unsubscribe():
                    await self._subscribing.unsubscribe(frame)
                case frames.Pause() | frames.Resume():
                    self._subscribing.pause(frame)
                case frames.Hello() | frames.Refresh():
                    self._refresh(frame)
                case frames.Ping():
                    self.answers.say(frames.PONG)
                case _:
                    assert_never(frame)
        except BrokerError as error:
            self.answers.refuse(frame.id, error)

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def _refresh(self, frame: frames.Hello | frames.Refresh) -> None:
        if frame.token is not None:
            newer = self._known(frame.token)
            if newer.username != self._user().username:
                raise Forbidden("the token is another user's; open another connection for that one")
            self.recognized(newer)
            self._watch_token()
        self.answers.say(frames.ok(frame.id))

    @property
    def session(self) -> Session:
        """Its subscriptions."""
        return self._subscribing.session

    # -- what becomes of the user --------------------------------------------------------------------------------------

    @property
    def principal(self) -> Principal:
        """See `presence.Guest`."""
        return self._user()

    def turned_out(self) -> None:
        """See `presence.Guest`."""
        self.close(4401, "the session was ended")

    def recognized(self, principal: Principal) -> None:
        """See `presence.Guest`."""
        self._become(principal)
        self._subscribing.recheck(principal)

    def _user(self) -> Principal:
        if self._principal is None:
            raise Unauthenticated("say hello first")
        return self._principal

    def _moved(self) -> None:
        self.answers.moved()


def _publishes_to(frame: frames.ClientFrame) -> str | None:
    return frame.queue if isinstance(frame, frames.Publish) else None


def _is_clean(event: Any) -> bool:
    """Whether the peer closed with a close frame that means no harm; a connection that just ended has no reason."""
    return "reason" in event and event["code"] in _CLEAN
