"""What the broker answers, as types. Fields that are not known here are passed over, so a newer broker works.

Times are aware datetimes in UTC; durations are whole milliseconds, and their names end in `_ms`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Raw

# All types can be imported from here, wherever they stand.
from streambroker.client.model import Model as Model
from streambroker.client.people import ApiKey as ApiKey
from streambroker.client.people import Credential as Credential
from streambroker.client.people import Grant as Grant
from streambroker.client.people import Grants as Grants
from streambroker.client.people import Me as Me
from streambroker.client.people import NewApiKey as NewApiKey
from streambroker.client.people import Tokens as Tokens
from streambroker.client.people import User as User

T = TypeVar("T")

Scalar = str | int | float | bool | None
"""What a message's header may hold."""
Status = Literal["pending", "processing", "processed", "failed"]
PurgeStatus = Literal["pending", "failed", "processed", "all"]
Action = Literal["publish", "consume", "manage", "view"]

OCTETS = "application/octet-stream"
"""The media type of raw bytes of which nothing else is known."""
_NULL = Raw(b"null")


def json_value(text: bytes) -> Any:
    """The value of a JSON text; half a surrogate pair, which RFC 8259 §8.2 allows, comes through."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return json.loads(text)


class Page(Model, Generic[T], frozen=True):
    """A part of a list; `next_cursor` is None on the last page."""

    items: list[T]
    next_cursor: str | None = None


# ---- queues


class Backoff(Model, frozen=True):
    """How long a message that was nacked waits before it is tried again."""

    kind: str = "exponential"
    base_ms: int = 1_000
    factor: float = 2
    max_ms: int = 300_000
    jitter: bool = True


class QueueConfig(Model, frozen=True):
    """The configuration of a queue, with the broker's defaults; 0 is no limit."""

    lease_ms: int = 30_000
    max_attempts: int = 5
    backoff: Backoff = Backoff()
    dead_letter_queue: str | None = None
    message_ttl_ms: int = 0
    max_messages: int = 0
    overflow: str = "reject"
    retention_ms: int = 3_600_000
    dedup_window_ms: int = 86_400_000
    durability: str = "fsync"


class Counts(Model, frozen=True):
    """How many messages stand where; `delayed` is part of `pending`."""

    pending: int = 0
    delayed: int = 0
    processing: int = 0
    processed: int = 0
    failed: int = 0


class Rates(Model, frozen=True):
    """Per second, over the last minute."""

    published: float = 0
    delivered: float = 0
    settled: float = 0


class Queue(Model, frozen=True):
    """A queue. `consumers` counts subscriptions and parked polls."""

    name: str
    created_at: datetime
    paused: bool
    config: QueueConfig
    counts: Counts
    rates: Rates = Rates()
    oldest_pending_age_ms: int | None = None
    consumers: int = 0


# ---- messages


class DeadLetter(Model, frozen=True):
    """Where a dead letter came from; `reason` is `rejected`, `attempts` or `expired`."""

    queue: str
    reason: str
    error: str | None
    attempts: int
    at: datetime


class MessageInfo(Model, frozen=True):
    """A message as every door shows it. `lease` and `lease_expires_at` are there in a delivery only.

    The content comes byte for byte as it was published: `body`; `content` is its value.
    """

    message_id: str
    queue: str
    status: str
    raw_content: Raw = msgspec.field(default=_NULL, name="content")
    content_base64: str | None = None
    content_type: str = "application/json"
    headers: dict[str, Scalar] | None = None
    priority: int = 0
    attempt: int = 0
    max_attempts: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    available_at: datetime | None = None
    expires_at: datetime | None = None
    key: str | None = None
    dedup_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    traceparent: str | None = None
    error: str | None = None
    dead_letter: DeadLetter | None = None
    lease: str | None = None
    lease_expires_at: datetime | None = None

    @property
    def body(self) -> bytes:
        """The content's bytes as they were published: the JSON text, or the raw bytes."""
        if self.content_base64 is not None:
            return base64.b64decode(self.content_base64)
        return bytes(self.raw_content)

    @property
    def content(self) -> Any:
        """The content's value: what the JSON says, or `bytes` where the publisher sent raw bytes."""
        return self.body if self.content_base64 is not None else json_value(bytes(self.raw_content))


