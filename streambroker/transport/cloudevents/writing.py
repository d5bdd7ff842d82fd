"""Events out: messages that came as events, with the attributes that they had; and others, with ones made for them."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from streambroker.core.message import STATUS_OF, DeadLetter, Message
from streambroker.core.message import Attributes as Carried
from streambroker.core.names import format_id
from streambroker.protocol.json import encode
from streambroker.protocol.messages import Scalar
from streambroker.protocol.times import rfc3339
from streambroker.transport.cloudevents.asking import Format
from streambroker.transport.cloudevents.attributes import (
    OWN,
    PREFIX,
    REQUIRED,
    SPEC_VERSION,
    Attributes,
    fault_of,
    is_json,
)
from streambroker.transport.cloudevents.reading import BATCH, STRUCTURED
from streambroker.transport.problems import UNTYPED, Headers, Reply

TYPE = "streambroker.message"
"""The type of events made of messages that were none."""
MAX_HEADERS_BYTES = 8 * 1024
"""Other headers of a message are told in a header of the answer up to that; of a longer one clients take offence."""

_UTF8 = b"; charset=utf-8"
# What the HTTP binding (3.1.3.2) lets stand: visible ASCII but the quote and the percent sign.
_SAFE = "".join(map(chr, range(0x21, 0x7F))).translate({ord('"'): None, ord("%"): None})
_TEXTUAL = re.compile(
    r"text/.*|[^/;]+/(?:[^;]*\+)?(?:xml|yaml|javascript|x-www-form-urlencoded)\s*(?:;.*)?", re.I | re.S
)
# Publishers may call the type of what they publish anything; a line break in a header would begin another one.
_UNSENDABLE = re.compile(r"[^ -~]|^ | $|^$").search
_carried = msgspec.json.Decoder(Carried).decode
_scalars = msgspec.json.Decoder(dict[str, Scalar]).decode
_dead_letter = msgspec.json.Decoder(DeadLetter).decode
_NONE = Carried()


class _Event:
    """A message as an event: its attributes, its other headers, and what its data is."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.carried = _carried(message.attributes) if message.attributes is not None else _NONE
        headers = _scalars(self.carried.headers) if isinstance(self.carried.headers, Raw) else {}
        came_as = _attributes(headers)
        self.attributes = came_as or _made_for(message)
        self.others = {name: value for name, value in headers.items() if not (came_as and name.startswith(PREFIX))}
        self.media_type = self.carried.content_type
        if self.media_type is None and not came_as:
            self.media_type = "application/octet-stream" if self.carried.binary else "application/json"
        for name, value in (("partitionkey", message.key), ("traceparent", self.carried.traceparent)):
            if value is not None and fault_of(name, value) is None:
                self.attributes.setdefault(name, value)

    def members(self) -> dict[str, Any]:
        """It as a JSON object (JSON event format)."""
        media = {} if self.media_type is None else {"datacontenttype": self.media_type}
        return {**self.attributes, **media, **self._data()}

    def _data(self) -> dict[str, Any]:
        content = self.message.content
        if not self.carried.binary:
            if is_json(self.media_type) or content.lstrip()[:1] == b'"':
                return {"data": Raw(content)}
        elif not content:
            return {}
        elif self.media_type is not None and _TEXTUAL.fullmatch(self.media_type):
            try:
                return {"data": content.decode()}
            except UnicodeDecodeError:
                pass
        return {"data_base64": base64.b64encode(content).decode()}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Its attributes as header fields (HTTP binding)."""
        return [(f"{PREFIX}{name}".encode(), _escaped(_canonical(value))) for name, value in self.attributes.items()]


def written(message: Message, form: Format, delivered: bool = False) -> Reply:
    """One message as an event; what else there is to say of it, its lease too where it is `delivered`, in headers."""
    event = _Event(message)
    about = _about(event, delivered)
    if form != "cloudevents-binary":
        media = (b"content-type", STRUCTURED.encode() + _UTF8)
        return Reply(200, encode(event.members()), (media, *about))
    typed = UNTYPED if event.media_type is None and not message.content else _typed(event)
    return Reply(200, message.content, (typed, *event.headers(), *about))


def written_batch(messages: Sequence[Message]) -> Reply:
    """Messages that are delivered, as a batch of events; what one needs to settle each is among its attributes."""
    found = []
    for message in messages:
        own = (format_id(message.id), message.queue, message.attempt, message.lease)
        extensions = {name: value for name, value in zip(OWN, own, strict=True) if value is not None}
        found.append({**_Event(message).members(), **extensions})
    return Reply(200, encode(found), ((b"content-type", BATCH.encode() + _UTF8),))


def _typed(event: _Event) -> tuple[bytes, bytes]:
    media = event.media_type or "application/json"
    if _UNSENDABLE(media):
        media = "application/octet-stream"
    return b"content-type", media.encode()


def _attributes(headers: dict[str, Scalar]) -> Attributes:
    """The attributes that a message's headers hold; none where they do not make an event."""
    found: Attributes = {}
    for header, value in headers.items():
        name = header.removeprefix(PREFIX)
        if name == header or value is None or isinstance(value, float) or fault_of(name, value) is not None:
            continue
        found[name] = value
    return found if all(name in found for name in REQUIRED) else {}


def _made_for(message: Message) -> Attributes:
    """The attributes of a message that came as none: its id is unique in the queue that it was published to."""
    home = message.queue if message.dead_letter is None else _dead_letter(message.dead_letter).queue
    return {
        "specversion": SPEC_VERSION,
        "id": format_id(message.id),
        "source": f"/queues/{home}",
        "type": TYPE,
        "time": rfc3339(message.created_at),
    }


def _canonical(value: str | int | bool) -> str:
    """As the core specification writes values of its types."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escaped(text: str) -> bytes:
    return quote(text, safe=_SAFE).encode()


def _about(event: _Event, delivered: bool) -> Headers:
    message, carried = event.message, event.carried
    told: dict[str, str | None] = {
        "id": format_id(message.id),
        "queue": message.queue,
        "status": STATUS_OF[message.state].value,
        "attempt": str(message.attempt),
        "priority": str(message.priority),
        "correlation-id": carried.correlation_id,
        "reply-to": carried.reply_to,
    }
    if delivered:
        told["lease"] = message.lease
        told["lease-expires-at"] = None if message.due_at is None else rfc3339(message.due_at)
    fields = [(f"x-message-{name}".encode(), _escaped(value)) for name, value in told.items() if value is not None]
    if event.others and len(others := _ascii(event.others)) <= MAX_HEADERS_BYTES:
        fields.append((b"x-message-headers", others))
    return tuple(fields)


def _ascii(headers: dict[str, Scalar]) -> bytes:
    """JSON that a header can hold: what is not ASCII is escaped."""
    escaped = re.sub(r"[^\x20-\x7e]", lambda found: _units(found[0]), encode(headers).decode())
    return escaped.encode()


def _units(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[index : index + 2].hex()}" for index in range(0, len(units), 2))
