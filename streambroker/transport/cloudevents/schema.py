"""What an event looks like in JSON, for the description of the API; what is taken is checked in `reading`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from streambroker.protocol.messages import MAX_BATCH, Base64
from streambroker.transport.cloudevents.reading import BATCH, STRUCTURED

_NotEmpty = Annotated[str, msgspec.Meta(min_length=1)]
_Uri = Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"format": "uri"})]
_UriReference = Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"format": "uri-reference"})]
_Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class CloudEvent(msgspec.Struct):
    """A CloudEvent 1.0 as a JSON object; further members are its extension attributes. A null one is none."""

    specversion: Literal["1.0"]
    id: _NotEmpty
    source: _UriReference
    type: _NotEmpty
    datacontenttype: _NotEmpty | UnsetType | None = UNSET
    dataschema: _Uri | UnsetType | None = UNSET
    subject: _NotEmpty | UnsetType | None = UNSET
    time: _Time | UnsetType | None = UNSET
    partitionkey: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | UnsetType | None = UNSET
    data: Raw | UnsetType = UNSET
    data_base64: Base64 | UnsetType = UNSET

    BEYOND: ClassVar[Mapping[str, Any]] = {
        "not": {"required": ["data", "data_base64"]},
        "propertyNames": {"pattern": "^(?:[a-z0-9]+|data_base64)$"},
        "additionalProperties": {
            "type": ["string", "integer", "boolean", "null"],
            "minimum": -(2**31),
            "maximum": 2**31 - 1,
        },
    }
    """What is checked beyond the members, in the words of JSON Schema."""


CloudEvents = Annotated[list[CloudEvent], msgspec.Meta(max_length=MAX_BATCH)]

ONE_OR_MANY: Mapping[str, Any] = {STRUCTURED: CloudEvent, BATCH: CloudEvents}
ONE: Mapping[str, Any] = {STRUCTURED: CloudEvent}
MANY: Mapping[str, Any] = {BATCH: CloudEvents}

ASKED: Mapping[str, str] = {
    "ce-id": "Makes an event of the body, with the other `ce-` headers: a CloudEvent in binary mode.",
    "ce-source": "The event's `source`.",
    "ce-specversion": "The event's `specversion`: `1.0`.",
    "ce-type": "The event's `type`.",
}
"""Headers of a publish in binary mode."""
LOOKED: Mapping[str, str] = {
    f"X-Message-{name}": f"Where it is answered as a CloudEvent: {about}"
    for name, about in {
        "Id": "the message's `message_id`.",
        "Queue": "its `queue`.",
        "Status": "its `status`.",
        "Attempt": "its `attempt`.",
        "Priority": "its `priority`.",
        "Correlation-Id": "its `correlation_id`, percent-encoded.",
        "Reply-To": "its `reply_to`, percent-encoded.",
        "Headers": "its other `headers` as JSON, up to 8 KiB.",
    }.items()
}
"""Headers of an answer with one event."""
DELIVERED: Mapping[str, str] = {
    **LOOKED,
    "X-Message-Lease": "Where it is answered as a CloudEvent: its `lease`.",
    "X-Message-Lease-Expires-At": "Where it is answered as a CloudEvent: when the lease ends.",
}
"""Headers of an answer with one event that is delivered."""
