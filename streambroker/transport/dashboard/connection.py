"""One open dashboard: a reader (`run`) that takes what it asks, an outbox that sends, timers that watch its token."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol, assert_never

from starlette.types import Receive, Scope, Send

from streambroker.core.access import Action, Principal, require
from streambroker.core.errors import (
    BrokerError,
    Forbidden,
    Invalid,
    Malformed,
    Overloaded,
    RateLimited,
    Unauthenticated,
)
from streambroker.protocol.frames import PONG, Hello, Ping, Refresh, error, expiring, ok
from streambroker.transport.auditing import audited_from_now_on
from streambroker.transport.counting import Refused
from streambroker.transport.dashboard import frames
from streambroker.transport.dashboard.feed import INTERVAL_MS, MAX_DASHBOARDS, Feed
from streambroker.transport.dashboard.frames import SUBPROTOCOL, Watch, client_frame
from streambroker.transport.dashboard.happenings import Happenings
from streambroker.transport.dashboard.outbox import CLOSE_S, Closing, Outbox
from streambroker.transport.dashboard.views import View, key_of
from streambroker.transport.gate import recognized
from streambroker.transport.limiting import Kind, RateLimits
from streambroker.transport.presence import Presence

log = logging.getLogger(__name__)

HELLO_DEADLINE_S = 5
EXPIRING_S = 60
MAX_FRAME = 16 * 1024
_DAY_S = 86_400
_RETRY_AFTER_MS = 10_000


class Door(Protocol):
    """What a dashboard needs of the door that it came in by."""

    feed: Feed
    authenticate: Callable[[str], Principal]
    presence: Presence
    rates: RateLimits
    refused: Refused
    wall: Callable[[], int]


class Dashboard:
    """One client. Owns its outbox, and what it watches; `presence.Guest` and `feed.Listener`."""

    def __init__(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = secrets.token_urlsafe(9)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._door = door
        self._feed = door.feed
        self._scope = scope
        self._receive = receive
        self._send = send
        self._principal: Principal | None = None
        self._view: View | None = None
        transport = scope.get("extensions", {}).get("streambroker.transport")
        self._outbox = Outbox(self.id, send, transport, self._latest)
        self._timers: list[asyncio.TimerHandle] = []
        self._owes_history = False
        self._told_tick: str | None = None
        self._queues = self._consumers = False
        self._told_version: int | None = None
        self._told_consumers: str | None = None
        self._happenings: Happenings | None = None
        self._told_events = 0
        self._subprotocol = self._who(scope)

    # -- who is it -----------------------------------------------------------------------------------------------------

    def _who(self, scope: Scope) -> str | None:
        """Learn who it is by header or subprotocol; the subprotocol to choose.

        Raises `Unauthenticated`, `RateLimited`, and `Overloaded` where as many are open as may be.
        """
        offered: list[str] = scope.get("subprotocols", [])
        given = next((item for item in offered if item.startswith("bearer.")), None)
        header = scope["streambroker.headers"].get(b"authorization")
        token = None if given is None else given.removeprefix("bearer.")
        if header is not None:
            if header[:7].lower() != b"bearer ":
                raise Unauthenticated("the Authorization header must be: Bearer <access token>")
            token = header[7:].strip().decode("latin-1")
        if token is not None:
            principal = self._known(token)
            if len(self._feed.open) >= MAX_DASHBOARDS:
                raise Overloaded(f"{MAX_DASHBOARDS} dashboards are open; close one", retry_after_ms=_RETRY_AFTER_MS)
            self._enter(principal)
        # A browser fails the connection where none of what it offered is chosen.
        return SUBPROTOCOL if SUBPROTOCOL in offered else given

    def _known(self, token: str) -> Principal:
        """Who a token or API key stands for. Raises `Unauthenticated`."""
        try:
            return self._door.authenticate(token)
        except Unauthenticated:
            self._door.refused.unknown(token.encode(errors="replace"))
            raise

    def _enter(self, principal: Principal) -> None:
        """It is somebody from now on. Raises `RateLimited`."""
        self._principal = principal
        try:
            self._door.presence.enter(self)
        except RateLimited:
            self._principal = None
            raise
        recognized(self._scope)
        audited_from_now_on(self._scope, principal)
        self._feed.open.add(self)

    @property
    def principal(self) -> Principal:
        """See `presence.Guest`."""
        if self._principal is None:
            raise Unauthenticated("say hello first")
        return self._principal

    def turned_out(self) -> None:
        """See `presence.Guest`."""
        self.close(4401, "the session was ended")

    def recognized(self, principal: Principal) -> None:
        """See `presence.Guest`. With other rights all begins anew, `welcome` first: nothing is watched any more."""
        same = self._view is not None and key_of(principal) == key_of(self.principal)
        same = same and principal.role is self.principal.role
        self._principal = principal
        if not same and self._view is not None:
            self._watch_nothing()
            self._feed.leave(self._view)
            self._welcome()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve it until it ends, whoever ends it."""
        writer = asyncio.create_task(self._outbox.run())
        try:
            request_id = (b"x-request-id", self._scope["streambroker.request_id"])
            await self._send({"type": "websocket.accept", "subprotocol": self._subprotocol, "headers": [request_id]})
            if (closing := await self._read()) is not None:
                await self._finish(writer, closing)
        except OSError:
            pass  # uvicorn's ClientDisconnected: the peer is gone
        except Exception:
            log.exception("dashboard %s failed", self.id)
            await self._finish(writer, Closing(4500, "internal error"))
        finally:
            self._end()
            writer.cancel()
            self.ended.set_result(None)

    def close(self, code: int, reason: str) -> None:
        """See `feed.Listener`."""
        self._outbox.close(code, reason)

    def wake(self) -> None:
        """See `feed.Listener`."""
        self._outbox.wake()

    async def _finish(self, writer: asyncio.Task[None], closing: Closing) -> None:
        self._outbox.close(*closing)
        await asyncio.wait([writer], timeout=2 * CLOSE_S)

    def _end(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._outbox.stop()
        self._watch_nothing()
        if self._view is not None:
            self._feed.leave(self._view)
        if self._principal is not None:
            self._feed.open.discard(self)
            self._door.presence.leave(self)

    async def _read(self) -> Closing | None:
        """Read frames until the peer closes, or does what closes the connection."""
        if self._principal is None:
            closing = await self._hello()
            if closing is not None or self._principal is None:
                return closing
        self._welcome()
        while (event := await self._receive())["type"] != "websocket.disconnect":
            if self._outbox.closing is None and (closing := await self._take(event)) is not None:
                return closing
            await self._outbox.room()
        return None

    async def _hello(self) -> Closing | None:
        """Wait for the first frame, which must say who it is; nothing is answered where the peer leaves instead."""
        try:
            async with asyncio.timeout(HELLO_DEADLINE_S):
                event = await self._receive()
        except TimeoutError:
            return Closing(4408, "no hello came within 5 s")
        if event["type"] == "websocket.disconnect":
            return None
        try:
            frame = _frame_of(event)
        except Invalid:
            frame = None
        if isinstance(frame, Closing):
            return frame
        if not isinstance(frame, Hello) or frame.token is None:
            return Closing(4401, "the first frame must be a hello with a token")
        try:
            principal = self._known(frame.token)
            if len(self._feed.open) >= MAX_DASHBOARDS:
                return Closing(4429, f"{MAX_DASHBOARDS} dashboards are open; close one")
            self._enter(principal)
        except Unauthenticated as refusal:
            return Closing(4401, refusal.detail)
        except RateLimited as refusal:
            return Closing(4429, refusal.detail[:100])
        return None

    def _welcome(self) -> None:
        view = self._view = self._feed.enter(self.principal)
        self._owes_history, self._told_tick = True, None
        self._outbox.say(frames.welcome(self.principal, view.all, INTERVAL_MS, self._watch_token()))

    def _watch_token(self) -> int | None:
        """(Re)start the timers of the token; the seconds until it ends."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if (ends := self.principal.expires_at_ms) is None:
            return None
        left = max(ends - self._door.wall(), 0) / 1_000
        loop = asyncio.get_running_loop()
        if left > _DAY_S:  # a key that lives for years: looked at again, for clocks are set meanwhile
            self._timers.append(loop.call_later(_DAY_S, self._watch_token))
            return int(left)
        notice = min(EXPIRING_S, left / 2)
        self._timers.append(loop.call_later(left - notice, lambda: self._outbox.say(expiring(int(notice)))))
        self._timers.append(loop.call_later(left, self.close, 4450, "the token expired; come back with a new one"))
        return int(left)

    # -- frames in -----------------------------------------------------------------------------------------------------

    async def _take(self, event: Any) -> Closing | None:
        """Act on one frame; an error is answered, and what is no frame closes the connection."""
        number = None
        try:
            await self._admit()
            frame = _frame_of(event)
            if isinstance(frame, Closing):
                return frame
            number = frame.id
            self._act(frame)
        except BrokerError as fault:
            self._outbox.say(error(number, fault, f"urn:streambroker:session:{self.id}"))
        return None

    async def _admit(self) -> None:
        """Raises `RateLimited`."""
        who = f"u:{self.principal.username}"
        if not self._door.rates.take(Kind.DEFAULT, who):
            try:
                await self._door.rates.refill(Kind.DEFAULT, who)
            except RateLimited:
                self._door.refused.limited(Kind.DEFAULT)
                raise

    def _act(self, frame: frames.ClientFrame) -> None:
        match frame:
            case Watch():
                self._watch(frame)
            case Hello() | Refresh():
                self._refresh(frame)
            case Ping():
                self._outbox.say(PONG)
            case _:
                assert_never(frame)

    def _refresh(self, frame: Hello | Refresh) -> None:
        if frame.token is not None:
            newer = self._known(frame.token)
            if newer.username != self.principal.username:
                raise Forbidden("the token is another user's; open another dashboard for that one")
            self.recognized(newer)
            self._watch_token()
        self._outbox.say(ok(frame.id))

    def _watch(self, frame: Watch) -> None:
        """Raises `NotFound` or `Forbidden` for the events of a queue that it may not view; nothing changes then."""
        if frame.events is not None:
            require(self.principal, Action.VIEW, frame.events)
            self._feed.broker.queue(frame.events)
        if "queues" in frame.topics and not self._queues:
            self._queues, self._told_version = True, None
            self._feed.watch_queues()
        elif "queues" not in frame.topics:
            self._watch_no_queues()
        if "consumers" not in frame.topics or not self._consumers:
            self._told_consumers = None
        self._consumers = "consumers" in frame.topics
        self._watch_events(frame.events)
        self._outbox.say(ok(frame.id))

    def _watch_events(self, queue: str | None) -> None:
        if self._happenings is not None:
            if self._happenings.queue == queue:
                return
            self._feed.watched.end(self._happenings)
            self._happenings = None
        if queue is not None:
            self._happenings = self._feed.watched.begin(queue)
            self._told_events = self._happenings.seen

    def _watch_no_queues(self) -> None:
        if self._queues:
            self._queues = False
            self._feed.board.end()

    def _watch_nothing(self) -> None:
        self._watch_no_queues()
        self._consumers, self._told_consumers = False, None
        self._watch_events(None)

    # -- frames out ----------------------------------------------------------------------------------------------------

    def _latest(self) -> str | None:
        """The next frame that it has not been told; see `Outbox`."""
        feed, view = self._feed, self._view
        if view is None:
            return None
        if self._owes_history:
            self._owes_history = False
            return view.history()
        tick = view.tick(feed.status)
        if tick is not None and tick is not self._told_tick:
            self._told_tick = tick
            return tick
        return self._latest_of_watched(view)

    def _latest_of_watched(self, view: View) -> str | None:
        feed = self._feed
        if self._queues and self._told_version != feed.board.version:
            since, self._told_version = self._told_version, feed.board.version
            if (lines := feed.board.frame(view, since)) is not None:
                return lines
        if self._consumers:
            consumers = view.consumers(feed.roster)
            if consumers is not self._told_consumers:
                self._told_consumers = consumers
                return consumers
        happenings = self._happenings
        if happenings is not None and happenings.seen != self._told_events:
            since, self._told_events = self._told_events, happenings.seen
            return happenings.frame(since)
        return None


def _frame_of(event: Any) -> frames.ClientFrame | Closing:
    """One frame, or why what came is none. Raises `Invalid` where it is one that does not fit."""
    text: str | None = event.get("text")
    try:
        text = event["bytes"].decode() if text is None else text
    except UnicodeDecodeError:
        return Closing(4400, "a binary frame must hold JSON in UTF-8")
    if len(text) > MAX_FRAME:
        return Closing(4413, f"a frame has at most {MAX_FRAME:,} characters")
    if text.lstrip()[:1] != "{":
        return Closing(4400, "a frame is a JSON object")
    try:
        return client_frame(text)
    except Malformed as fault:
        return Closing(4400, fault.detail[:100])
