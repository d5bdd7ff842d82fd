"""The frames of the dashboard's feed, ``streambroker.dashboard.v1+json``: one JSON object each.

`hello`, `refresh` and `ping`, and their answers, are those of the broker's other WebSocket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from streambroker.broker.events import QueueEvent
from streambroker.core.access import Principal
from streambroker.core.names import QueueName, format_id
from streambroker.protocol import frames
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.times import rfc3339
from streambroker.transport.roster import Consumer
from streambroker.transport.schemas import Figures

SUBPROTOCOL = "streambroker.dashboard.v1+json"

Topic = Literal["queues", "consumers"]

Refusing = Literal["disk", "quota", "draining"]
"""Why publishes are refused: the disk is full, `max_stored_bytes` is used up, or the broker is about to stop."""


class Watch(frames.Frame, frozen=True, tag="watch", kw_only=True):
    """What I want to see from now on, in place of what it was: topics, and the events of one queue."""

    topics: Annotated[list[Topic], msgspec.Meta(max_length=2)] = msgspec.field(default_factory=list)
    events: QueueName | None = None


ClientFrame = frames.Hello | Watch | frames.Refresh | frames.Ping
client_frame = JsonDecoder[ClientFrame](ClientFrame)


class _User(msgspec.Struct):
    username: str
    role: str


class _Welcome(msgspec.Struct, tag_field="op", tag="welcome"):
    user: _User
    may_view_all: bool
    interval_ms: int
    expires_in: int | None


class PercentilesOut(msgspec.Struct):
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


class Point(msgspec.Struct):
    """One interval that ended `at`.

    `requests` counts those of the interval; `published`, `delivered` and `settled` are per second; the four counts are
    how many messages stood where at its end. Who may not view all queues gets of the process as little as from
    `GET /stats`: `requests`, `cpu_percent` and `memory_mb` are 0. The percentiles are null then, and where there was
    nothing to measure.
    """

    at: str
    requests: int
    published: float
    delivered: float
    settled: float
    pending: int
    processing: int
    failed: int
    processed: int
    cpu_percent: float
    memory_mb: float
    delivery_ms: PercentilesOut | None
    publish_ms: PercentilesOut | None


class QueueLine(msgspec.Struct):
    """A queue as the table shows it. Rates are per second over a minute; `spark` are its last depths, oldest first."""

    name: str
    paused: bool
    pending: int
    delayed: int
    processing: int
    processed: int
    failed: int
    oldest_pending_age_ms: int | None
    consumers: int
    published: float
    delivered: float
    settled: float
    spark: list[int]


class _Consumers(msgspec.Struct, tag_field="op", tag="consumers"):
    items: list[Consumer]


class _Event(msgspec.Struct):
    event: str
    message_id: str
    queue: str
    status: str
    attempt: int
    at: str


def welcome(user: Principal, may_view_all: bool, interval_ms: int, expires_in: int | None) -> bytes:
    """Who you are; the first frame, and again when your rights changed. `expires_in` in seconds, null for never."""
    return encode(_Welcome(_User(user.username, user.role), may_view_all, interval_ms, expires_in))


def history(points: Iterable[bytes]) -> bytes:
    """The last points, oldest first."""
    return b'{"op":"history","points":[%b]}' % b",".join(points)


def tick(made_point: bytes, figures: Figures, refusing: Refusing | None) -> bytes:
    """The latest point, the figures of now, and why publishes are refused, null where they are not."""
    return b'{"op":"tick","point":%b,"stats":%b,"refusing":%b}' % (made_point, encode(figures), encode(refusing))


def queues(lines: Iterable[bytes], removed: Sequence[str]) -> bytes:
    """Queues that are new or have changed, and the names of those that are gone."""
    return b'{"op":"queues","items":[%b],"removed":%b}' % (b",".join(lines), encode(removed))


def consumers(items: list[Consumer]) -> bytes:
    """All of them."""
    return encode(_Consumers(items))


def event(of: QueueEvent) -> bytes:
    """One thing that happened."""
    return encode(_Event(of.event, format_id(of.message_id), of.queue, of.status, of.attempt, rfc3339(of.at)))


def events(queue: str, items: bytes, dropped: int) -> bytes:
    """What happened in the queue: `items` are events with commas between them, `dropped` counts those left out."""
    return b'{"op":"events","queue":%b,"items":[%b],"dropped":%d}' % (encode(queue), items, dropped)
