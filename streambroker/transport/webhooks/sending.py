"""One request to a receiver: to an address that was checked, no further than that, and not for long.

Built on connections of its own, and not on an HTTP client: it follows no redirects, reads no proxies from the
environment, keeps no cookies, and unpacks no compressed answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import certifi
import h11

from streambroker import __version__
from streambroker.transport.webhooks.addresses import Blocked, Target, Vetting
from streambroker.transport.webhooks.answers import Answer, Headers, Outcome
from streambroker.transport.webhooks.wire import NotHttp, Wire, connected

CONNECT_S = 5.0
MAX_RESPONSE = 64 * 1024
MAX_EXCERPT = 1_024
LONGEST_RETRY_AFTER_MS = 86_400_000
_KEEP_ALIVE_S = 4.0
"""Shorter than what servers keep an idle connection for: one that ends as it is used again fails a delivery."""
_AGENT = f"streambroker/{__version__}".encode()
_UNREADABLE = re.compile(r"[^\t\n\r -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Lines:
    """Makes the lines to receivers. `wall` gives milliseconds since 1970 UTC.

    Certificates are trusted that the system trusts (SSL_CERT_FILE and SSL_CERT_DIR say which), or Mozilla.
    """

    def __init__(self, vetting: Vetting, wall: Callable[[], int]) -> None:
        self._vetting = vetting
        self._trust = ssl.create_default_context()
        self._trust.load_verify_locations(certifi.where())
        self._trust.set_alpn_protocols(["http/1.1"])
        self._wall = wall

    def __call__(self, target: Target, connections: int) -> Line:
        """A line that keeps so many connections; to be closed by whoever asked for it."""
        return Line(target, self._vetting, connections, self._trust, self._wall)


class Line:
    """Requests to one receiver. Owns its connections, which are nobody else's: a name on one is proven once.

    There are as many connections as requests at a time; `connections` of them are kept for a while when they have
    nothing to do. `wall` gives milliseconds since 1970, for a Retry-After that is a date.
    """

    def __init__(
        self, target: Target, vetting: Vetting, connections: int, trust: ssl.SSLContext, wall: Callable[[], int]
    ) -> None:
        self._target = target
        self._vetting = vetting
        self._most = connections
        self._trust = trust if target.secure else None
        self._wall = wall
        self._busy: set[Wire] = set()
        self._idle: dict[str, list[Wire]] = {}
        self._own = (
            (b"host", target.authority.encode()),
            (b"user-agent", _AGENT),
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
        )
        self._path = target.path.encode()

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
        except TimeoutError:
            return answer("timeout", f"no answer within {timeout_ms} ms")
        except OSError as error:
            return answer("unreachable", _told(error))
        except NotHttp as error:
            return answer("unreachable", f"what it answers is not HTTP/1.1: {_told(error)}")

    async def _send(
        self, addresses: Sequence[str], body: bytes, headers: Headers, began: float, deadline: asyncio.Timeout
    ) -> Answer:
        address, wire = await self._reach(addresses)
        self._busy.add(wire)
        try:
            length = (b"content-length", str(len(body)).encode())
            response = await wire.ask(self._path, [*self._own, length, *headers], body)
            latency_ms, left_s = _since(began), (deadline.when() or 0) - asyncio.get_running_loop().time()
            deadline.reschedule(None)  # the head has said it: what comes after it takes no verdict back
            return self._judged(response, latency_ms, await _excerpt(wire, response, left_s))
        finally:
            self._busy.discard(wire)
            self._put_away(address, wire)

    async def _reach(self, addresses: Sequence[str]) -> tuple[str, Wire]:
        """A connection to the first address that has one. Raises `OSError`."""
        for address in addresses:
            while waiting := self._idle.get(address):
                if (wire := waiting.pop()).wake():
                    return address, wire
        # The certificate is checked against the name, though the connection goes to the address.
        target, within_s = self._target, CONNECT_S / min(len(addresses), 2)
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return address, await connected(address, target.port, self._trust, target.host, within_s)
        return addresses[-1], await connected(addresses[-1], target.port, self._trust, target.host, within_s)

    def _put_away(self, address: str, wire: Wire) -> None:
        if not wire.rest(_KEEP_ALIVE_S):
            return
        kept = self._idle.setdefault(address, [])
        kept[:] = [one for one in kept if not one.ended]
        if len(kept) < self._most:
            kept.append(wire)
        else:
            wire.abort()

    def _judged(self, response: h11.Response, latency_ms: int, text: str | None) -> Answer:
        status, error = response.status_code, None
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
        for wire in [*self._busy, *(one for kept in self._idle.values() for one in kept)]:
            wire.abort()
        self._idle.clear()


async def _excerpt(wire: Wire, response: h11.Response, left_s: float) -> str | None:
    """How the body begins, where it is text; a body that has not ended in `left_s` is read no further."""
    found, size = b"", 0
    with contextlib.suppress(OSError, NotHttp):
        async with asyncio.timeout(left_s):
            async for part in wire.body():
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
    except (ValueError, OverflowError):
        return None
    left_s = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.fromtimestamp(now_s, UTC)
    return min(max(round(left_s.total_seconds() * 1_000), 0), LONGEST_RETRY_AFTER_MS)


def _header(response: h11.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1").strip() for key, value in response.headers if key == name), None)


def _told(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]


def _since(began: float) -> int:
    return round((time.perf_counter() - began) * 1_000)
