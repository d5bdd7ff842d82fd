"""Events as text: ``text/event-stream`` of the HTML standard, section 9.2.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from streambroker.broker.events import QueueEvent
from streambroker.core.names import format_id
from streambroker.protocol.json import encode
from streambroker.protocol.times import rfc3339

MEDIA_TYPE = "text/event-stream"
RETRY_MS = 2_000
"""How long a browser waits before it comes back."""
HEARTBEAT = b": heartbeat\n"
"""A comment: no blank line follows, for some clients would make an empty event of it."""

EventKind = Literal["new_message", "message_processed", "message_failed", "message_requeued"]
KINDS: frozenset[str] = frozenset(get_args(EventKind))
"""What a stream tells of. That a message was delivered is not among it."""
EndReason = Literal["queue_deleted", "unauthenticated", "expired", "forbidden", "draining"]


class EventData(msgspec.Struct, frozen=True):
    """The `data` of an event: what happened to which message, and what it is in `queue` since."""

    message_id: str
    queue: str
    status: str
    attempt: int
    at: str


class GapData(msgspec.Struct, frozen=True):
    """The `data` of a `gap`: events were missed. `lost` is how many, of all kinds; null where nobody knows."""

    queue: str
    lost: int | None
    at: str


class EndData(msgspec.Struct, frozen=True):
    """The `data` of an `end`, after which nothing comes: why the broker ends the stream."""

    queue: str
    reason: EndReason
    at: str


EVENTS: Mapping[str, type[msgspec.Struct]] = {
    **dict.fromkeys(get_args(EventKind), EventData),
    "gap": GapData,
    "end": EndData,
}
"""Everything that a stream tells, with what its data is."""


def opening(position: str) -> bytes:
    """What a stream begins with: an id and no data, so that a client that is cut off before the first event can resume.

    A client that keeps to the standard dispatches no event for it.
    """
    return b"retry: %d\n%b" % (RETRY_MS, mark(position))


def mark(position: str) -> bytes:
    """Moves the client's last event id on; it is no event."""
    return b"id: %b\n\n" % position.encode()


def event(happened: QueueEvent, position: str) -> bytes:
    """One event of the queue."""
    data = EventData(
        format_id(happened.message_id), happened.queue, happened.status.value, happened.attempt, rfc3339(happened.at)
    )
    return _block(happened.event, position, data)


def gap(queue: str, lost: int | None, at: int, position: str) -> bytes:
    """Events were missed; `at` in milliseconds since 1970."""
    return _block("gap", position, GapData(queue, lost, rfc3339(at)))


def end(queue: str, reason: EndReason, at: int) -> bytes:
    """The last thing that is said. It has no id: what was told last is what to go on after."""
    return b"event: end\ndata: %b\n\n" % encode(EndData(queue, reason, rfc3339(at)))


def _block(name: str, position: str, data: msgspec.Struct) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), position.encode(), encode(data))
