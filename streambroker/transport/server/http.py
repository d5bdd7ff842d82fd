"""HTTP/1.1, with a bound on what a client may send and on how long it may take.

A request passes through four stages. What is timed is never the application: a long-poll may take as long as it likes.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from streambroker.core.errors import BrokerError, Malformed
from streambroker.transport.server.bounds import MAX_FIELDS, MAX_HEAD, MAX_TARGET, PORTION
from streambroker.transport.server.config import ServerConfig
from streambroker.transport.server.flow import Flow
from streambroker.transport.server.onewrite import OneWrite
from streambroker.transport.server.refusals import (
    HeadTooLarge,
    RequestTimeout,
    TargetTooLong,
    answer,
    too_many,
    whole_reply,
)
from streambroker.transport.server.watch import NEVER
from streambroker.transport.server.whole import EXTENSION, Whole
from streambroker.transport.tls import end

log = logging.getLogger(__name__)

REFUSED_AT_ONCE = 128
"""So many connections too many may wait for their request to be answered; more are answered before it comes."""
_FRAMING = 8
"""Bytes of chunk headers, extensions and trailers that a chunked body may have for each byte of content."""


_VERSIONS = frozenset({"1.1", "1.0"})


class _Stage(enum.Enum):
    """How much of the newest request has come."""

    NONE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    WHOLE = enum.auto()


_NONE, _HEAD, _BODY, _WHOLE = _Stage


class _Refused(Exception):
    """Stops the parser."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, bounded; its classes are not a public interface, so uvicorn is pinned to a minor.

    Answers stay in the order of the requests, also those to what is no request.
    """

    flow: Flow

    def __init__(self, config: ServerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._watch = config.watch
        self._always = b"".join(b"%b: %b\r\n" % field for field in config.encoded_headers)
        self._stage = _NONE
        self._since = 0.0  # when the wait for the rest of this stage began; 0: it has not
        self._got = 0  # bytes since then
        self._content = 0  # bytes of the body
        self._serving: RequestResponseCycle | None = None
        self._fault: BrokerError | None = None
        self._surplus = False  # one too many, that stays for its answer only
        self._upgrading = False
        self._apart = False  # what comes is not simply parsed
        self._deaf = False  # what comes is not taken any more
        self._unfed = bytearray()
        self._last_words: bytes | None = None
        self._stalled_since = 0.0
        self._unread = 0
        self._idle_since = 0.0

    # -- the connection ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._since = self.loop.time()
        watch = self._watch
        if len(self.connections) - watch.surplus > watch.most:
            watch.surplus += 1
            self._surplus = self._apart = True
            self._fault = too_many(watch.most)
            if watch.surplus > REFUSED_AT_ONCE:
                self._refuse(self._fault)
                return
        watch.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.discard(self)
        self._watch.surplus -= self._surplus
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
        if len(data) <= PORTION and not self._apart:
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
            if self._stage is not _WHOLE:
                self._wait_for_rest(len(data))

    def _feed_unfed(self) -> None:
        """Parse what has come, but no further than to the first request that has to wait for its turn."""
        while self._unfed and not self.pipeline and not self._deaf:
            data = bytes(self._unfed[:PORTION])
            del self._unfed[:PORTION]
            self._feed(data)
        if self._deaf:
            self._unfed.clear()
        elif self._unfed:
            self._apart = True
            self.flow.hold()
        elif self._apart:
            self._apart = False
            self.flow.release(read=self._stage is not _BODY or len(self.cycle.body) <= HIGH_WATER_LIMIT)

    def _wait_for_rest(self, size: int) -> None:
        """Something is still to come; refuse what has become too much already."""
        if not self._since:
            self._since, self._got = self.loop.time(), 0
            self._watch.add(self)
        self._got += size
        if self._stage is _BODY:
            if self._got - self._content > MAX_HEAD + _FRAMING * self._content:
                self._refuse(Malformed("a chunked body with far more framing than content"))
        elif self._stage is _HEAD and (fault := self._head_fault()) is not None:
            self._refuse(fault)

    def _head_fault(self) -> BrokerError | None:
        if len(self.url) > MAX_TARGET:
            return TargetTooLong(f"the path and query have more than {MAX_TARGET:,} bytes")
        if len(self.headers) > MAX_FIELDS:
            return HeadTooLarge(f"the request has more than {MAX_FIELDS} header fields")
        if self._since and self._got > MAX_HEAD:
            return HeadTooLarge(f"the head of the request has more than {MAX_HEAD:,} bytes")
        if self.parser.should_upgrade() and any(_announces_body(name, value) for name, value in self.headers):
            # The parser takes what follows an upgrade for something else, and would find a request in the body.
            return Malformed("a request that asks for an upgrade cannot have a body")
        return None

    # -- what the parser tells -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._stage = _HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        upgrade = self.parser.should_upgrade()
        if upgrade or self._since or len(self.headers) > MAX_FIELDS or len(self.url) > MAX_TARGET:
            self._fault = self._head_fault()
            if self._fault is not None:
                raise _Refused
        before: Any = self.cycle
        super().on_headers_complete()
        self._stage, self._since, self._content = _BODY, 0.0, 0
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
        self._stage, self._since = _WHOLE, 0.0
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
        if cycle.scope["http_version"] not in _VERSIONS:
            app = _unknown_version
        task = self.loop.create_task(cycle.run_asgi(app), context=contextvars.Context())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

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
        elif self._stage is _WHOLE:
            self._be_idle()
        elif self._stage is _BODY:
            self._since = self.loop.time()
            self._watch.add(self)
        if self._unfed and not self.pipeline:
            self.loop.call_soon(self._feed_unfed)

    def _be_idle(self) -> None:
        self._stage = _NONE
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough; one that has not is looked at again."""
        self.timeout_keep_alive_task = None
        if self._stage is not _NONE or self.transport.is_closing():
            return  # the answer to what came is what looks again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            self.transport.close()

    # -- refusing ------------------------------------------------------------------------------------------------------

    def _refuse(self, error: BrokerError) -> None:
        """Answer with an error when its turn comes, and close. Nothing more is taken."""
        self._apart = self._deaf = True
        serving = self._serving
        own = self.cycle if self._stage is _BODY else None
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

    def _close_with(self, last_words: bytes) -> None:
        if last_words:
            self.transport.write(last_words)
        end(self.transport)

    # -- another protocol ----------------------------------------------------------------------------------------------

    def _upgrade(self, rest: bytes) -> None:
        """Become a WebSocket; an upgrade to anything else is not looked at (RFC 9110, section 7.8)."""
        if not self._should_upgrade():
            if rest:
                self._feed(rest)
            elif self._stage is not _WHOLE:
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
            self.handle_websocket_upgrade()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_since, self._unread = self.loop.time(), self.transport.get_write_buffer_size()
        self._watch.add(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_since = 0.0

    def look(self, now: float) -> float:
        """See `Watched`."""
        return min(self._look_at_reading(now), self._look_at_request(now))

    def _look_at_reading(self, now: float) -> float:
        if not self._stalled_since:
            return NEVER
        unread = self.transport.get_write_buffer_size()
        if unread < self._unread:
            self._unread, self._stalled_since = unread, now
        due = self._stalled_since + self._watch.deadlines.unread
        if now < due:
            return due
        log.warning("a client read nothing of its answer for %s s and is cut off", self._watch.deadlines.unread)
        self.transport.abort()
        return NEVER

    def _look_at_request(self, now: float) -> float:
        if not self._since or self._deaf or self.transport.is_closing():
            return NEVER
        if self.flow.read_paused or self.flow.held:  # it is not the client who lets wait
            self._since = now
        due = self._since + self._allowed()
        if now < due:
            return due
        self._too_late()
        return NEVER

    def _allowed(self) -> float:
        deadlines = self._watch.deadlines
        if self._fault is not None:
            return deadlines.refused
        if self._stage is not _BODY:
            return deadlines.head
        if self.cycle.response_complete:
            return deadlines.rest
        return deadlines.body + self._got / deadlines.rate

    def _too_late(self) -> None:
        if self._fault is not None:
            self._refuse(self._fault)
        elif self._stage is _NONE:  # it has asked for nothing
            self.transport.close()
        else:
            self._refuse(RequestTimeout("the request did not come in time; nothing of it was done"))


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0") != b"")


async def _unknown_version(scope: Any, receive: Any, send: Any) -> None:
    refusal = whole_reply(Malformed("the request must be HTTP/1.1"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
    await send({"type": "http.response.body", "body": refusal.body})
