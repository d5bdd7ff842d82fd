"""What a message is published with, beside its content."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict

from streambroker.client.models import Scalar


class PublishOptions(TypedDict, total=False):
    """The options of `publish`, each as the member of `Draft` with its name (PEP 692). None: the broker chooses."""

    content_type: str | None
    headers: Mapping[str, Scalar] | None
    priority: int | None
    delay_ms: int | None
    available_at: datetime | None
    ttl_ms: int | None
    key: str | None
    dedup_id: str | None
    correlation_id: str | None
    reply_to: str | None
    max_attempts: int | None
    traceparent: str | None
