"""What happened in a queue lately: kept while somebody watches it and for a while after, so that a stream can go on."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

from streambroker.broker.events import Observers, QueueEvent
from streambroker.transport.sse import wire

WINDOW = 10_000
"""The most events that are kept of one queue."""
WINDOWS = 50_000
"""The most that are kept of all queues together; each user who watches has a fair share, for all queues it watches."""
LINGER_S = 120.0
"""How long a queue's events are kept when nobody watches it any more."""
MOST_LINGERING = 1_000
"""So many queues that nobody watches are kept; of more, who left the most loses the one it left first."""

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
        self.readers: dict[asyncio.Event, str] = {}
        """Set whenever something is new here; with the user who reads."""
        self.payers: Counter[str] = Counter()
        """Out of whose shares the events are kept, with how often it reads: 0 of the last one who has left."""
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


def fair(room: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """Who gets how much of `room`: max-min fair, nobody has less since another wants more than an equal part."""
    found: dict[str, int] = {}
    for index, (who, much) in enumerate(sorted(wanted.items(), key=itemgetter(1))):
        found[who] = min(much, room // (len(wanted) - index))
        room -= found[who]
    return found


class Tapes:
    """Owns the tape of each queue that is watched, or was a moment ago. Owned by the event loop.

    The broker makes events of no other queues. What is kept is shared out by user, and a user's share equally among
    the queues it watches: who watches many shortens its own windows, and nobody else's. What several watch is kept
    out of all their shares.
    """

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._tapes: dict[str, Tape] = {}
        self._paid: dict[str, set[Tape]] = {}
        self._each: dict[str, int] = {}
        self._lingering: dict[str, dict[Tape, asyncio.TimerHandle]] = {}

    def all(self) -> Iterable[Tape]:
        """Those that there are."""
        return self._tapes.values()

    def most(self, queue: str) -> int:
        """How many events are kept of a queue whose tape there is."""
        return self._tapes[queue].most

    def begin(self, queue: str, reader: asyncio.Event, user: str) -> Tape:
        """The queue's tape; `reader` is set whenever something is new on it."""
        tape = self._tapes.get(queue)
        if tape is None:
            tape = self._tapes[queue] = Tape(queue)
            self._observers.watch(queue, tape, lambda: self._dropped(queue))
        elif not tape.readers:
            self._taken_up(tape)
        tape.readers[reader] = user
        tape.payers[user] += 1
        if tape not in (paid := self._paid.setdefault(user, set())):
            paid.add(tape)
            self._share(tape)
        return tape

    def end(self, tape: Tape, reader: asyncio.Event) -> None:
        """It is read by that one no more."""
        user = tape.readers.pop(reader)
        tape.payers[user] -= 1
        if self._tapes.get(tape.queue) is not tape or tape.payers[user]:
            return
        if tape.readers:
            self._pays_no_more(user, tape)
            self._share(tape)
            return
        timer = asyncio.get_running_loop().call_later(LINGER_S, self._forget, tape)
        self._lingering.setdefault(user, {})[tape] = timer
        if sum(map(len, self._lingering.values())) > MOST_LINGERING:
            most = max(self._lingering.values(), key=len)
            self._forget(next(iter(most)))

    def close(self) -> None:
        """Forget what nobody reads any more."""
        for tape in [tape for left in self._lingering.values() for tape in left]:
            self._forget(tape)

    def _taken_up(self, tape: Tape) -> None:
        """Somebody reads what was lingering: who left it last pays for it no more."""
        (user,) = tape.payers
        self._lingering[user].pop(tape).cancel()
        if not self._lingering[user]:
            del self._lingering[user]
        self._pays_no_more(user, tape)

    def _pays_no_more(self, user: str, tape: Tape) -> None:
        del tape.payers[user]
        self._paid[user].discard(tape)
        if not self._paid[user]:
            del self._paid[user]

    def _forget(self, tape: Tape) -> None:
        if not tape.readers:
            self._taken_up(tape)
        for user in list(tape.payers):
            self._pays_no_more(user, tape)
        del self._tapes[tape.queue]
        self._observers.unwatch(tape.queue, tape)
        self._share()

    def _dropped(self, queue: str) -> None:
        tape = self._tapes[queue]
        self._forget(tape)
        tape.drop()

    def _share(self, *changed: Tape) -> None:
        """What each may keep, so that all together keep no more than `WINDOWS`; `changed` have other payers now."""
        rooms = fair(WINDOWS, {user: WINDOW * len(tapes) for user, tapes in self._paid.items()})
        before, self._each = self._each, {user: room // len(self._paid[user]) for user, room in rooms.items()}
        others = (self._paid[user] for user, each in self._each.items() if before.get(user) != each)
        self._hold(set(changed).union(*others))

    def _hold(self, tapes: Iterable[Tape]) -> None:
        for tape in tapes:
            tape.hold(min(WINDOW, max(1, sum(self._each[user] for user in tape.payers))))
