"""Who consumes what at the moment, by whatever door: subscriptions, polls, webhooks, the own program."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from streambroker.core.errors import NotFound
from streambroker.protocol.times import rfc3339

SAMPLE_MS = 5_000
"""How often a seat's rate is measured: it is one of the last five to ten seconds."""

Kind = Literal["websocket", "long_poll", "webhook", "embedded"]
LeaseMode = Literal["session", "fixed"]


class Consumer(msgspec.Struct):
    """A consumer as users are told of it.

    `sub` is the subscription's name or the webhook's id, null for a poll; `address` is the webhook's host.
    """

    id: str
    kind: Kind
    user: str
    queue: str
    sub: str | None
    credit: int
    in_flight: int
    delivered_per_s: float
    paused: bool
    address: str
    since: str
    lease_mode: LeaseMode


class Standing(NamedTuple):
    """How a consumer stands: the most messages that it takes at a time, those it holds, whether it paused itself."""

    credit: int
    in_flight: int
    paused: bool


class Seat:
    """One consumer of one queue, for as long as it is there. `since` is in milliseconds since 1970.

    Whoever delivers to it adds to `delivered`. `dismiss` ends it from outside, and whatever else it came with.
    """

    __slots__ = (
        "_last", "_rate", "address", "delivered", "dismiss", "id", "kind", "lease_mode", "queue", "since", "standing",
        "sub", "user",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        user: str,
        queue: str,
        sub: str | None,
        address: str,
        since: int,
        lease_mode: LeaseMode,
        standing: Callable[[], Standing],
        dismiss: Callable[[], None],
    ) -> None:
        self.id = ""
        self.kind = kind
        self.user = user
        self.queue = queue
        self.sub = sub
        self.address = address
        self.since = since
        self.lease_mode = lease_mode
        self.standing = standing
        self.dismiss = dismiss
        self.delivered = 0
        self._last = since, 0
        self._rate = 0.0

    def sample(self, now: int) -> None:
        """Measure its rate since the last sample."""
        at, before = self._last
        self._rate = round((self.delivered - before) * 1_000 / max(now - at, 1_000), 1)
        self._last = now, self.delivered

    def shown(self) -> Consumer:
        """As users are told of it."""
        standing = self.standing()
        return Consumer(
            self.id,
            self.kind,
            self.user,
            self.queue,
            self.sub,
            standing.credit,
            standing.in_flight,
            self._rate,
            standing.paused,
            self.address,
            rfc3339(self.since),
            self.lease_mode,
        )


class Roster:
    """Owns the seats, in the order in which they were taken. Used from the event loop."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat] = {}
        # So that an id of before a restart names nobody.
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._seats)

    def enter(self, seat: Seat) -> None:
        """Somebody consumes from now on; its seat gets an id. Later ids are larger."""
        seat.id = f"{self._prefix}{next(self._numbers):010x}"
        self._seats[seat.id] = seat

    def leave(self, seat: Seat) -> None:
        """And does so no more; nothing happens where it had left."""
        self._seats.pop(seat.id, None)

    def find(self, seat_id: str) -> Seat:
        """The seat with that id. Raises `NotFound`."""
        seat = self._seats.get(seat_id)
        if seat is None:
            raise no_such_consumer()
        return seat

    def seats(self) -> Iterator[Seat]:
        """All of them; nobody may enter or leave meanwhile."""
        return iter(self._seats.values())

    def sample(self, now: int) -> None:
        """Measure all rates; called every `SAMPLE_MS`."""
        for seat in self._seats.values():
            seat.sample(now)


def no_such_consumer() -> NotFound:
    """There is none, or one that must not be told of."""
    return NotFound("there is no such consumer; GET /consumers lists those that there are")
