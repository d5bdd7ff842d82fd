"""One request of the API: who asks, and what for.

The order of checks is the same everywhere: who you are, what you may see, the request itself, the state.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from streambroker.core.access import Action, Principal, require
from streambroker.core.errors import (
    Malformed,
    NotFound,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
    invalid,
)
from streambroker.core.names import is_queue_name, parse_id
from streambroker.protocol.json import JsonDecoder
from streambroker.transport.gate import Gate
from streambroker.transport.limiting import Kind
from streambroker.transport.problems import Headers, Reply, reply

__all__ = ["Call", "ClientLeft", "Endpoint", "Handler", "Reply", "Streaming", "reply"]

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)

MAX_BODY = 1024 * 1024
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}").fullmatch
_TRUTH = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
_JSON_TYPES = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE).fullmatch


class ClientLeft(Exception):
    """The client hung up; there is nobody to answer."""


class Call:
    """One request. `principal` is None only on endpoints that are open to everybody."""

    __slots__ = ("_gate", "_query", "_seen", "headers", "params", "principal", "receive", "request_id", "scope")

    def __init__(self, scope: Scope, receive: Receive, principal: Principal | None, gate: Gate | None = None) -> None:
        self._gate = gate
        self._seen = 0 if gate is None else gate.changes
        self.scope = scope
        self.receive = receive
        self.headers: dict[bytes, bytes] = scope["streambroker.headers"]
        self.request_id: bytes = scope["streambroker.request_id"]
        self.params: Mapping[str, str] = scope["path_params"]
        self.principal = principal
        self._query: dict[str, str] | None = None

    # -- who, and what of ----------------------------------------------------------------------------------------------

    @property
    def user(self) -> Principal:
        """Who asks. Raises `Unauthenticated`."""
        if self.principal is None:
            raise Unauthenticated("log in first: POST /login, then send Authorization: Bearer <access token>")
        return self.principal

    def queue(self, action: Action) -> str:
        """The queue that the path names, on which `action` is allowed. Raises `Invalid`, `NotFound`, `Forbidden`."""
        name = self.params["queue"]
        if not is_queue_name(name):
            raise invalid("/queue", "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        require(self.principal or self.user, action, name)
        return name

    def message_id(self) -> int:
        """The message that the path names. Raises `NotFound`."""
        number = parse_id(self.params["message_id"])
        if number is None:
            raise NotFound("there is no such message")
        return number

    # -- the query -----------------------------------------------------------------------------------------------------

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query. Raises `Invalid` where one is given twice."""
        if self._query is None and not self.scope["query_string"]:
            self._query = {}
        if self._query is None:
            pairs = parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
            self._query = dict(pairs)
            if len(self._query) != len(pairs):
                raise invalid("", "a query parameter is given twice")
        return self._query

    def without_query(self) -> None:
        """For a call that takes no parameters. Raises `Invalid` where there are some."""
        for name in self.query:
            raise invalid(f"/{name}", "this call has no such parameter")

    def options(self, type_: type[Q]) -> Q:
        """The query as a struct: unknown or wrong parameters are refused. Raises `Invalid`."""
        given: dict[str, str | int] = dict(self.query)
        # Not msgspec's lax mode, which takes "null" for None.
        for name, type_of in ((field.encode_name, str(field.type)) for field in msgspec.structs.fields(type_)):
            if name not in given:
                continue
            if "int" in type_of:
                if not _WHOLE_NUMBER(self.query[name]):
                    raise invalid(f"/{name}", "Expected `int`")
                given[name] = int(self.query[name])
            elif "bool" in type_of:
                if self.query[name] not in _TRUTH:
                    raise invalid(f"/{name}", "Expected `true` or `false`")
                given[name] = _TRUTH[self.query[name]]
        try:
            return msgspec.convert(given, type_)
        except msgspec.ValidationError as error:
            text = str(error)
            found = re.search(r"`\$\.(.*?)`|field `(.*?)`", text)
            name = (found[1] or found[2]) if found else ""
            raise invalid(f"/{name}" if name else "", text) from None

    # -- the body ------------------------------------------------------------------------------------------------------

    def header(self, name: bytes) -> str | None:
        """A header's value, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    def media_type(self) -> str | None:
        """The body's media type without parameters, in lower case."""
        value = self.header(b"content-type")
        return None if value is None else value.partition(";")[0].strip().lower()

    def is_json(self) -> bool:
        """Whether the body says that it is JSON, or nothing at all."""
        if self.headers.get(b"content-type") == b"application/json":
            return True
        media = self.media_type()
        return not media or _JSON_TYPES(media) is not None

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body.

        Raises `TooLarge` above `limit` bytes, `UnsupportedMediaType` for an encoded one, and as `Gate.still_welcome`
        where somebody's rights have changed since its head came.
        """
        if (encoding := self.headers.get(b"content-encoding")) is not None:
            _check_encoding(encoding.decode("latin-1").strip())
        whole = self.scope.get("streambroker.answer")
        body: bytes | None = None if whole is None else whole.body()
        if body is None:
            body = await self._received(limit)
        elif len(body) > limit:
            raise TooLarge(f"the body has {len(body):,} bytes; at most {limit:,} are taken here")
        if self._gate is not None and self._gate.changes != self._seen and self.principal is not None:
            self._gate.still_welcome(self.principal)  # a body may take its time
        return body

    async def _received(self, limit: int) -> bytes:
        length = self.headers.get(b"content-length", b"").strip()
        if length.isdigit() and int(length) > limit:
            raise TooLarge(f"the body has {int(length):,} bytes; at most {limit:,} are taken here")
        parts, size, more = [], 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > limit:
                raise TooLarge(f"the body has more than the {limit:,} bytes that are taken here")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def json(self, decoder: JsonDecoder[T], limit: int = MAX_BODY) -> T:
        """The body as `decoder` takes it. Raises `Malformed`, `UnsupportedMediaType`, `TooLarge`, `Invalid`."""
        body = await self.body(limit)
        if not body:
            raise Malformed("the body is empty; this call takes a JSON object")
        if not self.is_json():
            raise UnsupportedMediaType(f"Content-Type {self.media_type()} is not taken here; send application/json")
        return decoder(body)

    async def optional_json(self, decoder: JsonDecoder[T], default: T) -> T:
        """As `json`, with `default` for an empty body."""
        body = await self.body()
        if not body:
            return default
        if not self.is_json():
            raise UnsupportedMediaType(f"Content-Type {self.media_type()} is not taken here; send application/json")
        return decoder(body)

    async def gone(self) -> None:
        """Returns when the client has hung up."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


