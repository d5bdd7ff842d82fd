"""The WebSocket door: the I/O of one connection around a `Session`.

Three parts share a connection on the event loop: the reader (`run`) decodes frames and acts on them, `_write` sends
what has gathered in one frame, and timers watch the token and the peer's reading.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, assert_never

from starlette.types import Receive, Scope, Send

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Principal, require
from streambroker.core.errors import (
    BrokerError,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
    invalid,
)
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Draft, Message
from streambroker.core.names import format_id, is_queue_name, parse_id
from streambroker.protocol import frames
from streambroker.protocol.messages import Limits, digest, draft, shown
from streambroker.protocol.session import Session, Subscription
from streambroker.store.contract import Acked, Published, Settled
from streambroker.transport.http import Call, refuse
from streambroker.transport.incoming import Close, check_length, first_of, frame_of, frames_of, id_of, parts_of, text_of
from streambroker.transport.outbox import MAX_BYTES, STALL_S, Outbox
from streambroker.transport.schemas import ConnectQuery

log = logging.getLogger(__name__)

HELLO_DEADLINE_S = 5
EXPIRING_S = 60
"""How long before its token ends a client hears of it."""
MAX_UNANSWERED = 2_000
"""Frames whose answer is due: beyond it the connection is not read until some are answered."""
_CLEAN = frozenset({1000, 1001, 1005})
_NO_LONGER_WELCOME = frozenset({4401, 4450})
_NOT_THE_CLIENTS_FAULT = frozenset({4450, 4503})


class Sockets:
    """All open connections: for the drain, for revoked sessions, and to be counted."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()

    def draining(self, deadline_ms: int) -> None:
        """Tell everybody that the broker stops."""
        for connection in self.open:
            connection.say(frames.draining(deadline_ms))

    async def close_all(self, code: int, reason: str) -> None:
        """Close every connection, and wait until what they held is given back."""
        connections = list(self.open)
        for connection in connections:
            connection.close(code, reason)
        if connections:
            await asyncio.wait([connection.ended for connection in connections], timeout=5)

    def revoked(self, sid: str) -> None:
        """A session was ended: so are its connections."""
        for connection in [c for c in self.open if c.principal is not None and c.principal.sid == sid]:
            connection.close(4401, "the session was ended")


class WebSocketDoor:
    """The ASGI application of ``/ws`` and ``/queues/{queue}/ws``."""

    def __init__(
        self,
        broker: Broker,
        authenticate: Callable[[str], Principal],
        sockets: Sockets,
        limits: Limits,
        heartbeat_ms: int,
        max_frame: int,
        wall: Callable[[], int],
    ) -> None:
        self.broker = broker
        self.authenticate = authenticate
        self.sockets = sockets
        self.limits = limits
        self.heartbeat_ms = heartbeat_ms
        self.max_frame = max_frame
        self.wall = wall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            connection = Connection(self, scope, receive, send)
        except BrokerError as error:
            await refuse(scope, send, error)
            return
        await connection.run()


