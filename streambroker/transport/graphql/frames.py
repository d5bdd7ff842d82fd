"""The messages of the `graphql-transport-ws` subprotocol, one JSON object each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streambroker.core.errors import BrokerError, Malformed
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.transport.graphql.schemas import GraphQLOut
from streambroker.transport.graphql.verbatim import members

SUBPROTOCOL = "graphql-transport-ws"
_MAX_ID = 128
_text = JsonDecoder[str](str)
_token = JsonDecoder[dict[str, Any]](dict[str, Any])


class Frame(NamedTuple):
    """A client's message; `payload` is its text as it came, empty where there was none."""

    type: str
    id: str
    payload: str


def frame(text: str) -> Frame:
    """What a client said. Raises `Malformed` where it is no message of the protocol."""
    try:
        given = members(text)
        kind, number = _text(given.get("type", "")), _text(given.get("id", '""'))
    except BrokerError as error:
        raise Malformed(f"no message of {SUBPROTOCOL}: {error.detail}") from None
    if len(number) > _MAX_ID:
        raise Malformed(f"an id has at most {_MAX_ID} characters")
    payload = given.get("payload", "")
    return Frame(kind, number, "" if payload == "null" else payload)


def token_of(payload: str) -> str | None:
    """The token that the payload of `connection_init` holds: `token`, or `Authorization` with `Bearer` before it."""
    if not payload:
        return None
    try:
        given = _token(payload)
    except BrokerError:
        return None
    by_name = {name.lower(): value for name, value in given.items() if isinstance(value, str)}
    if "authorization" in by_name:
        scheme, _, token = by_name["authorization"].partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None
    return by_name.get("token")


ACK = b'{"type":"connection_ack"}'


def pong(payload: str) -> bytes:
    """The answer to a ping, with what it held."""
    return b'{"type":"pong"%b}' % (b',"payload":' + payload.encode() if payload else b"")


def following(number: str, answer: GraphQLOut) -> bytes:
    """One answer of an operation."""
    return b'{"type":"next","id":%b,"payload":%b}' % (encode(number), encode(answer))


def complete(number: str) -> bytes:
    """The operation is over."""
    return b'{"type":"complete","id":%b}' % encode(number)


def error(number: str, errors: Sequence[dict[str, Any]]) -> bytes:
    """The operation is over, or never began, for these reasons."""
    return b'{"type":"error","id":%b,"payload":%b}' % (encode(number), encode(errors))
