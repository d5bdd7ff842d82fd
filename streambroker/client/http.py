"""REST over one pool of HTTP connections: who is asking, what is tried again, and errors as exceptions."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import httpx
import msgspec

from streambroker.client.errors import (
    ConnectionLost,
    ProblemDocument,
    ProtocolError,
    StreambrokerError,
    StreambrokerTimeout,
    Unauthenticated,
    from_problem,
    kind_of,
)
from streambroker.client.models import Page
from streambroker.client.retrying import RetryPolicy, may_repeat
from streambroker.client.tokens import FixedToken, TokenSource
from streambroker.client.unreachable import lost, unreachable
from streambroker.core.errors import BrokerError
from streambroker.protocol.json import JsonDecoder

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 30.0
_JSON = {"content-type": "application/json"}
_problem = msgspec.json.Decoder(ProblemDocument).decode
_decoders: dict[Any, JsonDecoder[Any]] = {}
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


class Http:
    """Calls one broker. Every call has `timeout` seconds in all, tries and waits included.

    `url` is where the broker is, a path before its own included. `tokens` says who is asking; it may be set after the
    construction, for a session logs in by this same object. Raises `ValueError` for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        tokens: TokenSource | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        verify: ssl.SSLContext | bool = True,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = checked_url(url)
        self.tokens: TokenSource = tokens or FixedToken(None)
        self.timeout = timeout
        self._retry = retry or RetryPolicy()
        self._chance = chance
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - one deadline holds for the whole call, see `call`
            verify=verify,
            mounts=_past_proxies(self.url),
            transport=transport,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            headers={"accept": "application/json", "user-agent": "streambroker-python"},
        )

    async def close(self) -> None:
        """Close all connections; calls that are under way fail."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        result: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        repeatable: bool | None = None,
        public: bool = False,
        retry: RetryPolicy | None = None,
    ) -> Any:
        """Make a call and decode the answer as `result` (None: nobody wants to know; `bytes`: as it came).

        `body` is sent as JSON, `raw` as it is, with a `content-type` in `headers`. Members of `query` that are None are
        left out. `repeatable` (default: for GET) says that doing it twice is as good as once. `public` shows no token.
        `retry` is for this call, in place of the client's.
        Raises `ApiError` by its code, `ConnectionLost`, `StreambrokerTimeout`, `ProtocolError`.
        """
        content = msgspec.json.encode(body) if body is not None else raw
        sent = {**(_JSON if body is not None else {}), **(headers or {})}
        request = _Request(method, self.url + path, _given(query), content, sent, public)
        again = method in ("GET", "HEAD") if repeatable is None else repeatable
        seconds = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds) as deadline:
                response = await self._answered(request, again, deadline, retry or self._retry)
        except TimeoutError:
            raise StreambrokerTimeout(f"{method} {path} took longer than {seconds:g} s") from None
        return decoded(response, result)

    async def pages(
        self, path: str, item: Any, query: Mapping[str, Any] | None = None, page_size: int = 200
    ) -> AsyncGenerator[Any, None]:
        """All items of a list, fetched page by page as they are wanted."""
        cursor: str | None = None
        while True:
            asked = {**(query or {}), "limit": page_size, "cursor": cursor}
            page: Page[Any] = await self.call("GET", path, Page[item], query=asked)
            for one in page.items:
                yield one
            cursor = page.next_cursor
            if cursor is None:
                return

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """A GET whose answer has no end; opening it has the time of a call. Raises as `call`, for one try."""
        token = await self.tokens.token()
        request = _Request("GET", self.url + path, _given(query), None, headers or {}, False)
        response = await self._opened(request, token)
        if response.status_code == 401 and (newer := await self.tokens.renew(token)) is not None:
            await response.aclose()
            response = await self._opened(request, newer)
        try:
            if not response.is_success:
                await response.aread()
                raise refusal(response)
            yield response
        except httpx.TransportError as error:
            raise _lost(error) from error
        finally:
            await response.aclose()

    async def _opened(self, request: _Request, token: str | None) -> httpx.Response:
        try:
            async with asyncio.timeout(self.timeout):
                return await self._client.send(request.made(self._client, token), stream=True)
        except TimeoutError:
            raise StreambrokerTimeout(f"{request.url} did not answer within {self.timeout:g} s") from None
        except httpx.TransportError as error:
            raise _lost(error) from error

    async def _answered(
        self, request: _Request, repeatable: bool, deadline: asyncio.Timeout, retry: RetryPolicy
    ) -> httpx.Response:
        """The answer to a request, tried again where that is safe and there is time."""
        tries = 0
        while True:
            tries += 1
            try:
                return await self._recognized(request)
            except StreambrokerError as error:
                if tries >= retry.attempts or not may_repeat(error, repeatable):
                    raise
                wait = retry.wait_s(tries, error, self._chance())
                if (ends := deadline.when()) is not None and asyncio.get_running_loop().time() + wait >= ends:
                    raise  # rather say what is wrong now than that the time is over, later
                await self._sleep(wait)

    async def _recognized(self, request: _Request) -> httpx.Response:
        """The answer to one try; a token that is refused is renewed once. 401 comes before anything is done."""
        token = None if request.public else await self.tokens.token()
        try:
            return await self._tried(request, token)
        except Unauthenticated:
            newer = None if request.public else await self.tokens.renew(token)
            if newer is None or newer == token:
                raise
        return await self._tried(request, newer)

    async def _tried(self, request: _Request, token: str | None) -> httpx.Response:
        try:
            response = await self._client.send(request.made(self._client, token))
        except httpx.TransportError as error:
            raise _lost(error) from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise ProtocolError(str(error)) from error
        if response.is_success:
            return response
        raise refusal(response)


class _Request(msgspec.Struct, frozen=True):
    """A request before somebody's token is put on it."""

    method: str
    url: str
    query: Mapping[str, str]
    content: bytes | None
    headers: Mapping[str, str]
    public: bool

    def made(self, client: httpx.AsyncClient, token: str | None) -> httpx.Request:
        headers = dict(self.headers) if token is None else {**self.headers, "authorization": f"Bearer {token}"}
        return client.build_request(self.method, self.url, params=self.query, content=self.content, headers=headers)


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises `ValueError` where it is none, or holds what would get into logs."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
        raise ValueError(f"{url!r} is not the URL of a broker, such as http://127.0.0.1:8000")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a URL holds no credentials and no query; give a token, or username and password")
    return url.rstrip("/")


