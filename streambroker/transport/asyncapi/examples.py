"""Examples of frames and events: what a client says would be accepted, and what the broker says fits its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streambroker.core import errors
from streambroker.core.errors import problem
from streambroker.protocol import frames
from streambroker.transport.examples import ANSWERS

_ID = "0199d3a4e7c00000"
_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl"  # noqa: S105 - nobody's
_REFUSED = problem(errors.Conflict("there is a subscription named 's1' already"), "urn:streambroker:session:bGOll8X0")

CLIENT: Mapping[type[frames.Frame], Mapping[str, Any]] = {
    frames.Hello: {"op": "hello", "id": 1, "token": _TOKEN},
    frames.Publish: {
        "op": "publish",
        "id": 2,
        "queue": "orders",
        "messages": [{"content": {"order": 42}, "priority": 5}, {"content_base64": "AAEC", "delay_ms": 5_000}],
    },
    frames.Subscribe: {"op": "subscribe", "id": 3, "sub": "s1", "queue": "orders", "credit": 100},
    frames.Unsubscribe: {"op": "unsubscribe", "id": 4, "sub": "s1"},
    frames.Pause: {"op": "pause", "id": 5, "sub": "s1"},
    frames.Resume: {"op": "resume", "id": 6, "sub": "s1"},
    frames.Ack: {"op": "ack", "id": 7, "ids": [_ID]},
    frames.Nack: {
        "op": "nack",
        "ids": [_ID],
        "requeue": True,
        "delay_ms": 5_000,
        "reason": "the shop did not answer",
    },
    frames.Extend: {"op": "extend", "id": 8, "ids": [_ID], "lease_ms": 60_000},
    frames.Refresh: {"op": "refresh", "id": 9, "token": _TOKEN},
    frames.Ping: {"op": "ping"},
}

SERVER: Mapping[type[msgspec.Struct], Mapping[str, Any]] = {
    frames.Welcome: {
        "op": "welcome",
        "session": "bGOll8X0UZkzxYpE",
        "heartbeat_ms": 10_000,
        "max_frame": 1_114_112,
        "expires_in": 858,
        "id": 1,
    },
    frames.Ok: {"op": "ok", "id": 2, "message_ids": [_ID, "0199d3a4e7c00001"], "duplicates": []},
    frames.Deliver: {
        "op": "deliver",
        "sub": "s1",
        "messages": [ANSWERS["GET /queues/{queue}/messages/consume"]],
    },
    frames.Lost: {"op": "lease_lost", "sub": "s1", "ids": [_ID], "reason": "expired"},
    frames.Expiring: {"op": "expiring", "expires_in": 60},
    frames.Draining: {"op": "draining", "deadline_ms": 10_000},
    frames.Pong: {"op": "pong"},
    frames.Error: {"op": "error", "id": 3, "problem": msgspec.to_builtins(_REFUSED)},
}

_AT = "2026-11-22T10:13:00.123Z"
EVENTS: Mapping[str, Mapping[str, Any]] = {
    "new_message": {"message_id": _ID, "queue": "orders", "status": "pending", "attempt": 0, "at": _AT},
    "message_processed": {"message_id": _ID, "queue": "orders", "status": "processed", "attempt": 1, "at": _AT},
    "message_failed": {"message_id": _ID, "queue": "orders", "status": "failed", "attempt": 5, "at": _AT},
    "message_requeued": {"message_id": _ID, "queue": "orders", "status": "pending", "attempt": 1, "at": _AT},
    "gap": {"queue": "orders", "lost": 12, "at": _AT},
    "end": {"queue": "orders", "reason": "queue_deleted", "at": _AT},
}
"""The data of events, by their names."""
