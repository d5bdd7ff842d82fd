"""The AsyncAPI 3.0 document of the WebSocket and of the streams of events, made from the types that validate frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from streambroker import __version__
from streambroker.core.names import QUEUE_NAME
from streambroker.protocol import frames
from streambroker.protocol.messages import DraftIn
from streambroker.transport.asyncapi.closing import CLOSE_CODES
from streambroker.transport.asyncapi.examples import CLIENT, EVENTS, SERVER
from streambroker.transport.http import Endpoint
from streambroker.transport.openapi.document import CONTACT, LICENSE
from streambroker.transport.openapi.problems import prose
from streambroker.transport.openapi.schemas import Schemas, members_of, schemas_of
from streambroker.transport.schemas import ConnectQuery

Schema = dict[str, Any]
Frames = Sequence[type[msgspec.Struct]]

CLIENT_FRAMES: Frames = get_args(frames.ClientFrame)
SERVER_FRAMES: Frames = get_args(frames.ServerFrame)
_ABOUT = f"""\
The parts of the broker that talk on: its WebSocket, and its streams of events. What is asked and answered once is \
described by `/openapi.json`.

**WebSocket**, subprotocol `{frames.SUBPROTOCOL}`, which is also spoken when none is offered. A message is one frame, \
a JSON object, or an array of frames: a client must take both, and may send both. A binary message with JSON in UTF-8 \
is as good as text. Every frame of a client may have an `id`; its answer has the same. Frames may be sent without \
waiting for answers.

**Who you are**, the first that applies: the header `Authorization: Bearer <token>`; a subprotocol item \
`bearer.<token>`, for browsers, offered beside `{frames.SUBPROTOCOL}`; a first frame `hello` with a `token`, within \
5 s. `welcome` is the broker's first frame in each case.

**Server-sent events** are UTF-8 text by the HTML standard; the messages described here are their `data`.

Close codes of the WebSocket:

