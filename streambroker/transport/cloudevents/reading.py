"""Events in: from a request to the drafts of messages."""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple, cast
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from streambroker.core.errors import Malformed, UnsupportedMediaType, invalid
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.messages import MAX_BATCH, DraftIn
from streambroker.transport.cloudevents.attributes import (
    OWN,
    PREFIX,
    Attributes,
    Value,
    check,
    check_media_type,
    is_json,
)
from streambroker.transport.http import Call
from streambroker.transport.rawbody import raw_draft

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_FAMILY = b"application/cloudevents"
_MAX_LABEL = 512
_BINARY_PREFIX = PREFIX.encode()
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL).fullmatch
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

_Members = dict[str, Raw]
_event = JsonDecoder[_Members](_Members)
_events = JsonDecoder[list[_Members]](Annotated[list[_Members], msgspec.Meta(max_length=MAX_BATCH)])
_values = JsonDecoder[list[Raw]](list[Raw])
_value = msgspec.json.Decoder(str | int | bool | None).decode
_text = msgspec.json.Decoder(str).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


class Mode(enum.Enum):
    """How an event travels: as headers around its data, as one JSON object, as an array of those."""

    BINARY = enum.auto()
    STRUCTURED = enum.auto()
    BATCH = enum.auto()


class Read(NamedTuple):
    """One event as the draft of a message; `content` is its data where that is bytes and not JSON."""

    given: DraftIn
    content: bytes | None


def mode_of(call: Call) -> Mode | None:
    """How the event of a request travels, None where it brings none.

    Raises `UnsupportedMediaType` for a format of events that is not taken (XML, Avro, Protobuf).
    """
    headers = call.headers
    media = headers.get(b"content-type")
    if media is not None and media != b"application/json" and media[: len(_FAMILY)].lower() == _FAMILY:
        match call.media_type():
            case "application/cloudevents+json":
                return Mode.STRUCTURED
            case "application/cloudevents-batch+json":
                return Mode.BATCH
            case other:
                raise UnsupportedMediaType(f"events come as {STRUCTURED}, {BATCH} or in headers, not as {other}")
    return Mode.BINARY if b"ce-specversion" in headers or b"ce-id" in headers else None


def event(call: Call, mode: Mode, body: bytes) -> Read:
    """The one event of a request. Raises `Invalid` naming the attribute, or `Malformed`."""
    if mode is Mode.BINARY:
        return _binary(call, body)
    return _structured(call, _event(_json_text(body)), "")


def batch(call: Call, body: bytes) -> list[Read]:
    """The events of a batch, which may be none. Options in headers go for each of them."""
    if b"x-message-dedup-id" in call.headers:
        raise invalid("/x-message-dedup-id", "is of one message; Idempotency-Key stands for a whole batch")
    found = _events(_json_text(body))
    return [_structured(call, members, f"/{index}") for index, members in enumerate(found)]


def _json_text(body: bytes) -> bytes:
    if not body:
        raise Malformed("the body is empty; this call takes an event as JSON")
    return body


# -- structured mode ---------------------------------------------------------------------------------------------------


def _structured(call: Call, members: Mapping[str, Raw], at: str) -> Read:
    attributes = {name: value for name in members if (value := _attribute(members, name, at)) is not None}
    media = attributes.pop("datacontenttype", None)
    if media is not None:
        check_media_type(media, f"{at}/datacontenttype")
    check(attributes, lambda name: f"{at}/{name}")
    options = _options(call, attributes, cast(str | None, media), at)
    data, base = members.get("data"), members.get("data_base64")
    if data is not None and base is not None:
        raise invalid(f"{at}/data_base64", "data and data_base64 exclude each other; give one")
    if base is not None:
        return Read(options, _bytes(base, f"{at}/data_base64"))
    if data is None:
        return Read(options, b"")
    if is_json(options.content_type):
        return Read(msgspec.structs.replace(options, content=data), None)
    return Read(options, _string(data, f"{at}/data").encode())


