"""Examples of what the API takes and answers, for its descriptions: each request would be accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streambroker.core.policy import QueueConfig, QueueConfigChange
from streambroker.protocol.messages import DraftIn, MessageOut
from streambroker.transport import schemas, user_schemas
from streambroker.transport.auth.service import TokenPair
from streambroker.transport.webhooks import schemas as webhook_schemas

_MESSAGE_ID = "0199d3a4e7c00000"
_LEASE = "Hq3vT0b1m8YxWc2k"
REQUEST_ID = "order-4711"
_DRAFT = {"content": {"order": 42, "total": "19.90"}, "key": "customer-7", "priority": 5}

IN_PATH: Mapping[str, str] = {
    "queue": "orders",
    "message_id": _MESSAGE_ID,
    "username": "worker-1",
    "key_id": "0199d3a4e7c01f2e3d4c5b6a",
    "filename": "streambroker.log",
    "consumer_id": "5b6a1f2e000000002a",
    "webhook_id": "0199d3a4e7c0112233445566",
    "delivery_id": "0199d3a4e7c000000000002a",
}
"""By the parameter's name."""

BODIES: Mapping[Any, Any] = {
    schemas.Login: {"username": "admin", "password": "correct-horse-battery-staple"},
    schemas.Refresh: {"refresh_token": "sbr_3vT0b1m8YxWc2kHq3vT0b1m8YxWc2kHq3vT0b1m8YxW"},
    schemas.QueueIn: {"name": "orders", "lease_ms": 60_000, "dead_letter_queue": "orders.dead"},
    QueueConfigChange: {"max_attempts": 10, "backoff": {"kind": "fixed", "base_ms": 5_000}},
    schemas.PurgeIn: {"status": "failed"},
    schemas.RedriveIn: {"from": "orders.dead", "limit": 100},
    DraftIn: _DRAFT,
    schemas.PublishIn: {"queue": "orders", **_DRAFT},
    schemas.BatchIn: {"messages": [_DRAFT, {"content_base64": "AAEC", "content_type": "application/octet-stream"}]},
    schemas.ConsumeIn: {"max": 10, "wait_ms": 500, "lease_ms": 60_000},
    schemas.ConsumeManyIn: {"queues": ["orders", "refunds"], "max": 10, "wait_ms": 500},
    schemas.AckIn: {"lease": _LEASE},
    schemas.NackIn: {"requeue": True, "delay_ms": 5_000, "reason": "the shop did not answer", "lease": _LEASE},
    schemas.ExtendIn: {"lease_ms": 60_000, "lease": _LEASE},
    schemas.AcksIn: {"items": [{"message_id": _MESSAGE_ID, "lease": _LEASE}]},
    schemas.NacksIn: {"items": [{"message_id": _MESSAGE_ID, "lease": _LEASE, "requeue": True}]},
    schemas.ExtendsIn: {"items": [{"message_id": _MESSAGE_ID, "lease": _LEASE, "lease_ms": 60_000}]},
    user_schemas.UserIn: {
        "username": "worker-1",
        "password": "correct-horse-battery-staple",
        "role": "member",
        "grants": [{"queues": "orders*", "actions": ["consume", "view"]}],
    },
    user_schemas.UserChange: {"grants": [{"queues": "orders", "actions": ["consume"]}], "disabled": False},
    user_schemas.PasswordChange: {
        "current_password": "tr0ubador-and-three",
        "new_password": "a-better-one-than-before",
    },
    webhook_schemas.WebhookIn: {
        "url": "https://shop.example.com/hooks/orders",
        "description": "orders for the shop",
        "concurrency": 4,
    },
    webhook_schemas.WebhookChange: {"rotate_secret": True, "secret_overlap_ms": 3_600_000},
    user_schemas.ApiKeyIn: {"name": "worker 1", "grants": [{"queues": "orders", "actions": ["publish"]}]},
}
"""By the type that validates the body."""

