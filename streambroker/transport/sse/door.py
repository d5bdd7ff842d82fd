"""Who watches a queue, and how they come in: `GET /queues/{queue}/events`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
from starlette.types import Scope, Send

from streambroker.broker.broker import Broker
from streambroker.core.access import Action
from streambroker.core.errors import Draining, invalid
from streambroker.transport.http import Call, Endpoint, Streaming
from streambroker.transport.presence import Presence
from streambroker.transport.problems import Headers
from streambroker.transport.resource import Counters
from streambroker.transport.sse import wire
from streambroker.transport.sse.stream import Asked, EventStream, head
from streambroker.transport.sse.tape import Tape, Tapes

_CLOSE_S = 3.0
"""How long the streams have to say their last words."""
_LAST_EVENT_ID = b"last-event-id"
_KIND = f"(?:{'|'.join(sorted(wire.KINDS))})"


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events to tell (default: all), after which one to go on, and how often there is a sign of life at least."""

    events: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{_KIND}(?:,{_KIND})*$"})] | None = None
    last_event_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=1_000, le=60_000)] = 15_000


class EventsDoor:
    """Handlers over one broker. Owns the streams that are open, and what they read."""

    def __init__(self, broker: Broker, presence: Presence, counters: Counters, wall: Callable[[], int]) -> None:
        self.tapes = Tapes(broker.events)
        self.open: set[EventStream] = set()
        self._broker = broker
        self._presence = presence
        self._counters = counters
        self._wall = wall

    async def events(self, call: Call) -> Streaming:
        """What happens in a queue from now on, as server-sent events; or from where the client was cut off.

        Each event has an id, which as `Last-Event-ID` (or `last_event_id`) resumes after it, as long as the events
        since are kept; where they are not, the stream begins with a `gap`.
        """
        name = call.queue(Action.VIEW)
        self._broker.queue(name)  # watching is no use, and so it creates none
        asked = _asked(call)
        if self._broker.draining:
            raise Draining("the broker is stopping; come back in a moment", retry_after_ms=1_000)
        if call.scope["method"] == "HEAD":
            return _Head()
        stream = EventStream(name, call.user, asked, self._broker.clock, self._wall)
        self._presence.enter(stream)
        return _Open(self, call, stream)

    def entered(self, stream: EventStream) -> Tape:
        """A stream begins; what it reads."""
        self.open.add(stream)
        self._counters.streams += 1
        return self.tapes.begin(stream.queue, stream.news, stream.principal.username)

    def left(self, stream: EventStream, tape: Tape) -> None:
        """It has ended."""
        self.tapes.end(tape, stream.news)
        self._counters.streams -= 1
        self.open.discard(stream)
        self._presence.leave(stream)
        stream.ended.set_result(None)

    async def close_all(self) -> None:
        """End every stream, since the broker stops."""
        leaving = list(self.open)
        for stream in leaving:
            stream.finish("draining")
        if leaving:
            await asyncio.wait([stream.ended for stream in leaving], timeout=_CLOSE_S)
        self.tapes.close()

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        return [
            Endpoint(
                "GET",
                "/queues/{queue}/events",
                self.events,
                "Watch a queue",
                answers={200: str},
                query=EventsQuery,
                codes=("draining",),
                media=wire.MEDIA_TYPE,
                events=wire.EVENTS,
                answer_headers={"X-Accel-Buffering": "`no`: a proxy passes each event on at once."},
                headers={"Last-Event-ID": "The id of the last event that came: the stream goes on after it."},
            )
        ]


class _Open:
    """The answer to a client that has come in."""

    status = 200

    def __init__(self, door: EventsDoor, call: Call, stream: EventStream) -> None:
        self._door = door
        self._call = call
        self._stream = stream
        self._tape = door.entered(stream)

    async def answer(self, scope: Scope, send: Send, headers: Headers) -> None:
        """See `Streaming`."""
        gone = asyncio.ensure_future(self._call.gone())
        gone.add_done_callback(lambda _: self._stream.end(None))
        try:
            await self._stream.follow(self._tape, scope, send, headers)
        finally:
            gone.cancel()
            self._door.left(self._stream, self._tape)


class _Head:
    """The head of such an answer."""

    status = 200

    async def answer(self, scope: Scope, send: Send, headers: Headers) -> None:
        """See `Streaming`."""
        await send({"type": "http.response.start", "status": self.status, "headers": head(scope, headers)})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _asked(call: Call) -> Asked:
    """Raises `Invalid`. The header is newer than what the URL says, where there are both."""
    query = call.options(EventsQuery)
    kinds = wire.KINDS if query.events is None else frozenset(query.events.split(","))
    if unknown := kinds - wire.KINDS:
        raise invalid("/events", f"{min(unknown)!r} is no kind of event; there are {', '.join(sorted(wire.KINDS))}")
    return Asked(kinds, call.header(_LAST_EVENT_ID) or query.last_event_id or None, query.heartbeat_ms / 1_000)
