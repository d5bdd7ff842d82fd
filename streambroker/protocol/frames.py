"""The frames of the WebSocket subprotocol ``streambroker.v1+json``: what a client may say, and how we answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from streambroker.core.errors import BrokerError, Problem, problem
from streambroker.core.names import QueueName
from streambroker.core.policy import LeaseMs, Milliseconds
from streambroker.protocol.json import encode
from streambroker.protocol.messages import MAX_BATCH, DraftIn, Label, MessageOut, Reason

SUBPROTOCOL = "streambroker.v1+json"
MAX_CREDIT = 10_000

FrameId = int | Annotated[str, msgspec.Meta(max_length=128)] | None
Credit = Annotated[int, msgspec.Meta(ge=1, le=MAX_CREDIT)]
Ids = Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", gc=False):
    """What every frame of a client may carry: an id, which its answer then has too."""

    id: FrameId = None


class Hello(Frame, frozen=True, tag="hello"):
    """Who I am; the first frame where no header said so."""

    token: Annotated[str, msgspec.Meta(max_length=8_192)] | None = None


class Publish(Frame, frozen=True, tag="publish", kw_only=True):
    """Store messages, all or none. The same `idempotency_key` again stores nothing and answers what it answered."""

    queue: QueueName
    messages: Annotated[list[DraftIn], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]
    idempotency_key: Label | None = None


class Subscribe(Frame, frozen=True, tag="subscribe", kw_only=True):
    """Deliver the messages of a queue, at most `credit` unsettled at a time."""

    queue: QueueName
    sub: Label | None = None
    credit: Credit = 100
    lease_ms: LeaseMs | None = None
    lease_mode: Literal["session", "fixed"] = "session"


class Unsubscribe(Frame, frozen=True, tag="unsubscribe", kw_only=True):
    """End a subscription; what it holds is given back."""

    sub: Label


class Pause(Frame, frozen=True, tag="pause", kw_only=True):
    """Deliver nothing on this subscription for now."""

    sub: Label


class Resume(Frame, frozen=True, tag="resume", kw_only=True):
    """Go on delivering."""

    sub: Label


class Ack(Frame, frozen=True, tag="ack", kw_only=True):
    """These are done."""

    ids: Ids


class Nack(Frame, frozen=True, tag="nack", kw_only=True):
    """These went wrong."""

    ids: Ids
    requeue: bool = False
    delay_ms: Milliseconds | None = None
    reason: Reason | None = None


class Extend(Frame, frozen=True, tag="extend", kw_only=True):
    """I need more time for these."""

    ids: Ids
    lease_ms: LeaseMs


class Refresh(Frame, frozen=True, tag="refresh", kw_only=True):
    """A newer token of the same user."""

    token: Annotated[str, msgspec.Meta(max_length=8_192)]


class Ping(Frame, frozen=True, tag="ping"):
    """Are you there?"""


ClientFrame = Hello | Publish | Subscribe | Unsubscribe | Pause | Resume | Ack | Nack | Extend | Refresh | Ping


class Welcome(msgspec.Struct, tag_field="op", tag="welcome", omit_defaults=True):
    """The first answer on a connection; `expires_in` in seconds until the token ends, if it does."""

    session: str
    heartbeat_ms: int
    max_frame: int
    expires_in: int | None = None
    id: FrameId = None


class Result(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of one id of an ack, nack or extend."""

    message_id: str
    ok: bool
    code: str | None = None


class Ok(msgspec.Struct, tag_field="op", tag="ok", omit_defaults=True, gc=False):
    """Done, with what was asked for."""

    id: FrameId
    message_ids: list[str] | None = None
    duplicates: list[int] | None = None
    results: list[Result] | None = None
    durability: str | None = None


class Error(msgspec.Struct, tag_field="op", tag="error", gc=False):
    """The frame with that id was refused; with `id` null also what no frame asked for."""

    id: FrameId
    problem: Problem


class Deliver(msgspec.Struct, tag_field="op", tag="deliver"):
    """Messages of a subscription, each with its lease. It is written by `deliver()`, which copies no content."""

    sub: str
    messages: list[MessageOut]


class Lost(msgspec.Struct, tag_field="op", tag="lease_lost"):
    """These are no longer yours."""

    sub: str
    ids: list[str]
    reason: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["expired", "deleted", "settled"]})]


class Expiring(msgspec.Struct, tag_field="op", tag="expiring"):
    """The token ends in so many seconds: send `refresh`."""

    expires_in: int


class Draining(msgspec.Struct, tag_field="op", tag="draining"):
    """The broker stops: finish and acknowledge within so many milliseconds."""

    deadline_ms: int


class Pong(msgspec.Struct, tag_field="op", tag="pong"):
    """I am here."""


ServerFrame = Welcome | Ok | Deliver | Lost | Expiring | Draining | Pong | Error


def welcome(frame_id: FrameId, session: str, heartbeat_ms: int, max_frame: int, expires_in: int | None) -> bytes:
    """The first answer on a connection; `expires_in` in seconds until the token ends."""
    return encode(Welcome(session, heartbeat_ms, max_frame, expires_in, frame_id))


def ok(frame_id: FrameId) -> bytes:
    """Done."""
    return encode(Ok(frame_id))


def published(frame_id: FrameId, ids: list[str], duplicates: list[int], durability: str | None) -> bytes:
    """The messages are stored."""
    return encode(Ok(frame_id, ids, duplicates, durability=durability))


def settled(frame_id: FrameId, results: list[Result]) -> bytes:
    """What became of each id."""
    return encode(Ok(frame_id, results=results))


def error(frame_id: FrameId, fault: BrokerError, session: str) -> bytes:
    """The problem document of a frame that was refused."""
    return encode(Error(frame_id, problem(fault, session)))


def deliver(sub: str, messages: Iterable[bytes]) -> bytes:
    """Messages, each JSON already."""
    return b'{"op":"deliver","sub":%b,"messages":[%b]}' % (encode(sub), b",".join(messages))


def lease_lost(sub: str, ids: list[str], reason: str) -> bytes:
    """These are no longer yours."""
    return encode(Lost(sub, ids, reason))


def expiring(expires_in: int) -> bytes:
    """The token ends in so many seconds: send `refresh`."""
    return encode(Expiring(expires_in))


def draining(deadline_ms: int) -> bytes:
    """The broker stops: finish and acknowledge within so many milliseconds."""
    return encode(Draining(deadline_ms))


PONG = encode(Pong())


def batch(frames: list[bytes]) -> bytes:
    """Several answers in one frame of the WebSocket."""
    return frames[0] if len(frames) == 1 else b"[%b]" % b",".join(frames)
