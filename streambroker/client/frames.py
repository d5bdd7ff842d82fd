"""The frames of ``streambroker.v1+json`` as a client sees them: what the broker says, and what we say.

Hot frames are put together from texts that are JSON already; a message's content is never parsed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streambroker.client.errors import ProblemDocument, ProtocolError
from streambroker.client.models import MessageInfo, SettleResult
from streambroker.core.errors import BrokerError
from streambroker.protocol.json import JsonDecoder

SUBPROTOCOL = "streambroker.v1+json"
MAX_IDS = 1_000
"""Messages in a publish, ids in a settle, frames in an array: what the broker takes at most."""
MARGIN = 512
"""Bytes of a frame that are kept for what stands around its messages; a queue's name has up to 128."""

encode = msgspec.json.Encoder().encode


class Welcome(msgspec.Struct, tag_field="op", tag="welcome"):
    """The first frame. `max_frame` in bytes, `heartbeat_ms` in milliseconds, `expires_in` in seconds."""

    session: str = ""
    heartbeat_ms: int = 10_000
    max_frame: int = 1_114_112
    expires_in: int | None = None


class Ok(msgspec.Struct, tag_field="op", tag="ok"):
    """A request was granted; what it asked for."""

    id: int | None = None
    message_ids: list[str] = []
    duplicates: list[int] = []
    results: list[SettleResult] = []
    durability: str = "fsync"


class Refused(msgspec.Struct, tag_field="op", tag="error"):
    """A request was refused, or, with no id, something that was granted has ended."""

    id: int | None = None
    problem: ProblemDocument = ProblemDocument()


class Deliver(msgspec.Struct, tag_field="op", tag="deliver"):
    """Messages for a subscription."""

    sub: str
    messages: list[MessageInfo]


class Lost(msgspec.Struct, tag_field="op", tag="lease_lost"):
    """Leases that are no longer held; `reason` is `expired`, `deleted` or `settled`."""

    sub: str
    ids: list[str]
    reason: str = ""


class Expiring(msgspec.Struct, tag_field="op", tag="expiring"):
    """The token ends in so many seconds."""

    expires_in: int = 0


class Draining(msgspec.Struct, tag_field="op", tag="draining"):
    """The broker stops; acks are taken for so long."""

    deadline_ms: int = 0


class Pong(msgspec.Struct, tag_field="op", tag="pong"):
    """It is there."""


ServerFrame = Welcome | Ok | Refused | Deliver | Lost | Expiring | Draining | Pong

_decode = msgspec.json.Decoder(ServerFrame | list[ServerFrame]).decode
_carefully = JsonDecoder[Any](ServerFrame | list[ServerFrame])
_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


def decoded(text: bytes) -> Sequence[ServerFrame]:
    """The frames of one WebSocket message. An `op` that is not known here is passed over. Raises `ProtocolError`."""
    try:
        found = _decode(text)
    except msgspec.ValidationError:
        return list(_known(text))
    except msgspec.DecodeError:
        found = _with_surrogates(text)
    return found if isinstance(found, list) else (found,)


def _with_surrogates(text: bytes) -> Any:
    """Half a surrogate pair in a content (RFC 8259 §8.2), which msgspec refuses."""
    try:
        return _carefully(text)
    except BrokerError as error:
        raise ProtocolError(f"the broker's frame cannot be read: {error}") from error


def _known(text: bytes) -> Iterable[ServerFrame]:
    for part in _parts(text) if text.lstrip()[:1] == b"[" else [msgspec.Raw(text)]:
        try:
            yield _decode(part)
        except msgspec.ValidationError as error:
            if "Invalid value" not in str(error):
                raise ProtocolError(f"the broker's frame is not what was due: {error}") from error


def publish(frame_id: int, queue: str, key: str, drafts: Iterable[bytes]) -> bytes:
    """Store messages, all or none, and once under `key`; each draft is JSON already."""
    head = b'{"op":"publish","id":%d,"queue":%b,"idempotency_key":%b,"messages":[%b]}'
    return head % (frame_id, encode(queue), encode(key), b",".join(drafts))


def request(op: str, frame_id: int, **fields: Any) -> bytes:
    """Any other request; fields that are None are left out."""
    return encode({"op": op, "id": frame_id, **{name: value for name, value in fields.items() if value is not None}})


def arrays(frames: Sequence[bytes], most: int) -> Iterable[bytes]:
    """Frames as few WebSocket messages of at most `most` bytes, in order; one that is larger goes alone."""
    group: list[bytes] = []
    size = 2
    for frame in frames:
        if group and (size + len(frame) + 1 > most or len(group) == MAX_IDS):
            yield _array(group)
            group, size = [], 2
        group.append(frame)
        size += len(frame) + 1
    if group:
        yield _array(group)


def _array(group: list[bytes]) -> bytes:
    return group[0] if len(group) == 1 else b"[%b]" % b",".join(group)