_TIME = "2026-11-22T10:13:00.123Z"
_MESSAGE: Mapping[str, Any] = {
    "message_id": _MESSAGE_ID,
    "queue": "orders",
    "status": "pending",
    "content": {"order": 42, "total": "19.90"},
    "content_type": "application/json",
    "headers": {"shop": "berlin"},
    "priority": 5,
    "attempt": 0,
    "max_attempts": 5,
    "created_at": _TIME,
    "updated_at": _TIME,
    "available_at": _TIME,
    "expires_at": None,
    "key": "customer-7",
    "dedup_id": "order-42",
    "correlation_id": None,
    "reply_to": None,
    "traceparent": None,
    "error": None,
}
_DELIVERED = {
    **_MESSAGE,
    "status": "processing",
    "attempt": 1,
    "lease": _LEASE,
    "lease_expires_at": "2026-11-22T10:13:30.123Z",
}
_QUEUE: Mapping[str, Any] = {
    "name": "orders",
    "created_at": _TIME,
    "paused": False,
    "config": msgspec.to_builtins(QueueConfig(dead_letter_queue="orders.dead")),
    "counts": {"pending": 12, "delayed": 2, "processing": 3, "processed": 480, "failed": 1},
    "rates": {"published": 8.2, "delivered": 8.0, "settled": 7.9},
    "oldest_pending_age_ms": 1_250,
    "consumers": 2,
}
_MOMENTS = [
    {"at": _TIME, "event": "published", "attempt": 0, "consumer": None, "lease_expires_at": None, "error": None},
    {
        "at": "2026-11-22T10:13:00.140Z",
        "event": "delivered",
        "attempt": 1,
        "consumer": "worker-1",
        "lease_expires_at": "2026-11-22T10:13:30.140Z",
        "error": None,
    },
]

ANSWERS: Mapping[Any, Any] = {
    MessageOut: _MESSAGE,
    "GET /queues/{queue}/messages/consume": _DELIVERED,
    schemas.Messages: {"messages": [_DELIVERED]},
    schemas.Published: {"message_id": _MESSAGE_ID, "status": "pending", "duplicate": False},
    (schemas.Published, 200): {"message_id": _MESSAGE_ID, "status": "pending", "duplicate": True},
    schemas.BatchPublished: {"message_ids": [_MESSAGE_ID, "0199d3a4e7c00001"], "duplicates": []},
    (schemas.BatchPublished, 200): {"message_ids": [_MESSAGE_ID, "0199d3a4e7c00001"], "duplicates": [0, 1]},
    schemas.Settled: {"message_id": _MESSAGE_ID, "status": "processed", "queue": "orders", "attempt": 1},
    "POST /messages/{message_id}/nack": {
        "message_id": _MESSAGE_ID,
        "status": "pending",
        "queue": "orders",
        "attempt": 1,
        "available_at": "2026-11-22T10:13:05.123Z",
    },
    "POST /messages/{message_id}/extend": {
        "message_id": _MESSAGE_ID,
        "status": "processing",
        "queue": "orders",
        "attempt": 1,
        "lease_expires_at": "2026-11-22T10:14:00.123Z",
    },
    schemas.Results: {
        "results": [
            {"message_id": _MESSAGE_ID, "ok": True},
            {"message_id": "0199d3a4e7c00001", "ok": False, "code": "lease_lost"},
        ]
    },
    schemas.QueueOut: _QUEUE,
    schemas.Timeline: {"items": _MOMENTS},
    TokenPair: {
        "access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl",
        "refresh_token": "sbr_3vT0b1m8YxWc2kHq3vT0b1m8YxWc2kHq3vT0b1m8YxW",
        "expires_in": 900,
        "token_type": "bearer",
    },
    "GET /openapi.json": {"openapi": "3.1.0", "info": {"title": "streambroker", "version": "1.0.0"}, "paths": {}},
    "GET /asyncapi.json": {"asyncapi": "3.0.0", "info": {"title": "streambroker", "version": "1.0.0"}},
    "GET /queues/{queue}/events event": {
        "id": "6921a0f4c0de-17",
        "event": "message_processed",
        "data": '{"message_id":"0199d3a4e7c00000","queue":"orders","status":"processed","attempt":1,'
        '"at":"2026-11-22T10:13:00.123Z"}',
    },
    "GET /healthz": {"status": "alive"},
    "GET /readyz": {"status": "ready"},
}
"""By the type that makes the answer, by that and the status, or by the operation. The rest is made from `FIELDS`."""

FIELDS: Mapping[str, Any] = {
    "message_id": _MESSAGE_ID,
    "queue": "orders",
    "username": "worker-1",
    "key_id": "0199d3a4e7c01f2e3d4c5b6a",
    "name": "orders",
    "next_cursor": None,
    "grants": [{"queues": "orders*", "actions": ["consume", "view"]}],
    "key": "sbk_0199d3a4e7c01f2e3d4c5b6a_3vT0b1m8YxWc2kHq3vT0b1m8YxWc2kHq",
    "url": "https://example.com/hooks/orders",
    "requests_by_route": {"POST /queues/{queue}/messages": 1_204},
    "requests_by_status": {"201": 1_204},
    "queues": {"orders": {"pending": 12, "processing": 3, "processed": 480, "failed": 1}},
    "deleted": True,
    "error": None,
}
"""Values by the name of the member that has them."""