def _check_encoding(encoding: str) -> None:
    if encoding and encoding.lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding} is not taken; send the body as it is")


class Streaming(Protocol):
    """An answer that is told piece by piece, for as long as it takes; counted when it begins."""

    @property
    def status(self) -> int: ...
    async def answer(self, scope: Scope, send: Send, headers: Headers) -> None:
        """Send it, with these headers beside its own."""
        ...


Handler = Callable[[Call], Awaitable[Reply | Streaming]]


class Endpoint(NamedTuple):
    """One method on one path: what serves it, and what the API's description says of it."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: Any = None
    answers: Mapping[int, Any] = {}
    query: type[msgspec.Struct] | None = None
    public: bool = False
    codes: Sequence[str] = ()
    raw: bool = False
    """The body may also be raw bytes of any media type."""
    head: bool = True
    """Whether a GET may be asked as HEAD too: not where it takes something."""
    limit: Kind | None = Kind.DEFAULT
    """Which rate limit counts it; None: none does."""
    media: str | None = None
    """The media type of what it answers, where it is not the usual one of the type in `answers`."""
    session: bool = False
    """Only for somebody who has logged in: an API key does not do."""
    takes: Mapping[str, Any] = {}
    """Further media types of the body, with the type of what it holds: `str` is text, `bytes` is anything."""
    gives: Mapping[str, Any] = {}
    """Further media types of a successful answer, likewise."""
    events: Mapping[str, Any] = {}
    """Of an answer that is a stream of events: their names, with the types of their data."""
    headers: Mapping[str, str] = {}
    """Request headers that this one looks at beside those that all of its kind do, and what they say."""
    answer_headers: Mapping[str, str] = {}
    """Headers that its successful answers have beside the usual ones, and what they say."""
