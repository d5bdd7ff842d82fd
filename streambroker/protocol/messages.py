"""Messages on the wire: what a publisher hands in, and a message as every door shows it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from streambroker.core.errors import Invalid, TooLarge, invalid
from streambroker.core.message import STATUS_OF, Attributes, DeadLetter, Draft, Message, Status
from streambroker.core.names import NO_NUL as _NO_NUL
from streambroker.core.names import format_id
from streambroker.core.policy import Milliseconds, QueueConfig
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.times import milliseconds, rfc3339

MAX_BATCH = 1_000
MAX_HEADERS_BYTES = 64 * 1024
Text = Annotated[str, msgspec.Meta(pattern=_NO_NUL, max_length=1_024)]
Label = Annotated[str, msgspec.Meta(pattern=_NO_NUL, min_length=1, max_length=512)]
Reason = Annotated[str, msgspec.Meta(pattern=_NO_NUL, max_length=4_096)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Scalar = str | int | float | bool | None
# What `draft` checks of these, in the words of JSON Schema.
_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
Base64 = Annotated[str, msgspec.Meta(extra_json_schema={"contentEncoding": "base64", "pattern": _BASE64})]
_HEADER = {"type": ["string", "number", "boolean", "null"], "pattern": _NO_NUL}
_HEADERS = {"type": ["object", "null"], "additionalProperties": _HEADER, "propertyNames": {"pattern": _NO_NUL}}
Headers = Annotated[Raw, msgspec.Meta(extra_json_schema=_HEADERS)]
StatusName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": [status.value for status in Status]})]

_headers = JsonDecoder[dict[str, Scalar]](dict[Text, Scalar])


class DraftIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message as a publisher hands it in. `content` is any JSON value, or `content_base64` holds bytes."""

    content: Raw | UnsetType = UNSET
    content_base64: Base64 | UnsetType = UNSET
    content_type: Label | None = None
    headers: Headers | UnsetType = UNSET
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    delay_ms: Milliseconds | None = None
    available_at: Time | None = None
    ttl_ms: Milliseconds | None = None
    key: Label | None = None
    dedup_id: Label | None = None
    correlation_id: Label | None = None
    reply_to: Label | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    traceparent: Label | None = None


class Limits(msgspec.Struct, frozen=True):
    """What the drafts of a request are held against."""

    max_message_bytes: int = 1024 * 1024


def draft(
    given: DraftIn,
    number: int,
    config: QueueConfig,
    limits: Limits,
    now: int,
    trace: str | None = None,
    at: str = "",
    raw: bytes | None = None,
) -> Draft:
    """The draft that a request's `given` stands for; `at` points to it, `raw` is its content where it has none itself.

    Raises `Invalid` or `TooLarge`.
    """
    binary = raw is not None or given.content_base64 is not UNSET
    content = _content(given, binary, at) if raw is None else raw
    if len(content) > limits.max_message_bytes:
        raise TooLarge(f"content has {len(content):,} bytes; at most {limits.max_message_bytes:,} are taken")
    if given.delay_ms is not None and given.available_at is not None:
        raise invalid(f"{at}/available_at", "delay_ms and available_at exclude each other; give one")
    available = None
    if given.delay_ms:
        available = now + given.delay_ms
    elif given.available_at is not None:
        available = max(milliseconds(given.available_at, f"{at}/available_at"), 0)
    lives = [ttl for ttl in (given.ttl_ms, config.message_ttl_ms) if ttl]
    return Draft(
        number,
        content,
        given.priority,
        available,
        now + min(lives) if lives else None,
        given.max_attempts,
        given.key,
        given.dedup_id,
        _attributes(given, binary, trace, at),
    )


def _content(given: DraftIn, binary: bool, at: str) -> bytes:
    if isinstance(given.content, Raw):
        if binary:
            raise invalid(f"{at}/content_base64", "content and content_base64 exclude each other; give one")
        return bytes(given.content)
    if not binary:
        raise invalid(f"{at}/content", "Object missing required field `content`")
    try:
        return base64.b64decode(given.content_base64, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, ValueError):
        raise invalid(f"{at}/content_base64", "is not base64 (RFC 4648 §4)") from None


