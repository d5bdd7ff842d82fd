"""What GraphQL takes. Members are REST's in camel case; REST judges their values, so that no rule stands twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

import strawberry
from strawberry import UNSET

from streambroker.transport.graphql.scalars import Json, Long, Time
from streambroker.transport.graphql.types import BackoffKind, Durability, Overflow


@strawberry.input(description="How long a message that was nacked waits before it is tried again.")
class BackoffInput:
    kind: BackoffKind | None = UNSET
    base_ms: Long | None = UNSET
    factor: float | None = UNSET
    max_ms: Long | None = UNSET
    jitter: bool | None = UNSET


@strawberry.input(description="What of a queue's configuration differs from the defaults, or is to be changed.")
class QueueConfigInput:
    lease_ms: Long | None = UNSET
    max_attempts: int | None = UNSET
    backoff: BackoffInput | None = UNSET
    dead_letter_queue: str | None = UNSET
    message_ttl_ms: Long | None = UNSET
    max_messages: Long | None = UNSET
    overflow: Overflow | None = UNSET
    retention_ms: Long | None = UNSET
    dedup_window_ms: Long | None = UNSET
    durability: Durability | None = UNSET


@strawberry.input(description="How a message is to be published.")
class PublishOptions:
    content_base64: str | None = strawberry.field(default=UNSET, description="Bytes, in place of `content`.")
    content_type: str | None = UNSET
    headers: Json | None = strawberry.field(default=UNSET, description="An object of plain values.")
    priority: int | None = UNSET
    delay_ms: Long | None = UNSET
    available_at: Time | None = UNSET
    ttl_ms: Long | None = UNSET
    key: str | None = UNSET
    dedup_id: str | None = UNSET
    correlation_id: str | None = UNSET
    reply_to: str | None = UNSET
    max_attempts: int | None = UNSET
    traceparent: str | None = UNSET


@strawberry.input(description="One message of a batch.")
class MessageInput(PublishOptions):
    content: Json | None = strawberry.field(default=UNSET, description="Any JSON value.")


def given(members: Mapping[str, Any]) -> dict[str, Any]:
    """Members as REST takes them in a body; those that were not given are left out, those that are null are not."""
    return {name: _plain(value) for name, value in members.items() if value is not UNSET}


def given_in(input_: Any) -> dict[str, Any]:
    """The members of an input object, as `given`; none where there is no object."""
    if input_ is None or input_ is UNSET:
        return {}
    return given({field.name: getattr(input_, field.name) for field in dataclasses.fields(input_)})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return given_in(value) if dataclasses.is_dataclass(value) else value
