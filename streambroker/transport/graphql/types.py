"""What GraphQL shows. The answers of REST are decoded into these types as they are; names are REST's in camel case."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec
import strawberry
from msgspec import Raw

from streambroker.transport.graphql.request import Request
from streambroker.transport.graphql.scalars import Json, Long, Time

Info: TypeAlias = strawberry.Info[Request, None]


@strawberry.enum(description="Where a message stands.")
class MessageStatus(Enum):
    pending = "pending"
    processing = "processing"
    processed = "processed"
    failed = "failed"


@strawberry.enum(description="What a purge empties; never what is processing.")
class Purgeable(Enum):
    pending = "pending"
    failed = "failed"
    processed = "processed"
    all = "all"


@strawberry.enum(description="How the waits between retries grow.")
class BackoffKind(Enum):
    exponential = "exponential"
    fixed = "fixed"


@strawberry.enum(description="What becomes of a message that is one too many.")
class Overflow(Enum):
    reject = "reject"
    drop_oldest = "drop_oldest"


@strawberry.enum(description="Whether a publish is answered when it is on the disk, or before.")
class Durability(Enum):
    fsync = "fsync"
    memory = "memory"


@strawberry.enum(description="What happened to a message.")
class QueueEventName(Enum):
    new_message = "new_message"
    message_processed = "message_processed"
    message_failed = "message_failed"
    message_requeued = "message_requeued"


@strawberry.type(description="How long a message that was nacked waits before it is tried again.")
class BackoffGQL:
    kind: BackoffKind
    base_ms: Long
    factor: float
    max_ms: Long
    jitter: bool


@strawberry.type(description="The configuration of a queue; 0 means no limit.")
class QueueConfigGQL:
    lease_ms: Long
    max_attempts: int
    backoff: BackoffGQL
    dead_letter_queue: str | None
    message_ttl_ms: Long
    max_messages: Long
    overflow: Overflow
    retention_ms: Long
    dedup_window_ms: Long
    durability: Durability


@strawberry.type(description="How many messages stand where; `delayed` is part of `pending`.")
class CountsGQL:
    pending: Long
    delayed: Long
    processing: Long
    processed: Long
    failed: Long


@strawberry.type(description="Messages per second, over a minute.")
class RatesGQL:
    published: float
    delivered: float
    settled: float


@strawberry.type(description="A queue; `consumers` counts subscriptions and parked polls.")
class QueueGQL:
    name: str
    created_at: Time
    paused: bool
    config: QueueConfigGQL
    counts: CountsGQL
    rates: RatesGQL
    oldest_pending_age_ms: Long | None
    consumers: int


@strawberry.type(description="A page of queues; `nextCursor` is null on the last one.")
class QueuePage:
    items: list[QueueGQL]
    next_cursor: str | None


@strawberry.type(description="Where a dead letter came from.")
class DeadLetterGQL:
    queue: str
    reason: str
    error: str | None
    attempts: int
    at: Time


def _content(root: MessageGQL, info: Info) -> Json | None:
    return None if root.content_base64 is not None else Json(_spent(root.content, info))


def _content_text(root: MessageGQL, info: Info) -> str | None:
    return None if root.content_base64 is not None else bytes(_spent(root.content, info)).decode()


def _content_base64(root: MessageGQL, info: Info) -> str | None:
    info.context.spend(len(root.content_base64 or ""))
    return root.content_base64


def _spent(content: Raw, info: Info) -> Raw:
    """The content, which may be asked for under several names."""
    info.context.spend(len(bytes(content)))
    return content


@strawberry.type(description="A message. `lease` and `leaseExpiresAt` stand there when it was just delivered.")
class MessageGQL:
    content: strawberry.Private[Raw]
    message_id: strawberry.ID
    queue: str
    status: MessageStatus
    content_type: str
    headers: Json
    priority: int
    attempt: int
    max_attempts: int
    created_at: Time
    updated_at: Time
    available_at: Time
    expires_at: Time | None
    key: str | None
    dedup_id: str | None
    correlation_id: str | None
    reply_to: str | None
    traceparent: str | None
    error: str | None
    content_base64: strawberry.Private[str | None] = None
    dead_letter: DeadLetterGQL | None = None
    lease: str | None = None
    lease_expires_at: Time | None = None
    content_json: Json | None = strawberry.field(
        resolver=_content, name="content", description="The content as it was published; null where it is bytes."
    )
    content_bytes: str | None = strawberry.field(
        resolver=_content_base64,
        name="contentBase64",
        description="The content where it is bytes and not JSON (RFC 4648 §4).",
    )
    content_text: str | None = strawberry.field(
        resolver=_content_text,
        description="The same as a string, for clients whose JSON reader would change its numbers.",
    )


@strawberry.type(description="A page of messages; `nextCursor` is null on the last one.")
class MessagePage:
    items: list[MessageGQL]
    next_cursor: str | None


@strawberry.type(description="Something that happened to a message; `consumer` is the user that held it.")
class MomentGQL:
    at: Time
    event: str
    attempt: int
    consumer: str | None
    lease_expires_at: Time | None
    error: str | None


@strawberry.type(description="What happened to a message, the oldest first.")
class TimelineGQL:
    items: list[MomentGQL]


@strawberry.type(description="The message is stored; `duplicate`: it was before, under this id.")
class PublishedGQL:
    message_id: strawberry.ID
    status: MessageStatus
    duplicate: bool
    durability: Durability = Durability.fsync


@strawberry.type(description="The messages are stored; `duplicates` are indexes of those that were before.")
class BatchPublishedGQL:
    message_ids: list[strawberry.ID]
    duplicates: list[int]
    durability: Durability = Durability.fsync


@strawberry.type(description="What the message is now.")
class SettledGQL:
    message_id: strawberry.ID
    status: MessageStatus
    queue: str
    attempt: int
    already_acked: bool = False
    already_nacked: bool = False
    available_at: Time | None = None
    lease_expires_at: Time | None = None


@strawberry.type(description="How many messages of a queue stand where.")
class QueueStatsGQL:
    name: str
    pending: Long
    processing: Long
    processed: Long
    failed: Long


@strawberry.type(description="Open connections by kind.")
class ConnectionsGQL:
    websocket: int
    long_poll: int
    sse: int
    graphql: int


class _QueueCounts(msgspec.Struct):
    pending: Long
    processing: Long
    processed: Long
    failed: Long


def _each_queue(root: StatsGQL) -> list[QueueStatsGQL]:
    return [QueueStatsGQL(name=name, **msgspec.structs.asdict(counts)) for name, counts in root.queues.items()]


@strawberry.type(description="What the broker does, as far as you may see; the maps are by route and by status.")
class StatsGQL:
    queues: strawberry.Private[dict[str, _QueueCounts]]
    pending: Long
    processing: Long
    failed: Long
    processed: Long
    total_requests: Long
    process_cpu_percent: float
    process_memory_mb: float
    uptime_seconds: float
    requests_by_route: Json
    requests_by_status: Json
    connections: ConnectionsGQL
    queue_list: list[QueueStatsGQL] = strawberry.field(resolver=_each_queue, name="queues")


@strawberry.type(description="Something happened to a message of the queue; `dropped` events before it were left out.")
class EventGQL:
    event: QueueEventName
    message_id: strawberry.ID
    queue: str
    status: MessageStatus
    attempt: int
    at: Time
    dropped: int = strawberry.field(description="More than zero where you read slower than things happen.")