| code | meaning | then |
|---|---|---|
""" + "\n".join(f"| {code} | {meaning} | {then} |" for code, meaning, then in CLOSE_CODES)
_ANSWERED_IF_NAMED = (frames.Ack, frames.Nack, frames.Extend)
_ANSWERS: Mapping[type[msgspec.Struct], Frames] = {
    frames.Hello: (frames.Welcome, frames.Ok),
    frames.Ping: (frames.Pong,),
}
_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token or an API key in the Authorization header.",
    },
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": "For browsers: the item `bearer.<token>`.",
    },
}
_QUEUE = {
    "description": f"The queue's name, `{QUEUE_NAME.removesuffix('(?!' + chr(92) + 'n)')}`.",
    "examples": ["orders"],
}


def document(endpoints: Sequence[Endpoint] = ()) -> dict[str, Any]:
    """The AsyncAPI 3.0 document: the WebSocket, and those of `endpoints` that answer with events.

    The same for the same endpoints, to the byte.
    """
    streams = [endpoint for endpoint in endpoints if endpoint.events]
    data = [type_ for endpoint in streams for type_ in endpoint.events.values()]
    schemas = schemas_of([*CLIENT_FRAMES, *SERVER_FRAMES, DraftIn, *dict.fromkeys(data)])
    messages = {_op(frame): _frame(frame, schemas) for frame in (*CLIENT_FRAMES, *SERVER_FRAMES)}
    for endpoint in streams:
        messages |= {name: _event(name, type_, schemas) for name, type_ in endpoint.events.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "streambroker",
            "version": __version__,
            "description": _ABOUT,
            "contact": CONTACT,
            "license": {"name": LICENSE["name"]},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {**_sockets(), **{_named(e): _stream(e) for e in streams}},
        "operations": {**_operations(), **{f"send_{_named(e)}": _streaming(e) for e in streams}},
        "components": {
            "schemas": schemas.components,
            "messages": messages,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _servers() -> Schema:
    place = {"address": {"description": "Host and port of this broker.", "default": "localhost:8000"}}
    security = [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY_SCHEMES]
    return {
        "websocket": {
            "host": "{address}",
            "protocol": "ws",
            "protocolVersion": "13",
            "description": "`wss` where the broker speaks TLS. Every path is also there under `/v1`.",
            "variables": place,
            "security": security,
        },
        "http": {
            "host": "{address}",
            "protocol": "http",
            "protocolVersion": "1.1",
            "description": "`https` where the broker speaks TLS. Every path is also there under `/v1`.",
            "variables": place,
            "security": security[:1],
        },
    }


def _sockets() -> Schema:
    query, _ = members_of(ConnectQuery)
    bindings = {"ws": {"method": "GET", "bindingVersion": "0.1.0"}}
    credit = {"ws": {**bindings["ws"], "query": {"type": "object", "properties": query, "additionalProperties": False}}}
    common: Schema = {
        "servers": [{"$ref": "#/servers/websocket"}],
        "messages": {_op(frame): _message(frame) for frame in (*CLIENT_FRAMES, *SERVER_FRAMES)},
        "x-close-codes": [code._asdict() for code in CLOSE_CODES],
    }
    return {
        "socket": {
            "address": "/ws",
            "title": "WebSocket",
            "description": "Publish, subscribe and settle on one connection.",
            **common,
            "bindings": bindings,
        },
        "queueSocket": {
            "address": "/queues/{queue}/ws",
            "title": "WebSocket of a queue",
            "description": "The same, and it subscribes to the queue by itself; no `ok` is sent for that.",
            "parameters": {"queue": _QUEUE},
            **common,
            "bindings": credit,
        },
    }


def _operations() -> Schema:
    """What the broker takes, with the answers, and what it sends by itself."""
    found: Schema = {}
    for frame in CLIENT_FRAMES:
        answers: Frames = (*_ANSWERS.get(frame, (frames.Ok,)), frames.Error)
        found[_op(frame)] = {
            "action": "receive",
            "title": _op(frame),
            "summary": prose(frame.__doc__ or ""),
            "channel": {"$ref": "#/channels/socket"},
            "messages": [_in_channel(frame)],
            "reply": {
                "channel": {"$ref": "#/channels/socket"},
                "messages": [_in_channel(answer) for answer in answers],
            },
        }
        if frame in _ANSWERED_IF_NAMED:
            found[_op(frame)]["description"] = "Answered only where it has an `id`, once the change is on the disk."
    unasked: Frames = (frames.Deliver, frames.Lost, frames.Expiring, frames.Draining)
    for frame in unasked:
        found[_op(frame)] = {
            "action": "send",
            "title": _op(frame),
            "summary": prose(frame.__doc__ or ""),
            "channel": {"$ref": "#/channels/socket"},
            "messages": [_in_channel(frame)],
        }
    return found


def _frame(frame: type[msgspec.Struct], schemas: Schemas) -> Schema:
    examples = CLIENT if issubclass(frame, frames.Frame) else SERVER
    return {
        "name": _op(frame),
        "title": _op(frame),
        "summary": prose(frame.__doc__ or ""),
        "contentType": "application/json",
        "payload": schemas.of(frame),
        "examples": [{"name": _op(frame), "payload": examples[frame]}],  # type: ignore[index]
    }


# -- streams of events -------------------------------------------------------------------------------------------------


def _event(name: str, type_: Any, schemas: Schemas) -> Schema:
    example = {"examples": [{"name": name, "payload": EVENTS[name]}]} if name in EVENTS else {}
    return {
        "name": name,
        "title": name,
        "summary": prose(type_.__doc__ or name),
        "contentType": "application/json",
        "payload": schemas.of(type_),
        **example,
    }


def _stream(endpoint: Endpoint) -> Schema:
    in_path = {"parameters": {"queue": _QUEUE}} if "{queue}" in endpoint.path else {}
    return {
        "address": endpoint.path,
        "title": endpoint.summary,
        "description": prose(endpoint.handler.__doc__ or endpoint.summary),
        "servers": [{"$ref": "#/servers/http"}],
        **in_path,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in endpoint.events},
    }


def _streaming(endpoint: Endpoint) -> Schema:
    names: Iterable[str] = endpoint.events
    channel = f"#/channels/{_named(endpoint)}"
    return {
        "action": "send",
        "title": endpoint.summary,
        "summary": endpoint.summary,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in names],
        "bindings": {"http": {"method": endpoint.method, "bindingVersion": "0.3.0"}},
    }


def _named(endpoint: Endpoint) -> str:
    return "_".join(part.strip("{}") for part in endpoint.path.split("/") if part)


def _op(frame: type[msgspec.Struct]) -> str:
    return str(frame.__struct_config__.tag)


def _message(frame: type[msgspec.Struct]) -> Schema:
    return {"$ref": f"#/components/messages/{_op(frame)}"}


def _in_channel(frame: type[msgspec.Struct]) -> Schema:
    return {"$ref": f"#/channels/socket/messages/{_op(frame)}"}
