"""Keeps a WebSocket to the broker open for as long as somebody needs it: opens, comes back, shows newer tokens."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from streambroker.client import frames
from streambroker.client.errors import (
    ApiError,
    BadRequest,
    ConnectionLost,
    Forbidden,
    NotFound,
    ProblemDocument,
    ProtocolError,
    StreambrokerError,
    Unauthenticated,
    Untrusted,
    from_code,
    from_problem,
    kind_of,
)
from streambroker.client.http import is_loopback
from streambroker.client.link import End, Link, Party
from streambroker.client.retrying import RetryPolicy
from streambroker.client.tokens import TokenSource
from streambroker.client.unreachable import unreachable

log = logging.getLogger("streambroker.client")

OPEN_TIMEOUT_S = 10.0
KEEPALIVE_S = 20.0
MAX_SIZE = 64 * 1024 * 1024
"""Bytes of one message of the broker's: far more than it puts together, and still a bound."""
PATIENCE_MS = 5_000
"""The least wait after 4429, where the broker has not said how long."""
WARN_AFTER = 3
"""The failures after which somebody is told, once for each time that the broker is away: a passing one is no news."""

_NOBODY = "who is asking? Give the client a token, by token= or STREAMBROKER_TOKEN, or username= and password="
_FINAL = {4400: "malformed", 4401: "unauthenticated", 4403: "forbidden", 4404: "not_found"}
_RECONNECT = RetryPolicy(base_s=0.1, most_s=5.0)
_problem = msgspec.json.Decoder(ProblemDocument).decode


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """How the connection comes back: the waits grow as `policy` says, `chance` is their jitter, `sleep` waits."""

    policy: RetryPolicy = _RECONNECT
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class User(Party, Protocol):
    """What a connection is kept for."""

    def wants_connection(self) -> bool:
        """Whether there is anything to send or to receive."""
        ...

    async def before_opening(self) -> None:
        """Another connection is about to be opened; what must be settled first may take its time."""
        ...

    def opened(self, link: Link) -> None:
        """A connection is there."""
        ...

    def ended(self, link: Link) -> None:
        """It is gone; its requests have been told."""
        ...

    def given_up(self, error: StreambrokerError) -> None:
        """There will be no other: who waits for one must be told why."""
        ...


