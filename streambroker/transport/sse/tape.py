"""What happened in a queue lately: kept while somebody watches it and for a while after, so that a stream can go on."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from typing import NamedTuple

from streambroker.broker.events import Observers, QueueEvent
from streambroker.transport.sse import wire

WINDOW = 10_000
"""The most events that are kept of one queue."""
WINDOWS = 50_000
"""The most that are kept of all queues together; each has an equal share."""
LINGER_S = 120.0
"""How long a queue's events are kept when nobody watches it any more."""
MOST_LINGERING = 1_000
"""So many queues that nobody watches are kept; of more, those that were left first are forgotten."""

_position = re.compile(r"([0-9a-f]{12})-([0-9]{1,15})").fullmatch


class Entry(NamedTuple):
    """One event, as it is sent to everybody."""

    kind: str
    text: bytes


class Tape:
    """The last events of one queue, numbered from 1; `broker.events.Observer`.

    `id` is its own: another tape, of the same queue too, has another one, so that what was told by a broker before its
    restart, or before a tape was forgotten, is not taken for something on this one.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.id = secrets.token_hex(6)
        self.first = 1
        """The number of the oldest event that is kept, or of the next one where none is."""
        self.next = 1
        """The number that the next event will have."""
        self.most = WINDOW
        self.dropped = False
        """Whether the queue was deleted."""
        self.readers: set[asyncio.Event] = set()
        """Set whenever something is new here."""
        self._entries: dict[int, Entry] = {}

    def happened(self, events: Iterator[QueueEvent], count: int) -> None:
        """See `Observer`."""
        before = self.next
        for event in events:
            if event.event in wire.KINDS:
                self._entries[self.next] = Entry(event.event, wire.event(event, self.position(self.next)))
                self.next += 1
        if self.next != before:
            self.hold(self.most)
            self._wake()

    def hold(self, most: int) -> None:
        """Keep so many from now on."""
        self.most = most
        while self.next - self.first > most:
            del self._entries[self.first]
            self.first += 1

    def drop(self) -> None:
        """The queue was deleted: nothing more happens here."""
        self.dropped = True
        self._wake()

    def _wake(self) -> None:
        for reader in self.readers:
            reader.set()

    def position(self, number: int) -> str:
        """The id of an event, after which to go on."""
        return f"{self.id}-{number}"

    def after(self, position: str) -> int | None:
        """The number of the event that follows the one with that id; None where it is of another tape, or none."""
        found = _position(position)
        if found is None or found[1] != self.id or int(found[2]) >= self.next:
            return None
        return int(found[2]) + 1

    def read(self, number: int) -> Entry:
        """The event with that number, which lies between `first` and `next`."""
        return self._entries[number]


class Tapes:
    """Owns the tape of each queue that is watched, or was a moment ago. Owned by the event loop.

    The broker makes events of no other queues.
    """

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._tapes: dict[str, Tape] = {}
        self._lingering: dict[Tape, asyncio.TimerHandle] = {}

    def begin(self, queue: str, reader: asyncio.Event) -> Tape:
        """The queue's tape; `reader` is set whenever something is new on it."""
        tape = self._tapes.get(queue)
        if tape is None:
            tape = self._tapes[queue] = Tape(queue)
            self._observers.watch(queue, tape, lambda: self._dropped(queue))
            self._share()
        elif (timer := self._lingering.pop(tape, None)) is not None:
            timer.cancel()
        tape.readers.add(reader)
        return tape

    def end(self, tape: Tape, reader: asyncio.Event) -> None:
        """It is read by that one no more."""
        tape.readers.discard(reader)
        if tape.readers or self._tapes.get(tape.queue) is not tape:
            return
        self._lingering[tape] = asyncio.get_running_loop().call_later(LINGER_S, self._forget, tape)
        if len(self._lingering) > MOST_LINGERING:
            self._forget(next(iter(self._lingering)))

    def close(self) -> None:
        """Forget what nobody reads any more."""
        for tape in list(self._lingering):
            self._forget(tape)

    def _forget(self, tape: Tape) -> None:
        if (timer := self._lingering.pop(tape, None)) is not None:
            timer.cancel()
        del self._tapes[tape.queue]
        self._observers.unwatch(tape.queue, tape)
        self._share()

    def _dropped(self, queue: str) -> None:
        tape = self._tapes[queue]
        self._forget(tape)
        tape.drop()

    def _share(self) -> None:
        """What each may keep, so that all together keep no more than `WINDOWS`."""
        most = min(WINDOW, max(WINDOWS // max(len(self._tapes), 1), 1))
        for tape in self._tapes.values():
            if tape.most != most:
                tape.hold(most)
