"""What a message is, from the draft that a publisher hands in to the row that a store keeps."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Literal

import msgspec


class State(IntEnum):
    """Where a message stands. `DELAYED` is told to users as `pending` with a later `available_at`."""

    READY = 0
    DELAYED = 1
    LEASED = 2
    PROCESSED = 3
    FAILED = 4


class Status(StrEnum):
    """The four statuses that users see."""

    PENDING = "pending"
    PROCESSING = "processing"
    PROCESSED = "processed"
    FAILED = "failed"


STATUS_OF = (Status.PENDING, Status.PENDING, Status.PROCESSING, Status.PROCESSED, Status.FAILED)
STATES_OF = {
    Status.PENDING: (State.READY, State.DELAYED),
    Status.PROCESSING: (State.LEASED,),
    Status.PROCESSED: (State.PROCESSED,),
    Status.FAILED: (State.FAILED,),
}


class Verdict(IntEnum):
    """What the newest lease of a message was used for; it answers a settle that comes twice."""

    NONE = 0
    ACKED = 1
    NACKED = 2


class Attributes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a publisher may say of a message and the broker only carries: one blob, absent for most messages."""

    content_type: str | None = None
    binary: bool = False
    headers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dedup_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    traceparent: str | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """Where a dead letter came from. `at` in milliseconds since 1970."""

    queue: str
    reason: Literal["rejected", "attempts", "expired"]
    error: str | None
    attempts: int
    at: int


def weight(content: bytes, attributes: bytes | None) -> int:
    """The bytes that a message counts for wherever bytes are bounded."""
    return len(content) + len(attributes or b"")


class Draft(msgspec.Struct, gc=False):
    """A message before it is stored. Times in milliseconds since 1970; `content` is kept byte for byte."""

    id: int
    content: bytes
    priority: int = 0
    available_at: int | None = None
    expires_at: int | None = None
    max_attempts: int | None = None
    key: str | None = None
    dedup_id: str | None = None
    attributes: bytes | None = None


class Standing(msgspec.Struct, gc=False):
    """The part of a message that decisions are made on and that they change.

    `max_attempts` None follows the queue. `due_at` is the one time at which something must happen to the message by
    itself: it becomes ready, its lease or its life ends, its retention is over. None while nothing will: so a lease
    without `due_at` is a session's, and lives as long as the connection does. `delivered_at` is when the message was
    handed out for the last time.
    """

    id: int
    queue: str
    state: State
    attempt: int
    failures: int
    max_attempts: int | None
    updated_at: int
    available_at: int
    expires_at: int | None
    due_at: int | None
    lease: str | None
    holder: str | None
    verdict: Verdict
    error: str | None
    dead_letter: str | None
    delivered_at: int | None = None


class Message(msgspec.Struct, gc=False):
    """A stored message, whole. Fields as in `Standing` and `Draft`."""

    id: int
    queue: str
    state: State
    attempt: int
    failures: int
    max_attempts: int | None
    updated_at: int
    available_at: int
    expires_at: int | None
    due_at: int | None
    lease: str | None
    holder: str | None
    verdict: Verdict
    error: str | None
    dead_letter: str | None
    priority: int
    created_at: int
    key: str | None
    attributes: bytes | None
    content: bytes
    delivered_at: int | None = None