class Connection:
    """One client. Owns its session, its outbox and what is delivered but not yet sent."""

    def __init__(self, door: WebSocketDoor, scope: Scope, receive: Receive, send: Send) -> None:
        self._door = door
        self._broker = door.broker
        self._scope = scope
        self._receive = receive
        self._send = send
        self.id = secrets.token_urlsafe(12)
        self.session = Session()
        self.principal, self._subprotocol = self._who(scope)
        self._queue, self._credit = self._asked_for(scope)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox = Outbox(
            self.id,
            send,
            scope.get("extensions", {}).get("streambroker.transport"),
            self._shown,
            self._broker.feed,
            self._moved,
        )
        self._room = asyncio.Event()
        self._room.set()
        self._unanswered = 0
        self._timers: list[asyncio.TimerHandle] = []

    # -- who is it -----------------------------------------------------------------------------------------------------

    def _who(self, scope: Scope) -> tuple[Principal | None, str | None]:
        """Who it is by header or subprotocol, and the subprotocol to choose. Raises `Unauthenticated`."""
        offered: list[str] = scope.get("subprotocols", [])
        given = next((item for item in offered if item.startswith("bearer.")), None)
        # A browser fails the connection where none of what it offered is chosen.
        chosen = frames.SUBPROTOCOL if frames.SUBPROTOCOL in offered else given
        header = scope["streambroker.headers"].get(b"authorization")
        if header is not None:
            if header[:7].lower() != b"bearer ":
                raise Unauthenticated("the Authorization header must be: Bearer <access token>")
            return self._door.authenticate(header[7:].strip().decode("latin-1")), chosen
        if given is not None:
            return self._door.authenticate(given.removeprefix("bearer.")), chosen
        return None, chosen

    def _asked_for(self, scope: Scope) -> tuple[str | None, int]:
        """The queue that the path subscribes to, and the credit. Raises `Invalid`."""
        name = scope["path_params"].get("queue")
        if name is None:
            return None, 0
        if not is_queue_name(name):
            raise invalid("/queue", "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        return name, Call(scope, self._receive, self.principal).options(ConnectQuery).credit

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
            for timer in self._timers:
                timer.cancel()
            self._outbox.stop()
            writer.cancel()
            self._give_back(clean)
            self.ended.set_result(None)

    async def _read(self) -> bool:
        """Read frames until the peer closes; whether it did so cleanly."""
        if self.principal is None:
            if (event := await self._hello()) is not None:
                return _is_clean(event)
        else:
            self._welcome(None)
        if self._queue is not None:
            await self._subscribe_by_path(self._queue)
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                if self._outbox.closing is not None:
                    return self._outbox.closing.code in _NOT_THE_CLIENTS_FAULT
                return _is_clean(event)
            if self._outbox.closing is not None and self._outbox.closing.code in _NO_LONGER_WELCOME:
                continue  # its session has ended: nothing more is done in its name
            await self._take(text_of(event))
            if not self._outbox.ended and (self._unanswered > MAX_UNANSWERED or self._outbox.size > MAX_BYTES):
                self._room.clear()
                await self._room.wait()

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
            self.principal = self._door.authenticate(first.token)
        except Unauthenticated as error:
            raise Close(4401, error.detail) from None
        self._welcome(first.id)
        try:
            await self._take_apart(rest)
        except Invalid as error:
            self._refuse(None, error)
        return None

    def _welcome(self, frame_id: frames.FrameId) -> None:
        expires_in = self._watch_token()
        self.say(frames.welcome(frame_id, self.id, self._door.heartbeat_ms, self._door.max_frame, expires_in))

    def _watch_token(self) -> int | None:
        """(Re)start the timers of the token; the seconds until it ends."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self.principal is None or self.principal.expires_at_ms is None:
            return None
        left = max(self.principal.expires_at_ms - self._door.wall(), 0) / 1_000
        loop = asyncio.get_running_loop()
        notice = min(EXPIRING_S, left / 2)
        self._timers.append(loop.call_later(left - notice, lambda: self.say(frames.expiring(int(notice)))))
        self._timers.append(loop.call_later(left, self.close, 4450, "the token expired; come back with a new one"))
        return int(left)

    def close(self, code: int, reason: str) -> None:
        """Close the connection from outside, after what is in the outbox."""
        self._outbox.close(Close(code, reason))
        self._room.set()

    async def _finish(self, writer: asyncio.Task[None], close: Close) -> None:
        """Say the last words, then close."""
        self._outbox.close(close)
        await asyncio.wait([writer], timeout=STALL_S)

    def _give_back(self, clean: bool) -> None:
        for subscription in self.session.close():
            self._broker.unsubscribe(subscription, clean, self._outbox.withdraw(subscription))

    # -- frames in -----------------------------------------------------------------------------------------------------

    async def _take(self, text: str) -> None:
        try:
            given = frames_of(text)
            if given is None:  # some frame does not fit: answer each on its own
                await self._take_apart(parts_of(text))
                return
        except Invalid as error:
            self._refuse(None, error)
            return
        for queue, run in groupby(given, _publishes_to):
            if queue is None:
                for frame in run:
                    await self._act(frame)
            else:
                await self._publish_run(queue, [frame for frame in run if isinstance(frame, frames.Publish)])

    async def _take_apart(self, parts: list[bytes]) -> None:
        """Raises `Invalid` where they are too many."""
        check_length(parts)
        for part in parts:
            try:
                frame = frame_of(part)
            except BrokerError as error:
                self._refuse(id_of(part), error)
            else:
                await self._act(frame)

    async def _act(self, frame: frames.ClientFrame) -> None:
        """Act on one frame; an error is answered and does not stop the rest."""
        try:
            match frame:
                case frames.Publish():
                    await self._publish(frame)
                case frames.Ack() | frames.Nack():
                    self._settle(frame)
                case frames.Extend():
                    self._extend(frame)
                case frames.Subscribe():
                    await self._subscribe(frame)
                case frames.Unsubscribe():
                    await self._unsubscribe(frame)
                case frames.Pause() | frames.Resume():
                    subscription = self.session.find(frame.sub)
                    subscription.paused = isinstance(frame, frames.Pause)
                    self._broker.feed(subscription)
                    self.say(frames.ok(frame.id))
                case frames.Hello() | frames.Refresh():
                    self._refresh(frame)
                case frames.Ping():
                    self.say(frames.PONG)
                case _:
                    assert_never(frame)
        except BrokerError as error:
            self._refuse(frame.id, error)

    async def _publish(self, frame: frames.Publish) -> None:
        require(self._user, Action.PUBLISH, frame.queue)
        queue = await self._broker.ensure_queue(frame.queue)
        now, limits = self._broker.clock(), self._door.limits
        ids = self._broker.new_ids(len(frame.messages), now)
        drafts = [
            draft(one, number, queue.config, limits, now, None, f"/messages/{index}")
            for index, (one, number) in enumerate(zip(frame.messages, ids, strict=True))
        ]
        digests = [digest(made) for made in drafts if made.dedup_id is not None]
        durability = "memory" if queue.config.durability == "memory" else None
        told = partial(self._told, frame.id, partial(_say_published, frame.id, durability))
        self._broker.post(frame.queue, drafts, told, digests=digests)
        self._unanswered += 1

    async def _publish_run(self, queue: str, run: list[frames.Publish]) -> None:
        """Publishes to one queue, one after the other: one command for the store where none could be refused alone.

        What a client sends in one turn of its loop comes as one array; what a command costs is then shared.
        """
        if len(run) == 1:
            await self._act(run[0])
            return
        try:
            require(self._user, Action.PUBLISH, queue)
            config = (await self._broker.ensure_queue(queue)).config
        except BrokerError as error:
            for frame in run:
                self._refuse(frame.id, error)
            return
        if config.max_messages or any(m.dedup_id is not None for frame in run for m in frame.messages):
            for frame in run:
                await self._act(frame)
            return
        now, limits = self._broker.clock(), self._door.limits
        numbers = iter(self._broker.new_ids(sum([len(frame.messages) for frame in run]), now))
        drafts: list[Draft] = []
        stored: list[tuple[frames.FrameId, int]] = []  # the frame's id, and how many drafts are its own
        for frame in run:
            try:
                own = [
                    draft(one, next(numbers), config, limits, now, None, f"/messages/{index}")
                    for index, one in enumerate(frame.messages)
                ]
            except BrokerError as error:
                self._refuse(frame.id, error)
                continue
            drafts += own
            stored.append((frame.id, len(own)))
        if not drafts:
            return
        durability = "memory" if config.durability == "memory" else None
        try:
            self._broker.post(queue, drafts, partial(self._told_run, stored, durability))
        except BrokerError as error:
            for frame_id, _ in stored:
                self._refuse(frame_id, error)
        else:
            self._unanswered += len(stored)

    def _told_run(self, stored: list[tuple[frames.FrameId, int]], durability: str | None, answer: Any) -> None:
        start = 0
        for frame_id, count in stored:
            if not isinstance(answer, BrokerError):
                ids = answer.ids[start : start + count]
                self.say(frames.published(frame_id, [format_id(i) for i in ids], [], durability))
                start += count
            else:
                self._refuse(frame_id, answer)
        self._answered(len(stored))

    def _settle(self, frame: frames.Ack | frames.Nack) -> None:
        if isinstance(frame, frames.Ack):
            event, delay_ms, reason = Event.ACK, None, None
        else:
            event = Event.REQUEUE if frame.requeue else Event.REJECT
            delay_ms, reason = frame.delay_ms, frame.reason
        items: list[Settlement] = []
        unknown: set[str] = set()
        fed: set[Subscription] = set()
        taken: list[tuple[Subscription, int, str]] = []
        relaxed = True
        for text in dict.fromkeys(frame.ids):
            number = parse_id(text)
            subscription = None if number is None else self._holder_of(number)
            if number is None or subscription is None:
                unknown.add(text)
                continue
            token = self._broker.let_go(subscription, number)
            taken.append((subscription, number, token or ""))
            if subscription not in fed:
                fed.add(subscription)
                relaxed = relaxed and self._is_relaxed(subscription)
            chance = self._broker.chance() if event is Event.REQUEUE else 0.5
            items.append(Settlement(number, event, token, None, delay_ms, reason, chance=chance))
        # All of one queue, as they mostly are, and each by the token in hand.
        queue = next(iter(fed)).queue if len(fed) == 1 and event is Event.ACK else None
        self._send_settlements(frame, items, unknown, relaxed, queue, taken)
        for subscription in fed:
            self._broker.feed(subscription)

    def _extend(self, frame: frames.Extend) -> None:
        items: list[Settlement] = []
        unknown: set[str] = set()
        until = self._broker.clock() + frame.lease_ms
        for text in dict.fromkeys(frame.ids):
            number = parse_id(text)
            subscription = None if number is None else self._holder_of(number)
            if number is None or subscription is None:
                unknown.add(text)
                continue
            # A session's lease has no end to move: it lasts as long as the connection.
            end = None if subscription.session_lease else until
            items.append(Settlement(number, Event.EXTEND, subscription.held[number], until=end))
        self._send_settlements(frame, items, unknown, False)

    def _send_settlements(
        self,
        frame: frames.Ack | frames.Nack | frames.Extend,
        items: list[Settlement],
        unknown: set[str],
        relaxed: bool,
        queue: str | None = None,
        taken: Sequence[tuple[Subscription, int, str]] = (),
    ) -> None:
        if items:
            self._unanswered += 1
            tell = partial(_say_settled, frame, unknown)

            def told(answer: Any) -> None:
                if isinstance(answer, BrokerError):
                    self._broker.hold_again(taken)
                self._told(frame.id, tell, answer)

            # An ack without an id is not answered, so nobody waits for its commit.
            lazy = frame.id is None and isinstance(frame, frames.Ack)
            self._broker.post_settle(items, told, relaxed, queue, lazy)
        elif frame.id is not None:
            self.say(_results(frame, {}, unknown))

    def _is_relaxed(self, subscription: Subscription) -> bool:
        name = subscription.queue
        return self._broker.knows(name) and self._broker.queue(name).config.durability == "memory"

    def _holder_of(self, number: int) -> Subscription | None:
        """The subscription of this very connection that holds the message."""
        holder = self._broker.holder_of(number)
        return holder if isinstance(holder, Subscription) and holder.owner is self else None

    def _told(self, frame_id: frames.FrameId, tell: Callable[[Any], bytes | None], answer: Any) -> None:
        """What was asked for is durable, or was refused; the reader went on meanwhile."""
        if isinstance(answer, BrokerError):
            self._refuse(frame_id, answer)
        elif (said := tell(answer)) is not None:
            self.say(said)
        self._answered(1)

    def _answered(self, count: int) -> None:
        self._unanswered -= count
        self._moved()

    def _moved(self) -> None:
        """The client is read again where it was not."""
        few = self._unanswered <= MAX_UNANSWERED // 2 and self._outbox.size <= MAX_BYTES // 2
        if few or self._outbox.ended:
            self._room.set()

    # -- subscriptions -------------------------------------------------------------------------------------------------

    async def _subscribe(self, frame: frames.Subscribe) -> None:
        require(self._user, Action.CONSUME, frame.queue)
        await self._broker.ensure_queue(frame.queue)
        subscription = Subscription(
            self,
            frame.sub or frame.queue,
            frame.queue,
            frame.credit,
            frame.lease_ms,
            frame.lease_mode == "session",
            self._user.username,
        )
        self.session.add(subscription)
        if frame.id is not None or self._queue is None:  # the one that the path makes was not asked for by a frame
            self.say(frames.ok(frame.id))
        self._broker.subscribe(subscription)

    async def _subscribe_by_path(self, queue: str) -> None:
        try:
            await self._subscribe(frames.Subscribe(queue=queue, credit=self._credit))
        except NotFound as error:
            raise Close(4404, error.detail) from None
        except Forbidden as error:
            raise Close(4403, error.detail) from None

    async def _unsubscribe(self, frame: frames.Unsubscribe) -> None:
        subscription = self.session.remove(frame.sub)
        unseen = self._outbox.withdraw(subscription)
        given_back = self._broker.unsubscribe(subscription, True, unseen)
        if given_back is not None:
            await given_back
        self.say(frames.ok(frame.id))

    def _refresh(self, frame: frames.Hello | frames.Refresh) -> None:
        if frame.token is not None:
            newer = self._door.authenticate(frame.token)
            if newer.username != self._user.username:
                raise Forbidden("the token is another user's; open another connection for that one")
            self.principal = newer
            self._watch_token()
        self.say(frames.ok(frame.id))

    @property
    def _user(self) -> Principal:
        if self.principal is None:
            raise Unauthenticated("say hello first")
        return self.principal

    # -- what the session's subscriptions are told ---------------------------------------------------------------------

    def deliverable(self, subscription: Subscription, messages: list[Message]) -> None:
        """See `protocol.session.Owner`."""
        self._broker.hold(subscription, messages)
        self._outbox.deliver(subscription, messages)

    def lost(self, subscription: Subscription, message_id: int, reason: str) -> None:
        """See `protocol.session.Owner`."""
        self.say(frames.lease_lost(subscription.name, [format_id(message_id)], reason))

    def queue_dropped(self, subscription: Subscription) -> None:
        """See `protocol.session.Owner`."""
        self.session.remove(subscription.name)
        self._refuse(None, NotFound(f"queue {subscription.queue} was deleted; the sub {subscription.name!r} has ended"))
        if self._queue == subscription.queue:
            self.close(4404, "the queue was deleted")

    # -- frames out ----------------------------------------------------------------------------------------------------

    def say(self, frame: bytes) -> None:
        """Put a frame into the outbox."""
        self._outbox.say(frame)

    def _refuse(self, frame_id: frames.FrameId, error: BrokerError) -> None:
        self.say(frames.error(frame_id, error, f"urn:streambroker:session:{self.id}"))

    def _shown(self, subscription: Subscription, messages: Sequence[Message]) -> list[bytes]:
        # What was lost before it could be sent (deleted, settled elsewhere) is not sent at all.
        config = self._broker.queue(subscription.queue).config if self._broker.knows(subscription.queue) else None
        if config is None:
            return []
        held = subscription.held
        return [shown(m, config, delivered=True) for m in messages if held.get(m.id) == m.lease]


def _publishes_to(frame: frames.ClientFrame) -> str | None:
    return frame.queue if isinstance(frame, frames.Publish) else None


def _say_published(frame_id: frames.FrameId, durability: str | None, stored: Published) -> bytes:
    return frames.published(frame_id, [format_id(i) for i in stored.ids], list(stored.duplicates), durability)


def _say_settled(
    frame: frames.Ack | frames.Nack | frames.Extend, unknown: set[str], settled: Sequence[Settled] | Acked
) -> bytes | None:
    if frame.id is None:
        return None
    if isinstance(settled, Acked):
        return _results(frame, {parse_id(text) or 0: None for text in frame.ids}, unknown)
    return _results(frame, {one.id: one.refusal for one in settled}, unknown)


def _results(
    frame: frames.Ack | frames.Nack | frames.Extend, refusals: dict[int, str | None], unknown: set[str]
) -> bytes:
    results = []
    for text in dict.fromkeys(frame.ids):
        code = "lease_lost" if text in unknown else refusals.get(parse_id(text) or 0, "lease_lost")
        results.append(frames.Result(text, code is None, code))
    return frames.settled(frame.id, results)


def _is_clean(event: Any) -> bool:
    """Whether the peer closed with a close frame that means no harm; a connection that just ended has no reason."""
    return "reason" in event and event["code"] in _CLEAN