def _attribute(members: Mapping[str, Raw], name: str, at: str) -> Value | None:
    """An attribute's value; null is as good as none."""
    if name in ("data", "data_base64"):
        return None
    try:
        value: Value | None = _value(members[name])
    except msgspec.MsgspecError:
        raise invalid(f"{at}/{name}", "must be a string, an integer, true or false") from None
    return value


def _string(data: Raw, pointer: str) -> str:
    try:
        return _text(data)
    except msgspec.MsgspecError:
        raise invalid(pointer, "must be a string where datacontenttype is not JSON; bytes go to data_base64") from None


def _bytes(data: Raw, pointer: str) -> bytes:
    try:
        return base64.b64decode(_text(data), validate=True)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise invalid(pointer, "is not base64 (RFC 4648 §4)") from None


# -- binary mode -------------------------------------------------------------------------------------------------------


def _binary(call: Call, body: bytes) -> Read:
    attributes: Attributes = {}
    for header, value in call.headers.items():
        if header.startswith(_BINARY_PREFIX):
            name = header[len(_BINARY_PREFIX) :].decode("latin-1")
            attributes[name] = _unescaped(value, f"/{PREFIX}{name}")
    media = call.header(b"content-type") or None
    if media is not None:
        check_media_type(media, "/content-type")
    check(attributes, lambda name: f"/{PREFIX}{name}")
    options = _options(call, attributes, media, "")
    if not body or not is_json(media):
        return Read(options, body)
    if len(_values(b"[%b]" % body)) != 1:
        raise Malformed("the body is not JSON, which its Content-Type says it is")
    return Read(msgspec.structs.replace(options, content=Raw(body)), None)


def _unescaped(value: bytes, pointer: str) -> str:
    """A header's value as an attribute's (HTTP binding, 3.1.3.2): quotes are taken off, then percent signs read."""
    try:
        text = value.decode().strip()
        if _QUOTED(text):
            text = _ESCAPED.sub(r"\1", text[1:-1])
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise invalid(pointer, "is not UTF-8 where its percent signs are read") from None


# -- what an event is as a message -------------------------------------------------------------------------------------


def _options(call: Call, attributes: Attributes, media: str | None, at: str) -> DraftIn:
    """The draft of an event without its data: headers hold the attributes, and `X-Message-…` say what is not there."""
    given = raw_draft(call)
    kept = {f"{PREFIX}{name}": value for name, value in attributes.items() if name not in OWN}
    dedup_id = given.dedup_id
    if dedup_id is None and b"idempotency-key" not in call.headers:
        dedup_id = _identity(attributes)
    return msgspec.structs.replace(
        given,
        content_type=media,
        headers=Raw(encode({**_other_headers(given), **kept})),
        key=given.key or _label(attributes, "partitionkey", at),
        dedup_id=dedup_id,
        traceparent=_label(attributes, "traceparent", at),
    )


def _other_headers(given: DraftIn) -> Mapping[str, Raw]:
    """What ``X-Message-Headers`` holds. Raises `Invalid` where it would pass for an attribute."""
    if not isinstance(given.headers, Raw) or bytes(given.headers) == b"null":
        return {}
    try:
        found = _object(given.headers)
    except msgspec.MsgspecError:
        raise invalid("/x-message-headers", "is not an object") from None
    if taken := [name for name in found if name.startswith(PREFIX)]:
        raise invalid("/x-message-headers", f"{taken[0]} is kept for the event's attributes")
    return found


def _identity(attributes: Attributes) -> str:
    """What no two events share: source and id (core specification, "id")."""
    identity = f"{attributes['source']} {attributes['id']}"  # no URI holds a space
    if len(identity) <= _MAX_LABEL:
        return identity
    return f"sha256 {hashlib.sha256(identity.encode()).hexdigest()}"


def _label(attributes: Attributes, name: str, at: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_LABEL:
        raise invalid(f"{at}/{name}", f"must be a string of 1 to {_MAX_LABEL} characters")
    return value
