"""One request of the API: who asks, what for, and the answer; pure ASGI under Starlette's router.

The order of checks is the same everywhere: who you are, what you may see, the request itself, the state.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.types import Receive, Scope, Send

from streambroker.core.access import Action, Principal, require
from streambroker.core.errors import (
    BrokerError,
    Internal,
    Malformed,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
    invalid,
    problem,
)
from streambroker.core.names import is_queue_name, parse_id
from streambroker.protocol.json import JsonDecoder, encode

log = logging.getLogger(__name__)
T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)

MAX_BODY = 1024 * 1024
_SECRET_PARAMETERS = frozenset({b"token", b"access_token", b"api_key"})
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}").fullmatch
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}").fullmatch
_JSON_TYPES = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE).fullmatch


class ClientLeft(Exception):
    """The client hung up; there is nobody to answer."""


class Reply(NamedTuple):
    """An answer: status, body, and headers beside the usual ones."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


def reply(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, encode(value))


class Call:
    """One request. `principal` is None only on endpoints that are open to everybody."""

    __slots__ = ("_query", "headers", "params", "principal", "receive", "request_id", "scope")

    def __init__(self, scope: Scope, receive: Receive, principal: Principal | None) -> None:
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
        require(self.user, action, name)
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

    def options(self, type_: type[Q]) -> Q:
        """The query as a struct: unknown or wrong parameters are refused. Raises `Invalid`."""
        numbers = (field.encode_name for field in msgspec.structs.fields(type_) if "int" in str(field.type))
        for name in numbers:
            if not _WHOLE_NUMBER(self.query.get(name, "0")):
                raise invalid(f"/{name}", "Expected `int`")
        try:
            return msgspec.convert(self.query, type_, strict=False)
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
        media = self.media_type()
        return not media or _JSON_TYPES(media) is not None

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body. Raises `TooLarge` above `limit` bytes, `UnsupportedMediaType` for an encoded one."""
        encoding = self.header(b"content-encoding")
        if encoding and encoding.lower() != "identity":
            raise UnsupportedMediaType(f"Content-Encoding {encoding} is not taken; send the body as it is")
        length = self.header(b"content-length")
        if length and length.isdecimal() and int(length) > limit:
            raise TooLarge(f"the body has {int(length):,} bytes; at most {limit:,} are taken here")
        message = await self.receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await self.receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise TooLarge(f"the body has more than the {limit:,} bytes that are taken here")
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise ClientLeft
        return body

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


Handler = Callable[[Call], Awaitable[Reply]]


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


class Counters:
    """What `/stats` tells of requests: plain integers, owned by the event loop."""

    def __init__(self) -> None:
        self.total = 0
        self.by_route: dict[str, int] = {}
        self.by_status: dict[str, int] = {}
        self.long_polls = 0

    def count(self, route: str, status: int) -> None:
        """One request was answered."""
        self.total += 1
        self.by_route[route] = self.by_route.get(route, 0) + 1
        text = str(status)
        self.by_status[text] = self.by_status.get(text, 0) + 1


class Resource:
    """The ASGI application of one path: picks the method, asks who it is, runs the handler, sends the answer."""

    def __init__(
        self,
        template: str,
        endpoints: Sequence[Endpoint],
        authenticate: Callable[[str], Principal],
        counters: Counters,
    ) -> None:
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        self._routes = {endpoint.method: f"{endpoint.method} {template}" for endpoint in endpoints}
        self._template = template
        self._authenticate = authenticate
        self._counters = counters
        self._allow = ", ".join(sorted(self._endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        endpoint = self._endpoints.get(method)
        if endpoint is None and method == "HEAD" and (get := self._endpoints.get("GET")) and get.head:
            endpoint = get
        try:
            try:
                answer = await self._answer(endpoint, scope, receive)
            except ClientLeft:
                raise
            except BrokerError as error:
                answer = problem_reply(error, scope["streambroker.request_id"])
            except Exception:
                log.exception("%s %s failed", method, self._template)
                fault = Internal("the broker failed at this; its log says why, under this request's id")
                answer = problem_reply(fault, scope["streambroker.request_id"])
        except ClientLeft:
            self._counters.count(self._routes.get(method, "* " + self._template), 499)
            return
        self._counters.count(self._routes.get(method, "* " + self._template), answer.status)
        await respond(scope, send, answer)

    async def _answer(self, endpoint: Endpoint | None, scope: Scope, receive: Receive) -> Reply:
        principal = None
        if endpoint is None or not endpoint.public:
            principal = self._authenticate(bearer(scope["streambroker.headers"]))
        if endpoint is None:
            raise MethodNotAllowed(f"{scope['method']} is not for this path; it takes {self._allow}", self._allow)
        return await endpoint.handler(Call(scope, receive, principal))


class Front:
    """The outermost application: `/v1`, request ids, no secrets in queries; then Starlette's router."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = scope["streambroker.headers"] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        scope["streambroker.request_id"] = (
            given if _REQUEST_ID(given) else b"%b-%x" % (self._prefix, next(self._numbers))
        )
        path: str = scope["path"]
        if path.startswith("/v1/"):
            scope["path"] = path[3:]
            scope["raw_path"] = scope.get("raw_path", b"/v1")[3:]
        query = scope["query_string"]
        if query and any(unquote_to_bytes(name) in _SECRET_PARAMETERS for name in _names(query)):
            fault = Malformed("a token in the URL would end up in logs; send it as Authorization: Bearer <token>")
            await refuse(scope, send, fault)
            return
        await self._app(scope, receive, send)


def _names(query: bytes) -> Iterator[bytes]:
    """The names of a query's parameters, as they stand there. One without a value carries none."""
    return (name for name, given, _ in (part.partition(b"=") for part in query.split(b"&")) if given)


def bearer(headers: Mapping[bytes, bytes]) -> str:
    """The token of the `Authorization` header. Raises `Unauthenticated`."""
    value = headers.get(b"authorization", b"")
    if value[:7].lower() != b"bearer ":
        raise Unauthenticated("log in first: POST /login, then send Authorization: Bearer <access token>")
    return value[7:].strip().decode("latin-1")


_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")


def problem_reply(error: BrokerError, request_id: bytes) -> Reply:
    """The RFC 9457 answer to an error, with the headers that go with its status."""
    headers: list[tuple[bytes, bytes]] = [_PROBLEM]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if error.retry_after_ms is not None:
        headers.append((b"retry-after", str(max(1, -(-error.retry_after_ms // 1000))).encode()))
    document = problem(error, f"urn:streambroker:request:{request_id.decode('latin-1')}")
    return Reply(error.status, encode(document), tuple(headers))


async def respond(scope: Scope, send: Send, answer: Reply) -> None:
    """Send an answer over HTTP."""
    headers = [(b"x-request-id", scope["streambroker.request_id"]), *answer.headers]
    if answer.status != 204:
        if not (answer.headers and answer.headers[0][0] == b"content-type"):
            headers.append(_JSON)
        headers.append((b"content-length", b"%d" % len(answer.body)))
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(scope: Scope, send: Send, error: BrokerError) -> None:
    """Answer with an error: over HTTP, or in place of the upgrade of a WebSocket (ASGI's denial response)."""
    answer = problem_reply(error, scope["streambroker.request_id"])
    if scope["type"] == "http":
        await respond(scope, send, answer)
        return
    headers = [
        *answer.headers,
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", scope["streambroker.request_id"]),
    ]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
