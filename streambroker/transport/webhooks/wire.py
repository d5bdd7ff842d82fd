"""One connection to a receiver: HTTP/1.1 (RFC 9112), parsed by h11, one request after another.

On asyncio's protocols rather than on a client library: a push is one write and one read, and a library that can do more
takes longer for these than the whole broker for the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import cast

import h11

from streambroker.transport.webhooks.answers import Headers

MAX_HEAD = 64 * 1024
_MAX_UNREAD = 64 * 1024
"""What came and was not looked at yet; beyond that nothing is taken from the socket."""


class NotHttp(Exception):
    """What the peer says is not HTTP/1.1."""


class Wire(asyncio.Protocol):
    """Owns its transport; `connected` makes one. Errors are `OSError`s and `NotHttp`."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._news = asyncio.Event()
        self._busy = False
        self.ended = False
        self._lost: Exception | None = None
        self._unread = 0
        self._expiry: asyncio.TimerHandle | None = None

    # -- what the loop tells -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.ended:
            return
        if not self._busy:
            self.abort()  # an answer to nothing would be taken for the next one's
            return
        self._http.receive_data(data)
        self._unread += len(data)
        if self._unread > _MAX_UNREAD and self._transport is not None:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._lost = exc
        self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._http.receive_data(b"")
        self._news.set()

    # -- one request ---------------------------------------------------------------------------------------------------

    async def ask(self, path: bytes, headers: Headers, body: bytes) -> h11.Response:
        """POST, and return the head of the answer; to be followed by `body`, and by `rest` or `abort`."""
        assert self._transport is not None
        self._busy = True
        events = h11.Request(method=b"POST", target=path, headers=list(headers)), h11.Data(body), h11.EndOfMessage()
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        while not isinstance(event := await self._event(), h11.Response):
            if isinstance(event, h11.ConnectionClosed):
                raise NotHttp("the connection was closed without an answer")
        return event

    async def body(self) -> AsyncIterator[bytes]:
        """What the answer says, part by part."""
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def _event(self) -> object:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if self._lost is not None:
                    raise ConnectionError(str(self._lost) or "the connection was lost") from None
                raise NotHttp(str(error)) from None
            if event is not h11.NEED_DATA:
                return event
            self._take_more()
            self._news.clear()
            await self._news.wait()

    def _take_more(self) -> None:
        if self._unread and self._transport is not None:
            self._unread = 0
            self._transport.resume_reading()

    def rest(self, seconds: float) -> bool:
        """Whether another request can follow; for `seconds`, after which it closes itself. It is closed otherwise."""
        if self.ended or self._http.their_state is not h11.DONE or self._http.our_state is not h11.DONE:
            self.abort()
            return False
        if self._http.trailing_data[0]:
            self.abort()
            return False
        self._http.start_next_cycle()
        self._busy = False
        self._take_more()  # also what comes unasked must be noticed
        self._expiry = asyncio.get_running_loop().call_later(seconds, self.abort)
        return True

    def wake(self) -> bool:
        """Whether it is still there after a `rest`."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        return not self.ended

    def abort(self) -> None:
        """Close at once; a request under way fails."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._transport is not None:
            self._transport.abort()
        self._end()


async def connected(address: str, port: int, trust: ssl.SSLContext | None, name: str, within_s: float) -> Wire:
    """A connection to an address; with `trust` over TLS, whose certificate has to be for `name`. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(within_s):
        server = None if trust is None else name
        _, wire = await loop.create_connection(Wire, address, port, ssl=trust, server_hostname=server)
    return wire
