"""The bodies and answers of the REST door: the types that validate requests and describe the API."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from streambroker.core.names import QueueName
from streambroker.core.policy import LeaseMs, Milliseconds, QueueConfig
from streambroker.core.timeline import Mark
from streambroker.protocol.messages import MAX_BATCH, DraftIn, Label, MessageOut, Reason, StatusName

Wait = Annotated[int, msgspec.Meta(ge=0, le=60_000)]
Max = Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]
MessageFormat = Annotated[
    Literal["json", "cloudevents", "cloudevents-binary"],
    msgspec.Meta(description="As JSON, or as a CloudEvent in structured or binary mode. Left out, `Accept` decides."),
]
Limit = Annotated[int, msgspec.Meta(ge=1, le=500)]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=1_024, description="At most 1,024 bytes in UTF-8.")]
Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]


MomentName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": [mark.name.lower() for mark in Mark]})]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all request bodies: unknown members are refused."""


class Login(Body, frozen=True):
    """Who wants in."""

    username: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    password: Password


class Refresh(Body, frozen=True):
    """The refresh token of the last login or refresh."""

    refresh_token: Secret


class QueueIn(QueueConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A queue to create: its name, and what differs from the default configuration."""

    name: QueueName

    def config(self) -> QueueConfig:
        """The configuration without the name."""
        return QueueConfig(**{name: getattr(self, name) for name in QueueConfig.__struct_fields__})


class PurgeIn(Body, frozen=True):
    """What to purge; never what is processing."""

    status: Literal["pending", "failed", "processed", "all"] = "pending"


class RedriveIn(Body, frozen=True):
    """What to make ready again: the queue's own failed messages, or those in a dead-letter queue."""

    from_: QueueName = msgspec.field(default="failed", name="from")
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class PublishIn(DraftIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A message and the queue it goes to."""

    queue: QueueName


class BatchIn(Body, frozen=True):
    """Messages to store, all or none."""

    messages: Annotated[list[DraftIn], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class ConsumeQuery(Body, frozen=True):
    """How long to wait for one message, and for how long it is leased (default: the queue's `lease_ms`)."""

    wait_ms: Wait = 0
    lease_ms: LeaseMs | None = None
    format: MessageFormat | None = None


class LookQuery(Body, frozen=True):
    """As what the message is answered."""

    format: MessageFormat | None = None


class ConsumeIn(Body, frozen=True):
    """Up to `max` messages, waiting up to `wait_ms` for the first."""

    max: Max = 1
    wait_ms: Wait = 0
    lease_ms: LeaseMs | None = None


class ConsumeManyIn(ConsumeIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As `ConsumeIn`, of whichever of the queues has messages first."""

    queues: Annotated[list[QueueName], msgspec.Meta(min_length=1, max_length=100)]


class AckIn(Body, frozen=True):
    """The lease with which the message was delivered."""

    lease: Label | None = None


class NackIn(Body, frozen=True):
    """What went wrong, and whether to try again."""

    requeue: bool = False
    delay_ms: Milliseconds | None = None
    reason: Reason | None = None
    lease: Label | None = None


class ExtendIn(Body, frozen=True):
    """How long, from now, the lease shall last."""

    lease_ms: LeaseMs
    lease: Label | None = None


class AckItem(AckIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of many."""

    message_id: str


class NackItem(NackIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of many."""

    message_id: str


class ExtendItem(ExtendIn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of many."""

    message_id: str


class AcksIn(Body, frozen=True):
    """Each item is judged on its own."""

    items: Annotated[list[AckItem], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class NacksIn(Body, frozen=True):
    """Each item is judged on its own."""

    items: Annotated[list[NackItem], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class ExtendsIn(Body, frozen=True):
    """Each item is judged on its own."""

    items: Annotated[list[ExtendItem], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class BrowseQuery(Body, frozen=True):
    """Which messages to look at; `contains` is looked for in the content's bytes."""

    status: Literal["pending", "processing", "processed", "failed"] | UnsetType = UNSET
    key: Label | None = None
    contains: Label | None = None
    limit: Limit = 50
    cursor: str | None = None


class ListQuery(Body, frozen=True):
    """A page of a list."""

    limit: Limit = 50
    cursor: str | None = None


class NackQuery(Body, frozen=True):
    """The predecessor's way to say that a nack requeues."""

    requeue: bool = False


class ConnectQuery(Body, frozen=True):
    """The credit of the subscription that ``/queues/{queue}/ws`` makes by itself."""

    credit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100


class Published(msgspec.Struct):
    """The message is stored. `durability` stands there where the queue is not fsynced: ``memory``."""

    message_id: str
    status: StatusName
    duplicate: bool
    durability: str | UnsetType = UNSET


class BatchPublished(msgspec.Struct):
    """The messages are stored; `duplicates` are indexes of those that were stored before."""

    message_ids: list[str]
    duplicates: list[int]
    durability: str | UnsetType = UNSET


class Settled(msgspec.Struct):
    """What the message is now."""

    message_id: str
    status: StatusName
    queue: str
    attempt: int
    already_acked: bool | UnsetType = UNSET
    already_nacked: bool | UnsetType = UNSET
    available_at: str | UnsetType = UNSET
    lease_expires_at: str | UnsetType | None = UNSET


class Result(msgspec.Struct, omit_defaults=True):
    """What became of one item; `code` says why not."""

    message_id: str
    ok: bool = msgspec.field()
    code: str | None = None


class Results(msgspec.Struct):
    """One result for each item, in order."""

    results: list[Result]


class Counts(msgspec.Struct):
    """How many messages stand where; `delayed` is part of `pending`."""

    pending: int
    delayed: int
    processing: int
    processed: int
    failed: int


class RatesOut(msgspec.Struct):
    """Per second, over a minute."""

    published: float
    delivered: float
    settled: float


class QueueOut(msgspec.Struct):
    """A queue; `consumers` counts subscriptions and parked polls."""

    name: str
    created_at: str
    paused: bool
    config: QueueConfig
    counts: Counts
    rates: RatesOut
    oldest_pending_age_ms: int | None
    consumers: int


class QueueList(msgspec.Struct):
    """A page of queues."""

    items: list[QueueOut]
    next_cursor: str | None


class Messages(msgspec.Struct):
    """Messages that were delivered, each with its lease."""

    messages: list[MessageOut]


class MomentOut(msgspec.Struct):
    """Something that happened to a message. `consumer` is the user that held the lease."""

    at: str
    event: MomentName
    attempt: int
    consumer: str | None
    lease_expires_at: str | None
    error: str | None


class Timeline(msgspec.Struct):
    """What happened to a message, the oldest first."""

    items: list[MomentOut]


class MessagePage(msgspec.Struct):
    """A page of messages."""

    items: list[MessageOut]
    next_cursor: str | None


class Purged(msgspec.Struct):
    """How many were purged."""

    purged: int


class Redriven(msgspec.Struct):
    """How many are ready again."""

    redriven: int


class Deleted(msgspec.Struct):
    """It is gone."""

    message_id: str
    deleted: bool = True


class Health(msgspec.Struct):
    """How the broker is."""

    status: str
    reason: str | UnsetType = UNSET


class QueueStats(msgspec.Struct):
    """Counts of one queue."""

    pending: int
    processing: int
    processed: int
    failed: int


class Connections(msgspec.Struct):
    """Open connections by kind; `graphql` are its WebSockets."""

    websocket: int
    long_poll: int
    sse: int
    graphql: int


class Figures(msgspec.Struct):
    """What the broker does, all queues together."""

    pending: int
    processing: int
    failed: int
    processed: int
    total_requests: int
    process_cpu_percent: float
    process_memory_mb: float
    uptime_seconds: float
    requests_by_route: dict[str, int]
    requests_by_status: dict[str, int]
    connections: Connections


class Stats(Figures):
    """The same, and each queue."""

    queues: dict[str, QueueStats]