def _attributes(given: DraftIn, binary: bool, trace: str | None, at: str) -> bytes | None:
    trace = given.traceparent or trace
    headers = UNSET if isinstance(given.headers, Raw) and bytes(given.headers) == b"null" else given.headers
    if (
        headers is UNSET and given.dedup_id is None and given.correlation_id is None and given.reply_to is None
        and given.content_type is None and trace is None and not binary
    ):  # fmt: skip
        return None
    if isinstance(headers, Raw):
        _check_headers(headers, at)
    return encode(
        Attributes(
            given.content_type,
            binary,
            headers,
            given.dedup_id,
            given.correlation_id,
            given.reply_to,
            trace,
        )
    )


def _check_headers(headers: Raw, at: str) -> None:
    if len(bytes(headers)) > MAX_HEADERS_BYTES:
        raise invalid(f"{at}/headers", f"holds more than {MAX_HEADERS_BYTES:,} bytes; put it into the content")
    try:
        found = _headers(bytes(headers))
    except Invalid as error:
        where = error.errors[0].pointer if error.errors else ""
        raise invalid(
            f"{at}/headers{where}", "headers are an object of strings, numbers, true, false or null"
        ) from None
    for name, value in found.items():
        if "\0" in name or (isinstance(value, str) and "\0" in value):
            raise invalid(f"{at}/headers/{name}".replace("\0", ""), "holds NUL, which is not taken in headers")


def digest(draft: Draft) -> bytes:
    """What tells one content from another, for a dedup id that is used again."""
    return hashlib.blake2b(draft.content, digest_size=16).digest()


def batch_digest(drafts: Iterable[Draft]) -> bytes:
    """The same for a whole batch, for an idempotency key that is used again, by whatever door."""
    whole = hashlib.blake2b(digest_size=16)
    for one in drafts:
        whole.update(len(one.content).to_bytes(8, "big"))
        whole.update(one.content)
    return whole.digest()


class DeadLetterOut(msgspec.Struct, frozen=True):
    """Where a dead letter came from."""

    queue: str
    reason: str
    error: str | None
    attempts: int
    at: str


class MessageOut(msgspec.Struct, gc=False):
    """A message as every door shows it."""

    message_id: str
    queue: str
    status: StatusName
    content: Any
    content_type: str
    headers: Any
    priority: int
    attempt: int
    max_attempts: int
    created_at: str
    updated_at: str
    available_at: str
    expires_at: str | None
    key: str | None
    dedup_id: str | None
    correlation_id: str | None
    reply_to: str | None
    traceparent: str | None
    error: str | None
    content_base64: str | UnsetType = UNSET
    dead_letter: DeadLetterOut | UnsetType = UNSET
    lease: str | UnsetType = UNSET
    lease_expires_at: str | UnsetType | None = UNSET


_NONE = Attributes()
_NULL = Raw(b"null")
_attributes_of = msgspec.json.Decoder(Attributes).decode
_dead_letter_of = msgspec.json.Decoder(DeadLetter).decode


def shown(message: Message, config: QueueConfig, delivered: bool = False) -> bytes:
    """The JSON of a message; `delivered` adds the lease, which only its holder may see."""
    attributes = _attributes_of(message.attributes) if message.attributes is not None else _NONE
    updated = rfc3339(message.updated_at)
    created = updated if message.created_at == message.updated_at else rfc3339(message.created_at)
    out = MessageOut(
        format_id(message.id),
        message.queue,
        STATUS_OF[message.state].value,
        _NULL if attributes.binary else Raw(message.content),
        attributes.content_type or "application/json",
        None if attributes.headers is UNSET else attributes.headers,
        message.priority,
        message.attempt,
        config.max_attempts if message.max_attempts is None else message.max_attempts,
        created,
        updated,
        created if message.available_at == message.created_at else rfc3339(message.available_at),
        None if message.expires_at is None else rfc3339(message.expires_at),
        message.key,
        attributes.dedup_id,
        attributes.correlation_id,
        attributes.reply_to,
        attributes.traceparent,
        message.error,
    )
    if attributes.binary:
        out.content_base64 = base64.b64encode(message.content).decode()
    if message.dead_letter is not None:
        note = _dead_letter_of(message.dead_letter)
        out.dead_letter = DeadLetterOut(note.queue, note.reason, note.error, note.attempts, rfc3339(note.at))
    if delivered and message.lease is not None:
        out.lease = message.lease
        out.lease_expires_at = None if message.due_at is None else rfc3339(message.due_at)
    return encode(out)