class Connection:
    """At most one link at a time, and the task that keeps it. Owns both.

    It is opened at the first `need` and opened again whenever it ends, as long as its `user` wants it. The broker's
    close codes decide: 4400, 4401, 4403 and 4404 are the last word, 4450 asks for a newer token, after all others it
    comes back, with waits that grow while nothing is granted.
    """

    def __init__(
        self,
        url: str,
        tokens: Callable[[], TokenSource],
        user: User,
        *,
        reconnecting: Reconnecting | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._uri = _websocket_uri(url)
        self._proxy: Literal[True] | None = None if is_loopback(url) else True
        # What REST trusts, so that both halves reach the same brokers.
        self._trust = httpx.create_ssl_context(verify) if self._uri.startswith("wss:") else None
        self._tokens = tokens
        self._user = user
        self._reconnecting = reconnecting or Reconnecting()
        self._shown: str | None = None
        self._trusted = False
        """Whether it has ever been open: then the URL is right, and a certificate that is not trusted may pass."""
        self._task: asyncio.Task[None] | None = None
        self._refreshing: set[asyncio.Task[None]] = set()
        self._again_at_once = False
        self._closed = False
        self.link: Link | None = None
        self.trouble: StreambrokerError | None = None
        """Why there is no connection now, as far as is known."""

    def need(self) -> None:
        """See that there is a connection, and that what waits is sent."""
        if self.link is not None:
            self.link.wake()
        elif not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._keep(), name="streambroker connection")

    async def renew(self) -> None:
        """Close it cleanly; the next one is opened with whatever token there is then."""
        if self.link is not None:
            self._again_at_once = True
            await self.link.close()

    async def close(self) -> None:
        """Close it cleanly and stay closed."""
        self._closed = True
        task, self._task = self._task, None
        for refreshing in self._refreshing:
            refreshing.cancel()
        if self.link is not None:
            await self.link.close()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    # -- keeping it ----------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Open it again and again. A fault of our own must not leave anybody waiting either."""
        try:
            await self._serve()
        except StreambrokerError as error:
            log.warning("the connection to the broker is given up: %s", error)
            self._user.given_up(error)
        except Exception as error:
            log.exception("the connection to the broker failed")
            self._user.given_up(ProtocolError(f"a fault of the SDK: {error!r}"))

    async def _serve(self) -> None:
        """Raises what is final."""
        tries = 0
        while self._user.wants_connection() and not self._closed:
            try:
                link = await self._opened()
            except StreambrokerError as error:
                if _is_final(error) or (isinstance(error, Untrusted) and not self._trusted):
                    raise
                self.trouble = error
            else:
                self.trouble = await self._run(link)
                tries = 0 if link.proven else tries
            if self.trouble is None:
                continue
            tries += 1
            wait = self._reconnecting.policy.wait_s(tries, self.trouble, self._reconnecting.chance())
            level = logging.WARNING if tries == WARN_AFTER else logging.INFO
            log.log(level, "no connection to the broker (%s); trying again in %.1f s", self.trouble, wait)
            await self._reconnecting.sleep(wait)

    async def _run(self, link: Link) -> StreambrokerError | None:
        """Serve a link to its end; why to wait before the next one, None to go on at once. Raises what is final."""
        self.link, self.trouble = link, None
        self._user.opened(link)
        link.wake()
        try:
            end = await link.run()
        finally:
            self.link = None
            self._user.ended(link)
        log.info("the connection to the broker has ended: %d %s", end.code, end.reason)
        return await self._after(end)

    async def _after(self, end: End) -> StreambrokerError | None:
        if self._again_at_once:
            self._again_at_once = False
            return None
        if end.code in _FINAL:
            raise from_code(_FINAL[end.code], end.reason)
        if end.code == 4450:
            if await self._tokens().renew(self._shown) in (None, self._shown):
                raise from_code("unauthenticated", "the token expired, and there is no way to a newer one")
            return None
        if end.code == 4429:
            return _too_many(end.reason)
        return ConnectionLost(f"{end.code} {end.reason}".strip())

    # -- opening it ----------------------------------------------------------------------------------------------------

    async def _opened(self) -> Link:
        """A link that has been welcomed. Raises `ConnectionLost` and what the broker answers."""
        await self._user.before_opening()
        token = await self._tokens().token()
        if token is None:
            raise from_code("unauthenticated", _NOBODY)  # the broker would only wait for a hello, and we for its answer
        try:
            socket = await self._socket(token)
        except Unauthenticated:
            newer = await self._tokens().renew(token)
            if newer is None or newer == token:
                raise
            token, socket = newer, await self._socket(newer)
        self._shown = token
        try:
            welcome, *early = await _first(socket)
            self._trusted = True
            return Link(socket, welcome, early, self._user)
        except BaseException:
            await socket.close()
            raise

    async def _socket(self, token: str) -> ClientConnection:
        try:
            return await _Connect(
                self._uri,
                subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
                additional_headers={"Authorization": f"Bearer {token}"},
                user_agent_header="streambroker-python",
                compression=None,
                proxy=self._proxy,
                open_timeout=OPEN_TIMEOUT_S,
                ping_interval=KEEPALIVE_S,
                ping_timeout=KEEPALIVE_S,
                close_timeout=2,
                max_size=MAX_SIZE,
                ssl=self._trust,
            )
        except InvalidStatus as refused:
            raise _refusal(refused) from refused
        except (OSError, InvalidHandshake, WebSocketException, EOFError) as error:
            why = str(error) or type(error).__name__
            scheme = "" if self._trusted else self._uri.partition(":")[0]  # one that was right needs no advice
            raise unreachable(scheme, self._uri, why) from error

    # -- the token -----------------------------------------------------------------------------------------------------

    def expiring(self, link: Link) -> None:
        """The token ends soon: show a newer one, if there is one; else the broker will close with 4450."""
        task = asyncio.create_task(self._show_newer(link))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _show_newer(self, link: Link) -> None:
        try:
            newer = await self._tokens().renew(self._shown)
        except StreambrokerError as error:
            log.warning("no newer token: %s", error)
            return
        if newer is not None and newer != self._shown and link.alive:
            self._shown = newer
            link.say(frames.request("refresh", link.expect(_log_refusal), token=newer))


class _Connect(connect):
    """Leads nowhere else: whoever it would lead to could give out messages, and be shown the token's successors."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """See `connect`. What was answered stays what was answered."""
        return exc


async def _first(socket: ClientConnection) -> tuple[frames.Welcome, *tuple[frames.ServerFrame, ...]]:
    """The welcome, and what came in one message with it."""
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            welcome, *early = frames.decoded(await socket.recv(decode=False))
    except TimeoutError:
        raise ConnectionLost(f"no welcome came within {OPEN_TIMEOUT_S:g} s") from None
    except WebSocketException as error:
        raise ConnectionLost(str(error)) from error
    if not isinstance(welcome, frames.Welcome):
        raise ProtocolError("the first frame is no welcome; is that a streambroker?")
    return welcome, *early


def _log_refusal(answer: object) -> None:
    if isinstance(answer, ApiError):
        log.warning("the broker refused a newer token: %s", answer)


def _refusal(refused: InvalidStatus) -> StreambrokerError:
    """The error of an answer in place of the upgrade."""
    response = refused.response
    try:
        return from_problem(_problem(bytes(response.body or b"")), response.headers.get("x-request-id", ""))
    except msgspec.DecodeError:
        status = response.status_code
        if status < 400:
            return ProtocolError(
                f"the broker's URL answers {status} and leads elsewhere; give the URL that it leads to"
            )
        detail = f"the broker's URL answers {status} in place of a WebSocket"
        return kind_of("", status)(ProblemDocument("", status, detail=detail))


def _too_many(reason: str) -> StreambrokerError:
    return from_problem(ProblemDocument("rate_limited", 429, detail=reason, retry_after_ms=PATIENCE_MS))


def _is_final(error: StreambrokerError) -> bool:
    """Whether trying again cannot help: who we are, what we may, or that it is no broker at all."""
    return isinstance(error, Unauthenticated | Forbidden | NotFound | BadRequest | ProtocolError)


def _websocket_uri(url: str) -> str:
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", "", ""))
