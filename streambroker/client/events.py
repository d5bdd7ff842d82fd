"""What happens in a queue, live: the broker's stream of events, followed across lost connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

import httpx
import msgspec

from streambroker.client.errors import (
    ApiError,
    ConnectionLost,
    NotFound,
    ProblemDocument,
    ProtocolError,
    StreambrokerError,
    StreambrokerTimeout,
)
from streambroker.client.eventstream import EventStreamParser, ServerSentEvent
from streambroker.client.http import Http, segment
from streambroker.client.models import QueueEvent
from streambroker.client.retrying import RetryPolicy

SILENT_S = 60.0
"""A stream that sends nothing for so long, not even a heartbeat, is dead."""
END = "end"
"""The kind of the broker's last word on a stream, which says why it ends."""
_PATIENCE = RetryPolicy(base_s=0.5, most_s=15.0)
_decode = msgspec.json.Decoder(QueueEvent).decode


async def follow(
    http: Http,
    queue: str,
    *,
    kinds: Sequence[str] = (),
    last_event_id: str = "",
    silent_s: float = SILENT_S,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[QueueEvent, None]:
    """Events of a queue until you stop listening; `kinds` names those that you want, or all.

    It comes back by itself when the connection is lost, and goes on after the last event (`last_event_id` says after
    which to begin); where some were missed, an event `gap` says so. Raises what the broker refuses for good:
    `NotFound`, also when the queue is deleted, `Forbidden`, `Unauthenticated`.
    """
    parser, failures = EventStreamParser(last_event_id), 0
    while True:
        shown = await http.tokens.token()
        try:
            async for event in _connected(http, queue, kinds, parser, silent_s):
                failures = 0
                if event.event == END:
                    await _ended(http, event, shown)
                else:
                    yield event
            error: StreambrokerError = ConnectionLost("the broker ended the stream of events")
        except StreambrokerError as caught:
            if not _passes(caught):
                raise
            error = caught
        failures += 1
        asked_s = (parser.retry_ms or 0) / 1_000
        await sleep(max(asked_s, _PATIENCE.wait_s(failures, error, chance())))
        parser = EventStreamParser(parser.last_id, parser.retry_ms)


async def _ended(http: Http, event: QueueEvent, shown: str | None) -> None:
    """The broker says why it ends the stream. Raises `NotFound`; a token that is no longer good is renewed."""
    if event.reason == "queue_deleted":
        raise NotFound(ProblemDocument("not_found", 404, detail=f"the queue {event.queue} was deleted"))
    if event.reason in ("unauthenticated", "expired"):
        await http.tokens.renew(shown)


def _passes(error: StreambrokerError) -> bool:
    """Whether coming back can help."""
    if isinstance(error, ConnectionLost | StreambrokerTimeout):
        return True
    return isinstance(error, ApiError) and (error.retryable or error.status >= 500)


async def _connected(
    http: Http, queue: str, kinds: Sequence[str], parser: EventStreamParser, silent_s: float
) -> AsyncGenerator[QueueEvent, None]:
    """The events of one connection, until it ends."""
    headers = {"accept": "text/event-stream"}
    if parser.last_id:
        headers["last-event-id"] = parser.last_id
    query = {"events": ",".join(kinds) or None}
    async with http.stream(f"/queues/{segment(queue)}/events", query=query, headers=headers) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise ProtocolError("the broker does not answer with a stream of events; is it an older one?")
        chunks = response.aiter_bytes()
        while (chunk := await _next(chunks, silent_s)) is not None:
            for event in parser.feed(chunk):
                yield _made(event)


async def _next(chunks: AsyncIterator[bytes], silent_s: float) -> bytes | None:
    try:
        async with asyncio.timeout(silent_s):
            return await anext(chunks, None)
    except TimeoutError:
        raise ConnectionLost("the stream of events went silent") from None
    except httpx.TransportError as error:
        raise ConnectionLost(f"the stream of events broke: {error}") from error


def _made(event: ServerSentEvent) -> QueueEvent:
    """The event, with what its data tells; data that is of another kind is passed over."""
    try:
        found = _decode(event.data)
    except msgspec.MsgspecError:
        found = QueueEvent()
    return msgspec.structs.replace(found, event=event.event, id=event.id)
