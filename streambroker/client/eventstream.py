"""A parser of ``text/event-stream`` (HTML standard, §9.2.6), fed with text as it comes; it does no I/O."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple

from streambroker.client.errors import ProtocolError

MAX_EVENT_CHARS = 1_048_576
"""More of one event than that is no event of a streambroker."""


class ServerSentEvent(NamedTuple):
    """One event: its kind, its data, and the last id that the stream has given."""

    event: str
    data: str
    id: str


class EventStreamParser:
    """Owns what is left of a line and the event that is being put together.

    `last_id` is what to go on after: it moves on with whole events only. `retry_ms` is the wait that the server asked
    for, None where it did not.
    """

    def __init__(self, last_id: str = "", retry_ms: int | None = None) -> None:
        self.last_id = last_id
        self.retry_ms = retry_ms
        self._id = last_id
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that are whole with these bytes. Raises `ProtocolError` for one that is too long."""
        text = self._text.decode(chunk)
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
        self._after_cr = text.endswith("\r") if text else self._after_cr
        lines = (self._line + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line = lines.pop()
        self._bounded(len(self._line))
        for line in lines:
            if line:
                self._field(line)
            elif (found := self._whole()) is not None:
                yield found

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value)
            self._bounded(self._size)
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)

    def _whole(self) -> ServerSentEvent | None:
        self.last_id = self._id
        found = ServerSentEvent(self._event or "message", "\n".join(self._data), self.last_id) if self._data else None
        self._event, self._data, self._size = "", [], 0
        return found

    def _bounded(self, size: int) -> None:
        if size > MAX_EVENT_CHARS:
            raise ProtocolError("the stream of events holds one of more than a million characters")
