"""HTTP/1.1, with a bound on what a client may send and on how long it may take.

A request passes through four stages. What is timed is never the application: a long-poll may take as long as it likes.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from streambroker.core.errors import BrokerError, Malformed, RequestTimeout
from streambroker.transport.server import bounds
from streambroker.transport.server.config import ServerConfig
from streambroker.transport.server.flow import Flow
from streambroker.transport.server.heads import announces_body, head_fault, without_upgrade
from streambroker.transport.server.onewrite import OneWrite
from streambroker.transport.server.portions import Portions
from streambroker.transport.server.refusals import answer, too_many, too_many_strangers, unknown_version
from streambroker.transport.server.stages import BODY, HEAD, NONE, WHOLE
from streambroker.transport.server.strangers import RECOGNIZED, Stranger
from streambroker.transport.server.unread import Reading
from streambroker.transport.server.websocket import WebSocketProtocol
from streambroker.transport.server.whole import EXTENSION, Whole
from streambroker.transport.tls import end

_VERSIONS = frozenset({"1.1", "1.0"})


class _Refused(Exception):
    """Stops the parser."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, bounded; its classes are not a public interface, so uvicorn is pinned to a minor.

    Answers stay in the order of the requests, also those to what is no request.
    """

    config: ServerConfig
    flow: Flow

    def __init__(self, config: ServerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._watch = config.watch
        self._always = b"".join(b"%b: %b\r\n" % field for field in config.encoded_headers)
        self._stage = NONE
        self._since = 0.0  # when the wait for the rest of this stage began; 0: it has not
        self._got = 0  # bytes since then
        self._content = 0  # bytes of the body
        self._serving: RequestResponseCycle | None = None
        self._fault: BrokerError | None = None
        self._stranger = Stranger()
        self._lasting = True  # whether the client wants to keep the connection on which it is served
        self._surplus = False  # one too many, that stays for its answer only
        self._upgrading = False
        self._deferred: tuple[RequestResponseCycle, Any] | None = None
        self._instead = b""  # the head of a request whose wish for an upgrade is ignored
        self._apart = False  # what comes is not simply parsed
        self._deaf = False  # what comes is not taken any more
        self._unfed = bytearray()
        self._last_words: bytes | None = None
        self._idle_since = 0.0

    # -- the connection ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        watch = self._watch
        if self.config.tls_handshake_s is not None:
            transport = cast(asyncio.Transport, Portions(transport))
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._reading = Reading(transport, watch.backlog, watch.deadlines)
        self._since = self.loop.time()
        if len(self.connections) - watch.surplus > watch.most:
            self._be_surplus(too_many(watch.most))
        elif (stranger := self.config.strangers.enter(self.client[0] if self.client else "")) is not None:
            self._stranger = stranger
        else:
            self._be_surplus(too_many_strangers())
        watch.add(self)

    def _be_surplus(self, fault: BrokerError) -> None:
        """Stay for the answer only."""
        self._watch.surplus += 1
        self._surplus = self._apart = True
        self._fault = fault
        if self._watch.surplus > bounds.REFUSED_AT_ONCE:
            self.loop.call_later(bounds.GLIMPSE_S, self._refuse_unless_gone, fault)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.discard(self)
        self._reading.end()
        self._watch.surplus -= self._surplus
        self._stranger.leave()
        self._unset_keepalive_if_required()
        self._unfed.clear()
        self.pipeline.clear()
        if self._serving is not None and not self._serving.response_complete:
            self._tell_gone(self._serving)
        super().connection_lost(exc)

    @staticmethod
    def _tell_gone(cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.message_event.set()

    # -- bytes in ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if len(data) <= bounds.PORTION and not self._apart:
            self._feed(data)
        elif self._fault is not None and not self._deaf:
            self._refuse(self._fault)
        elif not self._deaf:
            self._unfed += data
            self._feed_unfed()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(self._fault or Malformed(f"this is no HTTP/1.1 request: {error}"))
        else:
            if self._stage is not WHOLE:
                self._wait_for_rest(len(data))

    def _feed_unfed(self) -> None:
        """Parse what has come, but no further than to the first request that has to wait for its turn."""
        while self._unfed and not self.pipeline and not self._deaf:
            data = bytes(self._unfed[: bounds.PORTION])
            del self._unfed[: bounds.PORTION]
            self._feed(data)
        if self._deaf:
            self._unfed.clear()
        elif self._unfed:
            self._apart = True
            self.flow.hold()
        elif self._apart:
            self._apart = False
            self.flow.release(read=self._stage is not BODY or len(self.cycle.body) <= HIGH_WATER_LIMIT)

    def _wait_for_rest(self, size: int) -> None:
        """Something is still to come; refuse what has become too much already."""
        if not self._since:
            self._since, self._got = self.loop.time(), 0
            self._watch.add(self)
        self._got += size
        if self._stage is BODY:
            if self._got - self._content > bounds.MAX_HEAD + bounds.FRAMING * self._content:
                self._refuse(Malformed("a chunked body with far more framing than content"))
        elif self._stage is HEAD and (fault := self._head_fault()) is not None:
            self._refuse(fault)

    def _head_fault(self) -> BrokerError | None:
        size = self._got if self._since else 0
        not_ignored = self.parser.should_upgrade() and self._get_upgrade() in (b"websocket", None)  # None: CONNECT
        return head_fault(self.url, self.headers, size, upgrade=not_ignored)

    # -- what the parser tells -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._stage = HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        upgrade = self.parser.should_upgrade()
        if upgrade or self._since or len(self.headers) > bounds.MAX_FIELDS or len(self.url) > bounds.MAX_TARGET:
            self._fault = self._head_fault()
            if self._fault is not None:
                raise _Refused
            if upgrade and announces_body(self.headers):
                self._instead = without_upgrade(self.parser, self.url, self.headers)
                self._upgrading = True
                return
        before: Any = self.cycle
        super().on_headers_complete()
        self._stage, self._since, self._content = BODY, 0.0, 0
        cycle: Any = self.cycle
        self._upgrading = cycle is before
        if not self._upgrading:
            # The parser takes trailers for header fields, but they must not become any (RFC 9110, section 6.5.1).
            self.headers = []
            # The answer to a HEAD has no body that would let the head go.
            if self.scope["method"] != "HEAD":
                cycle.transport = OneWrite(self.transport)
            scope: dict[str, Any] = cycle.scope
            scope[EXTENSION] = Whole(cycle, self.transport, self._always)
            if not self._stranger.recognized:
                scope[RECOGNIZED] = self._recognized

    # What is below is called for each request, and does what uvicorn's own does with fewer calls.

    def on_body(self, body: bytes) -> None:
        self._content += len(body)
        cycle = self.cycle
        if not (self._upgrading or cycle.response_complete):
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._stage, self._since = WHOLE, 0.0
        cycle = self.cycle
        if self._upgrading:
            return
        if cycle.response_complete:
            self._be_idle()
        else:
            cycle.more_body = False
            cycle.message_event.set()

    # -- answers -------------------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving = cycle
        if self.flow.write_paused:  # the answer before is not read yet, and this one would wait where nobody counts it
            self._deferred = cycle, app
            return
        if cycle.scope["http_version"] not in _VERSIONS:
            app = unknown_version
        if self._stranger.on_trial:
            self._lasting, cycle.keep_alive = cycle.keep_alive, False
        task = self.loop.create_task(cycle.run_asgi(app), context=contextvars.Context())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _recognized(self) -> None:
        """The application knows who asks."""
        if self._stranger.on_trial and self._serving is not None:
            self._serving.keep_alive = self._lasting
        self._stranger.recognize()

    def on_response_complete(self) -> None:
        """The next request, or the last words, or a wait for what comes.

        uvicorn's own makes a timer for each answer; here one goes on from answer to answer.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._last_words is not None:
            self._close_with(self._last_words)
        elif self._stage is WHOLE:
            self._be_idle()
        elif self._stage is BODY:
            self._since = self.loop.time()
            self._watch.add(self)
        if self._unfed and not self.pipeline:
            self.loop.call_soon(self._feed_unfed)

    def _be_idle(self) -> None:
        self._stage = NONE
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self._may_be_idle())

    def _may_be_idle(self) -> float:
        known = self._stranger.recognized or self._stranger.trusted
        return self._watch.deadlines.idle if known else self._watch.deadlines.idle_unknown

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough; one that has not is looked at again."""
        self.timeout_keep_alive_task = None
        if self._stage is not NONE or self.transport.is_closing():
            return  # the answer to what came is what looks again
        left = self._idle_since + self._may_be_idle() - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            self.transport.close()

    # -- refusing ------------------------------------------------------------------------------------------------------

    def _refuse(self, error: BrokerError) -> None:
        """Answer with an error when its turn comes, and close. Nothing more is taken."""
        self._apart = self._deaf = True
        serving = self._serving
        own = self.cycle if self._stage is BODY else None
        if own is not None and own is serving:  # the application has it already
            self._tell_gone(own)
            self._close_with(b"" if own.response_started else answer(error))
        elif serving is None or serving.response_complete:
            self._close_with(answer(error))
        else:
            if own is not None:
                self.pipeline.popleft()
            self._last_words = answer(error)
            self.flow.hold()

    def _refuse_unless_gone(self, error: BrokerError) -> None:
        if not (self._deaf or self.transport.is_closing()):
            self._refuse(error)

    def _close_with(self, last_words: bytes) -> None:
        if last_words:
            self.transport.write(last_words)
        end(self.transport)

    # -- another protocol ----------------------------------------------------------------------------------------------

    def _upgrade(self, rest: bytes) -> None:
        """Become a WebSocket; an upgrade to anything else is not looked at (RFC 9110, section 7.8)."""
        if self._instead:
            self._read_again(rest)
        elif not self._should_upgrade():
            if rest:
                self._feed(rest)
            elif self._stage is not WHOLE:
                self._wait_for_rest(0)
        elif rest or self._unfed:
            self._refuse(Malformed("a client must not go on before it has the answer to an upgrade"))
        elif self._serving is not None and not self._serving.response_complete:
            self._refuse(Malformed("a WebSocket cannot be opened while an answer is due on this connection"))
        elif self.scope["http_version"] != "1.1":
            self._refuse(Malformed("a WebSocket is opened with HTTP/1.1"))
        else:
            self._unset_keepalive_if_required()
            self._watch.discard(self)
            self._reading.end()
            self.ws_protocol_class = partial(  # type: ignore[assignment]
                WebSocketProtocol, stranger=self._stranger, paused=self.flow.write_paused
            )
            self.handle_websocket_upgrade()

    def _read_again(self, rest: bytes) -> None:
        """Read the request without its wish: the parser would take its body for something else than HTTP."""
        head, self._instead = self._instead, b""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head)
        self._got = 0
        if rest and not self._deaf:
            self._feed(rest)

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch.add(self)
        self._reading.fall_behind(self.loop.time())

    def resume_writing(self) -> None:
        if not self._reading.goes_on():
            return
        super().resume_writing()
        if (deferred := self._deferred) is not None and not self.transport.is_closing():
            self._deferred = None
            self._start_asgi_task(*deferred)

    def look(self, now: float) -> float:
        """See `Watched`."""
        return min(self._reading.look(now), self._look_at_request(now))

    def _look_at_request(self, now: float) -> float:
        if not self._since or self._deaf or self.transport.is_closing():
            return bounds.NEVER
        if self.flow.read_paused or self.flow.held:  # it is not the client who lets wait
            self._since = now
        due = self._since + self._allowed()
        if now < due:
            return due
        self._too_late()
        return bounds.NEVER

    def _allowed(self) -> float:
        deadlines = self._watch.deadlines
        if self._fault is not None or self._stranger.on_trial:
            return deadlines.refused
        if self._stage is not BODY:
            return deadlines.head
        if self.cycle.response_complete:
            return deadlines.rest
        return deadlines.body + self._got / deadlines.rate

    def _too_late(self) -> None:
        if self._fault is not None:
            self._refuse(self._fault)
        elif self._stranger.on_trial:
            self._refuse(too_many_strangers())
        elif self._stage is NONE:  # it has asked for nothing
            self.transport.close()
        else:
            self._refuse(RequestTimeout("the request did not come in time; nothing of it was done"))