class Draft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message to publish. `content` is any value that is JSON, or `bytes`, which stay bytes.

    `available_at` needs a zone, and excludes `delay_ms`. None leaves a choice to the broker.
    """

    content: Any
    content_type: str | None = None
    priority: int | None = None
    delay_ms: int | None = None
    available_at: datetime | None = None
    ttl_ms: int | None = None
    key: str | None = None
    dedup_id: str | None = None
    headers: Mapping[str, Scalar] | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    max_attempts: int | None = None
    traceparent: str | None = None


def wire_draft(draft: Draft) -> dict[str, Any]:
    """A draft as JSON doors and frames take it, ready for `msgspec.json.encode`. Raw content goes as base64."""
    wire: dict[str, Any] = {}
    for name in draft.__struct_fields__:
        value = getattr(draft, name)
        if name == "content":
            if isinstance(value, bytes | bytearray | memoryview):
                wire["content_base64"] = base64.b64encode(value).decode()
                wire["content_type"] = OCTETS  # else the broker would take them for JSON
            else:
                wire["content"] = value
        elif value is not None:
            wire[name] = value
    return wire


class Published(Model, frozen=True):
    """The message is stored; `duplicate`: it was before, under this `dedup_id`. `durability` is `memory` or `fsync`."""

    message_id: str
    duplicate: bool = False
    durability: str = "fsync"


class PublishedBatch(Model, frozen=True):
    """The messages are stored; `duplicates` are indexes of those that were stored before."""

    message_ids: list[str]
    duplicates: list[int] = msgspec.field(default_factory=list)
    durability: str = "fsync"


class Settled(Model, frozen=True):
    """What a message is after a settle, and where: `queue` is the dead-letter queue if it was moved there."""

    message_id: str
    status: str
    queue: str = ""
    attempt: int = 0
    already_acked: bool = False
    already_nacked: bool = False
    available_at: datetime | None = None
    lease_expires_at: datetime | None = None


class SettleItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of many to settle: its id and lease. `requeue`, `delay_ms`, `reason` are a nack's, `lease_ms` an extend's."""

    message_id: str
    lease: str | None = None
    requeue: bool = False
    delay_ms: int | None = None
    reason: str | None = None
    lease_ms: int | None = None


class SettleResult(Model, frozen=True):
    """What became of one of many; `code` says why not, see `errors.from_code`."""

    message_id: str
    ok: bool
    code: str | None = None


class Moment(Model, frozen=True):
    """Something that happened to a message; `consumer` is the user that held the lease."""

    at: datetime
    event: str
    attempt: int
    consumer: str | None = None
    lease_expires_at: datetime | None = None
    error: str | None = None


# ---- the broker


class Consumer(Model, frozen=True):
    """Who takes messages. `kind` is websocket, long_poll, webhook or embedded; `sub` is None for a poll."""

    id: str
    kind: str
    user: str
    queue: str
    sub: str | None = None
    credit: int = 0
    in_flight: int = 0
    delivered_per_s: float = 0
    paused: bool = False
    address: str = ""
    since: datetime | None = None
    lease_mode: str = "session"


class QueueFigures(Model, frozen=True):
    """Counts of one queue."""

    pending: int = 0
    processing: int = 0
    processed: int = 0
    failed: int = 0


class Connections(Model, frozen=True):
    """Open connections by kind."""

    websocket: int = 0
    long_poll: int = 0
    sse: int = 0
    graphql: int = 0


class Stats(Model, frozen=True):
    """What the broker does; counts are of the queues that you may view."""

    pending: int = 0
    processing: int = 0
    failed: int = 0
    processed: int = 0
    total_requests: int = 0
    process_cpu_percent: float = 0
    process_memory_mb: float = 0
    uptime_seconds: float = 0
    requests_by_route: dict[str, int] = msgspec.field(default_factory=dict)
    requests_by_status: dict[str, int] = msgspec.field(default_factory=dict)
    connections: Connections = Connections()
    queues: dict[str, QueueFigures] = msgspec.field(default_factory=dict)


class LogFile(Model, frozen=True):
    """A log file of the broker; `size` in bytes."""

    name: str
    size: int
    modified_at: datetime


class QueueEvent(Model, frozen=True):
    """Something happened in a queue. `event` is the kind, `id` what to give as `last_event_id` to go on after it.

    A `gap` says that events were missed: `lost` of them, None where nobody knows how many.
    """

    event: str = ""
    message_id: str = ""
    queue: str = ""
    status: str = ""
    attempt: int = 0
    at: datetime | None = None
    id: str = ""
    lost: int | None = None
    reason: str = ""


class Webhook(Model, frozen=True):
    """A webhook of a queue. `reason` says why it does not run as it should, `username` whose rights it has.

    `secret` is there only where the broker has just made it.
    """

    id: str
    url: str
    queue: str = ""
    description: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    concurrency: int = 10
    timeout_ms: int = 10_000
    disable_after_ms: int = 86_400_000
    disabled: bool = False
    status: str = ""
    reason: str | None = None
    failing_since: datetime | None = None
    in_flight: int = 0
    username: str = ""
    previous_secret_until: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        return f"Webhook(id={self.id!r}, url={self.url!r})"  # as in `Tokens`


class WebhookDelivery(Model, frozen=True):
    """One request of a webhook. Without `status_code` no answer came; `response` is how its body began."""

    id: str
    kind: str = "message"
    at: datetime | None = None
    message_id: str | None = None
    attempt: int | None = None
    outcome: str = ""
    status_code: int | None = None
    latency_ms: int = 0
    error: str | None = None
    response: str | None = None


class Redelivered(Model, frozen=True):
    """`delivery` is what came of it; None where the message is in its queue again and will come from there."""

    message_id: str
    queued: bool
    delivery: WebhookDelivery | None = None
