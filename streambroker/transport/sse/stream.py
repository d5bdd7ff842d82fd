"""One open stream: where its reader stands on the tape, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Scope, Send

from streambroker.core.access import Action, Principal, require
from streambroker.core.errors import BrokerError
from streambroker.transport.problems import ALWAYS, Headers
from streambroker.transport.sse import wire
from streambroker.transport.sse.tape import Tape

CHUNK = 64 * 1024
"""Bytes that are handed to the transport at a time; it takes no more of them while so many wait for the client."""


def head(scope: Scope, headers: Headers) -> list[tuple[bytes, bytes]]:
    """The header fields of the answer. Proxies that look at the last but one hand each event on at once."""
    request_id = scope["streambroker.request_id"]
    own = ((b"content-type", wire.MEDIA_TYPE.encode()), (b"x-accel-buffering", b"no"), (b"x-request-id", request_id))
    return [*ALWAYS, *own, *headers]


class Asked(NamedTuple):
    """What a client wants to hear, after which event, and how often at least."""

    kinds: frozenset[str]
    last_event_id: str | None
    heartbeat_s: float


class EventStream:
    """An answer that goes on, and somebody who is here (`presence.Guest`).

    It keeps no events of its own: a reader that is slower than the queue falls behind on the tape until what it has
    not read is gone, and is told so. One that reads nothing at all for 10 s is cut off by the server.
    """

    def __init__(
        self,
        queue: str,
        principal: Principal,
        asked: Asked,
        clock: Callable[[], int],
        wall: Callable[[], int],
    ) -> None:
        self.queue = queue
        self.principal = principal
        self.news = asyncio.Event()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked = asked
        self._clock = clock
        self._wall = wall
        self._over = False
        self._reason: wire.EndReason | None = None
        self._last_call: wire.EndReason | None = None
        self._at = self._told = 0  # the event to read next, and the one that the client's last event id names
        self._heartbeat_at = 0.0

    # -- what ends it --------------------------------------------------------------------------------------------------

    def finish(self, reason: wire.EndReason) -> None:
        """Tell what has happened so far, then say why and end."""
        self._last_call = reason
        self.news.set()

    def end(self, reason: wire.EndReason | None) -> None:
        """Say why and end at once; None: without a word, the client is gone. The first one counts."""
        if not self._over:
            self._over, self._reason = True, reason
            self.news.set()

    def turned_out(self) -> None:
        """See `presence.Guest`."""
        self.end("unauthenticated")

    def recognized(self, principal: Principal) -> None:
        """See `presence.Guest`."""
        self.principal = principal
        try:
            require(principal, Action.VIEW, self.queue)
        except BrokerError:
            self.end("forbidden")

    # -- what it tells -------------------------------------------------------------------------------------------------

    async def follow(self, tape: Tape, scope: Scope, send: Send, headers: Headers) -> None:
        """Answer with what happens on the tape, until something ends it."""
        await send({"type": "http.response.start", "status": 200, "headers": head(scope, headers)})
        text = self._opening(tape)
        while text:
            self._heartbeat_at = asyncio.get_running_loop().time() + self._asked.heartbeat_s
            await send({"type": "http.response.body", "body": text, "more_body": True})
            text = await self._next(tape)
        last = b"" if self._reason is None else wire.end(self.queue, self._reason, self._clock())
        await send({"type": "http.response.body", "body": last, "more_body": False})

    def _opening(self, tape: Tape) -> bytes:
        """Find the place where to go on; what comes first."""
        position, text = self._asked.last_event_id, b""
        self._at = tape.next
        if position is not None and (after := tape.after(position)) is not None:
            self._at = after
        elif position is not None:
            self._at, text = tape.first, self._gap(tape, None)
        self._told = self._at - 1
        return text + wire.opening(tape.position(self._told))

    async def _next(self, tape: Tape) -> bytes:
        """What to send next: events, or a heartbeat; nothing where it is over."""
        while not self._over:
            if text := self._events(tape):
                return text
            if tape.dropped:
                self.finish("queue_deleted")
            if self._last_call is not None:
                self.end(self._last_call)
            elif not await self._news():
                return self._heartbeat(tape)
        return b""

    async def _news(self) -> bool:
        """Wait until there may be something new; False where the time for a heartbeat came first."""
        self.news.clear()
        at, ends = self._heartbeat_at, self.principal.expires_at_ms
        if ends is not None:
            now = asyncio.get_running_loop().time()
            left = max(ends - self._wall(), 0) / 1_000
            if left == 0:
                self.end("expired")
                return True
            at = min(at, now + left)
        try:
            async with asyncio.timeout_at(at):
                await self.news.wait()
        except TimeoutError:
            return at < self._heartbeat_at  # then it is the token's time that is over
        return True

    def _events(self, tape: Tape) -> bytes:
        """As many events as go out at a time."""
        parts: list[bytes] = []
        size = 0
        if self._at < tape.first:
            parts.append(self._gap(tape, tape.first - self._at))
            self._at, self._told = tape.first, tape.first - 1
        while self._at < tape.next and size < CHUNK:
            entry = tape.read(self._at)
            if entry.kind in self._asked.kinds:
                parts.append(entry.text)
                size += len(entry.text)
                self._told = self._at
            self._at += 1
        return b"".join(parts)

    def _heartbeat(self, tape: Tape) -> bytes:
        """A sign of life; and where the client stands, if things happened meanwhile that it does not want to hear."""
        passed, self._told = self._told < self._at - 1, self._at - 1
        return wire.HEARTBEAT + (wire.mark(tape.position(self._told)) if passed else b"")

    def _gap(self, tape: Tape, lost: int | None) -> bytes:
        return wire.gap(self.queue, lost, self._clock(), tape.position(tape.first - 1))
