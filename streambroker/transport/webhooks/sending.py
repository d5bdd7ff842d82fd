"""One request to a receiver: to an address that was checked, no further than that, and not for long.

Built on httpcore, and not on what is built on that: it follows no redirects, reads no proxies from the environment,
keeps no cookies, and unpacks no compressed answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterable, Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore

from streambroker import __version__
from streambroker.transport.webhooks.addresses import Blocked, Target, Vetting
from streambroker.transport.webhooks.answers import Answer, Headers, Outcome

CONNECT_S = 5.0
MAX_RESPONSE = 64 * 1024
MAX_EXCERPT = 1_024
LONGEST_RETRY_AFTER_MS = 86_400_000
_KEEP_ALIVE_S = 4.0
"""Shorter than what servers keep an idle connection for: one that ends as it is used again fails a delivery."""
_CLOSE_S = 1.0
_BROKEN = (OSError, TimeoutError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
_AGENT = f"streambroker/{__version__}".encode()
_UNREADABLE = re.compile(r"[^\t\n\r -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Lines:
    """Makes the lines to receivers. `wall` gives milliseconds since 1970 UTC.

    Certificates are trusted that the system trusts (SSL_CERT_FILE and SSL_CERT_DIR say which), or Mozilla.
    """

    def __init__(self, vetting: Vetting, wall: Callable[[], int]) -> None:
        self._vetting = vetting
        self._trust = httpcore.default_ssl_context()
        self._wall = wall

    def __call__(self, target: Target, connections: int) -> Line:
        """A line that opens so many connections at a time; to be closed by whoever asked for it."""
        return Line(target, self._vetting, connections, self._trust, self._wall)


class Line:
    """Requests to one receiver. Owns its connections, which are nobody else's: a name on one is proven once.

    `wall` gives milliseconds since 1970, for a Retry-After that is a date.
    """

    def __init__(
        self, target: Target, vetting: Vetting, connections: int, trust: ssl.SSLContext, wall: Callable[[], int]
    ) -> None:
        self._target = target
        self._vetting = vetting
        self._wall = wall
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_KEEP_ALIVE_S,
        )

    async def post(self, body: bytes, headers: Headers, timeout_ms: int) -> Answer:
        """POST a body of JSON. All of it, from looking up the name to the answer's head, takes `timeout_ms` at most."""
        began = time.perf_counter()

        def answer(outcome: Outcome, error: str) -> Answer:
            return Answer(outcome, _since(began), error=error)

        try:
            async with asyncio.timeout(timeout_ms / 1_000) as deadline:
                addresses = await self._vetting.addresses(self._target)
                return await self._send(addresses, body, headers, began, deadline)
        except Blocked as error:
            return answer("blocked", f"the host is {error}, and webhooks may not connect to that")
        except (TimeoutError, httpcore.TimeoutException):
            return answer("timeout", f"no answer within {timeout_ms} ms")
        except (OSError, httpcore.NetworkError) as error:
            return answer("unreachable", _told(error))
        except httpcore.ProtocolError as error:
            return answer("unreachable", f"what it answers is not HTTP/1.1: {_told(error)}")

    async def _send(
        self, addresses: Sequence[str], body: bytes, headers: Headers, began: float, deadline: asyncio.Timeout
    ) -> Answer:
        """Try the addresses in turn: until a connection stands, nothing was sent. Raises what httpcore raises."""
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._send_to(address, len(addresses), body, headers, began, deadline)
        return await self._send_to(addresses[-1], len(addresses), body, headers, began, deadline)

    async def _send_to(
        self, address: str, among: int, body: bytes, headers: Headers, began: float, deadline: asyncio.Timeout
    ) -> Answer:
        target = self._target
        url = httpcore.URL(
            scheme=b"https" if target.secure else b"http",
            host=address.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        own = [
            (b"host", target.authority.encode()),
            (b"user-agent", _AGENT),
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        # The certificate is checked against the name, though the connection goes to the address.
        connect_s = CONNECT_S / min(among, 2)
        extensions = {"sni_hostname": target.host, "timeout": {"connect": connect_s}}
        request = httpcore.Request(b"POST", url, headers=[*own, *headers], content=body, extensions=extensions)
        response = await self._pool.handle_async_request(request)
        latency_ms, left_s = _since(began), (deadline.when() or 0) - asyncio.get_running_loop().time()
        deadline.reschedule(None)  # the head has said it: what comes after it takes no verdict back
        try:
            text = await _excerpt(response, left_s)
        finally:
            with contextlib.suppress(*_BROKEN):
                async with asyncio.timeout(_CLOSE_S):
                    await response.aclose()
        return self._judged(response, latency_ms, text)

    def _judged(self, response: httpcore.Response, latency_ms: int, text: str | None) -> Answer:
        status, error = response.status, None
        outcome: Outcome = "refused"
        if 200 <= status < 300:
            outcome = "delivered"
        elif status == 410:
            outcome = "gone"
        elif 300 <= status < 400:
            error = "it redirects, and that is not followed"
        asked = _header(response, b"retry-after") if outcome == "refused" else None
        wait_ms = retry_after_ms(asked, self._wall() / 1_000)
        return Answer(outcome, latency_ms, status, error, text, wait_ms)

    async def close(self) -> None:
        """Close the connections; requests under way fail."""
        with contextlib.suppress(httpcore.NetworkError, OSError, RuntimeError):
            await self._pool.aclose()


async def _excerpt(response: httpcore.Response, left_s: float) -> str | None:
    """How the body begins, where it is text; a body that has not ended in `left_s` is read no further."""
    assert isinstance(response.stream, AsyncIterable)
    found, size = b"", 0
    with contextlib.suppress(*_BROKEN):
        async with asyncio.timeout(left_s):
            async for part in response.stream:
                found += part[: MAX_EXCERPT - len(found)]
                size += len(part)
                if size >= MAX_RESPONSE:
                    break
    encoding = (_header(response, b"content-encoding") or "identity").lower()
    if encoding != "identity":
        return f"({encoding[:32]!r} is not unpacked)"
    return _UNREADABLE.sub("�", found.decode(errors="replace")) or None


def retry_after_ms(value: str | None, now_s: float) -> int | None:
    """How long a Retry-After (RFC 9110 §10.2.3: seconds or a date) says to wait, a day at most; None: nothing."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}", value):
        return min(int(value) * 1_000, LONGEST_RETRY_AFTER_MS)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    left_s = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.fromtimestamp(now_s, UTC)
    return min(max(round(left_s.total_seconds() * 1_000), 0), LONGEST_RETRY_AFTER_MS)


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1").strip() for key, value in response.headers if key.lower() == name), None)


def _told(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]


def _since(began: float) -> int:
    return round((time.perf_counter() - began) * 1_000)
