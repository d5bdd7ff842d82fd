"""WebSockets, with the contract's close codes and a bound on what a client may send and on how long it may take."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from streambroker.transport.server.bounds import MAX_UNKNOWN, NEVER, PORTION
from streambroker.transport.server.config import ServerConfig
from streambroker.transport.server.refusals import answer, body_of, refused_handshake, too_many_strangers
from streambroker.transport.server.strangers import RECOGNIZED, Stranger
from streambroker.transport.server.unread import Reading
from streambroker.transport.tls import end

MAX_CONTROLS = 1_000
"""Pings and pongs that a client may send in one `heartbeat_ms`."""
_IN_ONE_TURN = 200
"""Messages that a client may have taken before others get their turn."""
_LINGER_S = 2.0
"""How long a client that was cut off may go on sending; nobody looks at it."""
_BAD_FRAME, _TOO_BIG, _TOO_MANY, _HEARTBEAT_LOST = 4400, 4413, 4429, 4509


class _Conversation(ServerProtocol):
    """Closes with the contract's code where a frame is too big, and refuses with its problem documents."""

    def fail(self, code: int, reason: str = "") -> None:
        super().fail(_TOO_BIG if code == 1009 else code, reason)

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None  # a peer may close in the middle of a message; that is no protocol error
        super().recv_frame(frame)

    def reject(self, status: int, text: str) -> Response:
        response = super().reject(status, text)
        response.body = body_of(refused_handshake(status, text.strip() or "refused"))
        for name in ("Date", "Content-Length", "Content-Type"):
            del response.headers[name]
        response.headers["Content-Length"] = str(len(response.body))
        response.headers["Content-Type"] = "application/problem+json"
        return response


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, bounded; its classes are not a public interface, so uvicorn is pinned to a minor.

    It parses a portion at a time, and the next one when the application has taken what the last one held.
    """

    def __init__(self, config: ServerConfig, *args: Any, stranger: Stranger, paused: bool, **kwargs: Any) -> None:
        """`paused`: the transport has asked for a pause, for an answer that came before is not read yet."""
        super().__init__(config, *args, **kwargs)
        self._paused = paused
        self._watch = config.watch
        self._stranger = stranger
        self._unended = 0  # bytes since a frame came to its end, while nobody is recognized
        self._on_trial_since = 0.0
        self.conn = _Conversation(max_size=config.ws_max_size, logger=self.conn.logger)
        self._unfed = bytearray()
        self._taken = 0
        self._controls = 0
        self._fragments = bytearray()
        self._since = 0.0  # when the fragmented message began that is not complete; 0: there is none

    # -- the connection ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._reading = Reading(self.transport, self._watch.backlog, self._watch.deadlines)
        if self._paused:
            self.pause_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.discard(self)
        self._reading.end()
        self._stranger.leave()
        self._unfed.clear()
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # there is none where the handshake was refused
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions["streambroker.transport"] = self.transport
            if not self._stranger.recognized:
                scope: Any = self.scope
                scope[RECOGNIZED] = self._stranger.recognize

    def _shake_hands(self, head: bytes) -> None:
        """Take the head of the upgrade; uvicorn says nothing to one that cannot be parsed."""
        self.conn.receive_data(head)
        self.handle_events()
        if not self.handshake_initiated:
            refusal = b"".join(self.conn.data_to_send())
            self.transport.write(refusal or answer(refused_handshake(400, "this does not open a WebSocket")))
            self.transport.close()

    # -- bytes in ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            self._shake_hands(data)
        elif len(data) <= PORTION and not self._unfed:
            self._feed(data)
        else:
            self._unfed += data
            self._feed_unfed()

    def _feed(self, data: bytes) -> bool:
        """Parse; whether that was the end of any frame."""
        if self.disconnected:
            self._unfed.clear()
            return True
        self.conn.receive_data(data)
        if self.conn.parser_exc is not None:
            self._cut_off()
            return True
        ended = bool(self.conn.events)
        if ended:
            self.handle_events()
        if not self._stranger.recognized:
            self._bound_unknown(0 if ended else self._unended + len(data))
        return ended

    def _bound_unknown(self, unended: int) -> None:
        """Nobody is recognized: no more is held of what came than it takes to say who one is."""
        self._unended = unended
        if unended + len(self._fragments) <= MAX_UNKNOWN:
            return
        if self.close_sent:  # it goes on though it was told that it is not welcome
            self._cut_off()
        else:
            self._fail(_TOO_BIG, "a message before the hello is too big")

    def _feed_unfed(self) -> None:
        """Parse up to the portion that ends a frame. The next one's turn comes when that is taken."""
        while self._unfed:
            data = bytes(self._unfed[:PORTION])
            del self._unfed[:PORTION]
            if self._feed(data) and not self.close_sent:
                self._taken += self.queue.qsize()
                break
        if self._unfed:
            if not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()
            if self.queue.empty():  # nothing for the application, who would ask for more
                self.loop.call_soon(self._feed_unfed)
        elif self.read_paused and self.queue.empty():
            self._resume_reading()

    def _resume_reading(self) -> None:
        self.read_paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            if self._unfed and not self._stranger.recognized:
                self.loop.call_soon(self._feed_unfed)  # when the application has seen who this is
            elif self._unfed:
                await self._next_portion()
            else:
                self._resume_reading()
        return message

    async def send(self, message: Any) -> None:
        while not self.writable.is_set():  # uvicorn's own lets all who wait write as soon as there is room for one
            await self.writable.wait()
        await super().send(message)
        if self._stranger.on_trial and not self._on_trial_since:
            self._on_trial_since = self.loop.time()  # not before the application has looked at its head
            self._watch.add(self)
        if self.close_sent and self._unfed:
            self._feed_unfed()  # nobody asks for what it holds any more, but the peer's own close is behind it

    async def _next_portion(self) -> None:
        if self._taken >= _IN_ONE_TURN:
            self._taken = 0
            await asyncio.sleep(0)
        self._feed_unfed()

    # -- messages ------------------------------------------------------------------------------------------------------

    def handle_text(self, event: Frame) -> None:
        if event.fin:
            super().handle_text(event)
        else:
            self._begin("text", event)

    def handle_bytes(self, event: Frame) -> None:
        if event.fin:
            super().handle_bytes(event)
        else:
            self._begin("bytes", event)

    def _begin(self, kind: Any, event: Frame) -> None:
        """The first fragment. They are kept as one, for many small ones would take far more memory than they hold."""
        self.curr_msg_data_type = kind
        self._fragments = bytearray(event.data)
        self._since = self.loop.time()
        self._watch.add(self)

    def handle_cont(self, event: Frame) -> None:
        self._fragments += event.data
        if event.fin:
            self.frames, self._fragments = [bytes(self._fragments)], bytearray()
            self._since = 0.0
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames[0]):
            self.frames = []
            self._fail(1007, "invalid UTF-8")
        else:
            super().send_receive_event_to_app()

    # -- pings and pongs -----------------------------------------------------------------------------------------------

    def handle_ping(self) -> None:
        # A client that reads no pongs gets none: it alone decides how many would wait (RFC 6455, section 5.5.3).
        # Nor does one that is not welcome yet: its answer comes first.
        if (pong := b"".join(self.conn.data_to_send())) and self.writable.is_set() and self.handshake_complete:
            self.transport.write(pong)
        self._count_control()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._count_control()

    def _count_control(self) -> None:
        self._controls += 1
        if self._controls > MAX_CONTROLS:
            self._fail(_TOO_MANY, "too many pings and pongs")

    def send_keepalive_ping(self) -> None:
        self._controls = 0
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """The peer did not answer a ping, unless it is we who do not read what it says."""
        self.pong_timer = None
        self.pending_ping_payload = None
        if self.close_sent or self.transport.is_closing():
            return
        if self.read_paused:
            self.schedule_ping()
        else:
            self._fail(_HEARTBEAT_LOST, "heartbeat lost")

    # -- cutting off ---------------------------------------------------------------------------------------------------

    def _fail(self, code: int, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.fail(code, reason)
        self._cut_off()

    def _cut_off(self) -> None:
        """Say the close code and be done with the peer."""
        self._unfed.clear()
        if not self.handshake_complete:
            self.transport.abort()  # there is no WebSocket yet on which to say anything
            return
        told = self.close_sent
        if not told:
            self.handle_parser_exception()
        # The application hears of it like of any other end; what it still sends is not its fault.
        self.disconnected = True
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for ever for the peer to read what is unsent
        elif told or not self.transport.can_write_eof():
            end(self.transport)
        else:
            # To one that still sends, closing would be a reset, and what it had not read yet would be gone: it would
            # never learn why. So only our side is closed until it has closed its own (as RFC 9112, 9.6, for HTTP).
            self.transport.write_eof()
            self.close_timer = self.loop.call_later(_LINGER_S, self.transport.close)
            if self.read_paused:
                self._resume_reading()

    def handle_parser_exception(self) -> None:
        """Say the close code; uvicorn's own closes at once."""
        close = self.conn.close_sent
        assert close is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch.add(self)
        self._reading.fall_behind(self.loop.time())

    def resume_writing(self) -> None:
        if self._reading.goes_on():
            super().resume_writing()

    def look(self, now: float) -> float:
        """See `Watched`."""
        reading = self._reading.look(now)
        if self.close_sent or self.transport.is_closing():
            return reading
        return min(reading, self._look_at_fragments(now), self._look_at_trial(now))

    def _look_at_fragments(self, now: float) -> float:
        if not self._since:
            return NEVER
        if self.read_paused:  # it is not the client who lets wait
            self._since = now
        deadlines = self._watch.deadlines
        due = self._since + deadlines.body + len(self._fragments) / deadlines.rate
        if now < due:
            return due
        self._fail(_BAD_FRAME, "the message did not come to its end in time")
        return NEVER

    def _look_at_trial(self, now: float) -> float:
        if not (self._stranger.on_trial and self._on_trial_since):
            return NEVER
        if self.read_paused:
            self._on_trial_since = now
        due = self._on_trial_since + self._watch.deadlines.refused
        if now < due:
            return due
        self._fail(_TOO_MANY, too_many_strangers().detail)
        return NEVER


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
