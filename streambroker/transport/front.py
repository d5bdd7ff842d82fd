"""The outermost application: what every request passes before it reaches a door.

It refuses what no door should ever see (a foreign host name, a page of another site, a token in the URL), says which
request this is, and takes ``/v1`` off the path.
"""

from __future__ import annotations

import ipaddress
import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from urllib.parse import unquote_to_bytes

from starlette.types import Message, Receive, Scope, Send

from streambroker.core.errors import BrokerError, Forbidden, Malformed
from streambroker.transport.problems import refuse
from streambroker.transport.rawbody import OPTION_HEADERS

App = Callable[[Scope, Receive, Send], Awaitable[None]]
ClientAddress = Callable[[dict[bytes, bytes], str], str]

log = logging.getLogger(__name__)

_SECRET_PARAMETERS = frozenset({b"token", b"access_token", b"api_key"})
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}").fullmatch
_REMEMBERED_HOSTS = 1_000
_CORS_MAX_AGE_S = 600


class Hosts:
    """The names by which clients may call this broker; any address and ``localhost`` are among them always.

    A page that a foreign name serves cannot make a browser talk to the broker under that name (DNS rebinding): such a
    request carries the foreign name as its Host. Addresses carry no such risk.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._any = "*" in names
        self._names = {"localhost", *(name.lower() for name in names)}
        self._endings = tuple(name[1:].lower() for name in names if name.startswith("*."))
        # What was allowed before; bounded because clients choose what they send.
        self._known: set[bytes] = set()

    def allow(self, host: bytes) -> bool:
        """Whether the Host header is one of ours."""
        return host in self._known or self._look(host)

    def _look(self, host: bytes) -> bool:
        name = _name_of(host.decode("latin-1"))
        allowed = bool(name) and (
            self._any or name in self._names or name.endswith((".localhost", *self._endings)) or _is_address(name)
        )
        if allowed and len(self._known) < _REMEMBERED_HOSTS:
            self._known.add(host)
        return allowed


class Front:
    """The outermost application. `client_address` tells whose request it is where proxies stand in between."""

    def __init__(
        self,
        app: App,
        hosts: Hosts | None = None,
        origins: Sequence[str] = (),
        client_address: ClientAddress | None = None,
    ) -> None:
        self._app = app
        self._hosts = hosts or Hosts(("*",))
        self._origins = frozenset(origin.lower().encode() for origin in origins)
        self._client_address = client_address
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)
        self._suspicious = True

    def _suspect(self, peer: str) -> None:
        """Say once that all who come through a proxy count as one."""
        if _is_address(peer) and ipaddress.ip_address(peer).is_private:  # loopback too
            self._suspicious = False
            log.warning(
                "requests from %s carry X-Forwarded-For, and trusted_proxies is empty: if that is your proxy, name it "
                "there, else limits by address count all of its clients as one",
                peer,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        fields = scope["headers"]
        headers = scope["streambroker.headers"] = dict(fields)
        doubled = len(headers) != len(fields)
        if doubled:
            _join_lists(headers, fields)
        given = headers.get(b"x-request-id")
        scope["streambroker.request_id"] = (
            given if given is not None and _REQUEST_ID(given) else b"%b-%x" % (self._prefix, next(self._numbers))
        )
        client = scope.get("client")
        address = client[0] if client else ""
        if self._client_address is not None:
            address = self._client_address(headers, address)
        elif self._suspicious and b"x-forwarded-for" in headers:
            self._suspect(address)
        scope["streambroker.address"] = address
        path: str = scope["path"]
        if path.startswith("/v1/"):
            scope["path"] = path[3:]
            scope["raw_path"] = scope.get("raw_path", b"/v1")[3:]
        try:
            if doubled:
                _check_single(fields)
            self._check(scope, headers)
        except BrokerError as error:
            await refuse(scope, send, error)
            return
        origin = headers.get(b"origin")
        if origin is not None and scope["type"] == "http" and origin.lower() in self._origins:
            await self._to_other_site(origin, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raise `Malformed` or `Forbidden` for what no door should see."""
        host = headers.get(b"host")
        if host is None:
            if scope["http_version"] != "1.0":
                raise Malformed("the request has no Host header (RFC 9112, section 3.2)")
        elif not self._hosts.allow(host):
            raise Malformed("this broker does not answer to the name in Host; it can be started with --allowed-hosts")
        query = scope["query_string"]
        if query and any(unquote_to_bytes(name) in _SECRET_PARAMETERS for name in _names(query)):
            raise Malformed("a token in the URL would end up in logs; send it as Authorization: Bearer <token>")
        if scope["type"] == "websocket" and (origin := headers.get(b"origin")) is not None:
            own = origin.lower().partition(b"://")[2]
            if not own or (own != (host or b"").lower() and origin.lower() not in self._origins):
                raise Forbidden(
                    "a page of another site may not open this WebSocket; start the broker with --allowed-origins to "
                    "let it"
                )

    async def _to_other_site(self, origin: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer to a page of another site that may use this broker (WHATWG Fetch, CORS protocol)."""
        allowed = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        asked = scope["streambroker.headers"].get(b"access-control-request-method")
        if scope["method"] == "OPTIONS" and asked is not None:
            headers = [*allowed, *_PREFLIGHT, (b"x-request-id", scope["streambroker.request_id"])]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        scope.pop("streambroker.answer", None)  # what is added here has to pass

        async def send_to_it(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *allowed, _EXPOSED]
            await send(message)

        await self._app(scope, receive, send_to_it)


_SINGLE = (b"host", b"authorization")
_LISTS = (b"x-forwarded-for", b"x-forwarded-proto")


def _join_lists(headers: dict[bytes, bytes], fields: Sequence[tuple[bytes, bytes]]) -> None:
    """Make one value of a list that came in several lines (RFC 9110, section 5.3); of others the last one counts."""
    for name in _LISTS:
        if name in headers:
            headers[name] = b", ".join(value for other, value in fields if other == name)


def _check_single(fields: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise `Malformed` where somebody else may have read the line that we do not (RFC 9112, section 3.2)."""
    names = [name for name, _ in fields]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise Malformed(f"the request has more than one {name.decode().capitalize()} line")


_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b", ".join(
            (
                *(b"authorization", b"content-type", b"idempotency-key", b"last-event-id", b"traceparent"),
                *(b"x-request-id", *OPTION_HEADERS),
            )
        ),
    ),
    (b"access-control-max-age", b"%d" % _CORS_MAX_AGE_S),
]
_EXPOSED = (
    b"access-control-expose-headers",
    b"allow, location, ratelimit, ratelimit-policy, retry-after, x-request-id",
)


def _names(query: bytes) -> Iterator[bytes]:
    """The names of a query's parameters, as they stand there. One without a value carries none."""
    return (name for name, given, _ in (part.partition(b"=") for part in query.split(b"&")) if given)


def _name_of(host: str) -> str:
    """The name or address in a Host header, in lower case and without its port; empty where it is none."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name.lower() if bracket and (not rest or rest[1:].isdecimal()) else ""
    name, colon, port = host.partition(":")
    return "" if colon and not port.isdecimal() else name.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