TEXTS: Mapping[str, str] = {
    "GET /metrics": "# HELP streambroker_queue_messages Messages of a queue.\n"
    "# TYPE streambroker_queue_messages gauge\n"
    'streambroker_queue_messages{queue="orders",state="ready"} 12.0\n',
    "GET /logs/{filename}": '{"event":"listening","level":"info","timestamp":"2026-11-22T10:13:00.123Z"}\n',
}
"""Answers that are no JSON, by the operation."""

IN_QUERY: Mapping[str, str] = {
    "limit": "How many there are at most on a page.",
    "cursor": "Where the page begins: the `next_cursor` of the page before.",
    "wait_ms": "How long to wait for a message where none is ready; 0 does not wait.",
    "lease_ms": "How long the message is leased. Without it, the queue's `lease_ms`.",
    "status": "Only messages of this status.",
    "key": "Only messages with this key.",
    "contains": "Only messages whose content has these bytes in it, read as UTF-8.",
    "requeue": "As `requeue` in the body; either makes it a requeue.",
    "tail": "How many of the last lines. Without it all, though at most the last 16 MiB.",
    "queue": "Only what belongs to this queue.",
    "events": "Only these kinds of events, separated by commas. Without it all.",
    "last_event_id": "As the header `Last-Event-ID`, for clients that cannot send it the first time.",
    "heartbeat_ms": "How often there is a sign of life, where nothing happens.",
    "format": "In which form the message comes; without it, as `Accept` says.",
}
"""What parameters of a query say, by their names."""

PATH_PARAMETERS: Mapping[str, str] = {
    "queue": "The queue's name: 1 to 128 of A-Z a-z 0-9 . _ - and the first a letter or digit.",
    "message_id": "The message's id, as a publish answered it.",
    "username": "The user's name.",
    "key_id": "The API key's id; not the key itself.",
    "filename": "A file of the listing, `GET /logs`.",
    "consumer_id": "The consumer's id, as `GET /consumers` lists it.",
    "webhook_id": "The webhook's id, as its creation answered it.",
    "delivery_id": "A delivery of the log, or the id of a message that is in it.",
}
"""What parts of a path say, by their names."""

DETAILS: Mapping[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "Internal": ("the broker failed at this; its log says why, under this request's id", ()),
    "Malformed": ("the body is empty; this call takes a JSON object", ()),
    "Unauthenticated": ("log in first: POST /login, then send Authorization: Bearer <access token>", ()),
    "Forbidden": ("your grants on 'orders' do not include manage", ()),
    "NotFound": ("there is no such message", ()),
    "MethodNotAllowed": ("PUT is not for this path; it takes GET, HEAD", ()),
    "Conflict": ("there is a queue of that name with another configuration", ()),
    "NotProcessing": ("nobody is processing the message; give the lease you were delivered it with", ()),
    "LeaseLost": ("the lease is not the message's newest one, or is another user's", ()),
    "AlreadySettled": ("the lease was used already, for another verdict", ()),
    "RefreshRaced": ("another refresh with this token won at the same moment; use its answer", ()),
    "RequestTimeout": ("the request did not come to its end in time", ()),
    "TargetTooLong": ("the path and query are longer than is taken", ()),
    "HeadTooLarge": ("the head of the request is larger than is taken", ()),
    "TooLarge": ("content has 1,048,577 bytes; at most 1,048,576 are taken", ()),
    "UnsupportedMediaType": ("Content-Type text/csv is not taken here; send application/json", ()),
    "Invalid": ("/priority: Expected `int` <= 9", [("/priority", "Expected `int` <= 9")]),
    "RateLimited": ("more requests than the limit allows; come back in a moment", ()),
    "Draining": ("the broker is stopping; publish again in a moment", ()),
    "Overloaded": ("more publishes wait than the broker may hold; nothing was taken on", ()),
    "StorageFull": ("the disk has no room for another message; nothing was stored", ()),
    "QueueFull": ("queue orders holds its max_messages (1000) already", ()),
}
"""What a problem of each kind of error may say, with its faults: a pointer and a detail each."""
