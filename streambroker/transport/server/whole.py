"""A whole answer at once: one call and one system call for head and body.

ASGI sends the head as a list of fields and the body after it, and uvicorn checks each field for what must not stand in
it. That costs a small answer more than its making; so the broker's own, whose fields are made by it, go past that.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

EXTENSION = "streambroker.answer"
"""The key of the scope under which a `Whole` waits for the answer."""
_CLOSE = b"connection: close\r\n"


class Whole:
    """Answers one request. `always` is what goes with every answer: whole lines of the head."""

    __slots__ = ("_always", "_cycle", "_transport")

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport, always: bytes) -> None:
        self._cycle: RequestResponseCycle | None = cycle
        self._transport = transport
        self._always = always

    def body(self) -> bytes | None:
        """What the next `receive` would bring, where that is the whole body; None, and nothing taken, otherwise.

        A small body has come before the application is called; what ASGI takes to hand it over costs more than it.
        """
        cycle = self._cycle
        if cycle is None or cycle.more_body or cycle.disconnected or cycle.response_complete:
            return None
        cycle.flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    async def __call__(self, status: int, head: bytes, body: bytes) -> None:
        """Send an answer. `head` is the lines of its fields, `content-length` among them unless there is none.

        The caller vouches for them: no value may hold a line break that a client chose.
        """
        # The cycle holds the scope that holds this. Let go, else each request leaves garbage that only a collection
        # frees, and a busy broker stands still for 20 ms a few times in a second.
        cycle, self._cycle = self._cycle, None
        if cycle is None or cycle.response_started:
            raise RuntimeError("the answer has begun already")
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        close = b"" if cycle.keep_alive else _CLOSE
        self._transport.write(b"".join((STATUS_LINE[status], self._always, head, close, b"\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._transport.close()
        cycle.on_response()