def _has_port(parts: SplitResult) -> bool:
    """Whether the port, if one is named, can be one."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def is_loopback(url: str) -> bool:
    """Whether the URL names this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def refusal(response: httpx.Response) -> StreambrokerError:
    """The exception of an answer that is no success."""
    request_id = response.headers.get("x-request-id", "")
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            return from_problem(_problem(response.content), request_id)
        except msgspec.DecodeError:
            pass
    status = response.status_code
    if status < 400:
        return ProtocolError(f"the broker's URL answers {status} and leads elsewhere; give the URL that it leads to")
    detail = f"{response.url.host} answered {status} {response.reason_phrase}, and not as a streambroker does"
    return kind_of("", status)(ProblemDocument("", status, detail=detail), request_id)


def decoded(response: httpx.Response, result: Any) -> Any:
    """The answer's value. Raises `ProtocolError` for what is not what was due."""
    if result is None or result is bytes:
        return None if result is None else response.content
    decoder = _decoders.get(result)
    if decoder is None:
        decoder = _decoders[result] = JsonDecoder(result)
    try:
        return decoder(response.content)
    except BrokerError as error:
        raise ProtocolError(f"the answer of {response.url.host} is not what was due: {error}") from error


def _given(query: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (query or {}).items() if value is not None}


def _past_proxies(url: str) -> dict[str, None] | None:
    """A proxy of the environment's cannot reach this machine's loopback; certificates named there still count."""
    return {"http://": None, "https://": None, "all://": None} if is_loopback(url) else None


def _lost(error: httpx.TransportError) -> ConnectionLost:
    text, url = str(error) or type(error).__name__, error.request.url
    if not isinstance(error, _NEVER_SENT):
        return lost(url.scheme, text)
    return unreachable(url.scheme, f"{url.host}:{url.port or ''}".rstrip(":"), text)
