"""Examples of what the API takes, for its description: each is a request that would be accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streambroker.core.policy import QueueConfigChange
from streambroker.protocol.messages import DraftIn
from streambroker.transport import schemas, user_schemas

_MESSAGE_ID = "0199d3a4e7c00000"
_LEASE = "Hq3vT0b1m8YxWc2k"
_DRAFT = {"content": {"order": 42, "total": "19.90"}, "key": "customer-7", "priority": 5}

IN_PATH: Mapping[str, str] = {
    "queue": "orders",
    "message_id": _MESSAGE_ID,
    "username": "worker-1",
    "key_id": "0199d3a4e7c01f2e3d4c5b6a",
    "filename": "streambroker.log",
    "consumer_id": "5b6a1f2e000000002a",
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
    user_schemas.ApiKeyIn: {"name": "worker 1", "grants": [{"queues": "orders", "actions": ["publish"]}]},
}
"""By the type that validates the body."""
