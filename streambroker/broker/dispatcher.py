"""Who gets the messages of one queue on this node: consumers in turn, as far as their credit goes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from streambroker.broker.clock import Clock
from streambroker.broker.quotas import InFlight, Leases
from streambroker.broker.rates import Meter
from streambroker.core.lifecycle import LeaseTerms
from streambroker.core.message import Message, weight
from streambroker.store.contract import Claim, Queue

CLAIM_EACH, CLAIM_ALL = 500, 2_000
"""Messages in one claim of the backlog, for one consumer and for all: bounds how long the writer is busy with it, and
lets it work on the next claim while this one's messages are sent."""


class Consumer(Protocol):
    """What a dispatcher needs of one who takes messages. `holder` is the user that it takes them for."""

    holder: str

    def wants(self) -> tuple[int, int]:
        """How many messages, and about how many bytes, may be claimed for it now."""
        ...

    def terms(self, token: str, now: int, lease_ms: int) -> LeaseTerms:
        """What its leases are given out with."""
        ...

    def reserve(self, count: int, size: int) -> None:
        """A claim for so much is on its way."""
        ...

    def deliver(self, count: int, size: int, messages: list[Message]) -> list[Message]:
        """The claim that reserved `count` and `size` brought these; what it can no longer take comes back."""
        ...

    def queue_dropped(self) -> None:
        """The queue was deleted, and it has been taken out of its line."""
        ...


Reservation = tuple[Consumer, int, int]


Served = Callable[[list[list[Message]]], None]
Claimer = Callable[["Dispatcher", Sequence[Claim], Served], None]
"""Submits claims, and calls back with what they brought."""


class Tokens:
    """Makes fencing tokens: 128 random bits each, never made again, also across restarts.

    A consumer's claims in one turn of the loop share a token. They go into one transaction, in which no message can be
    handed out twice, so a token still stands for one delivery of a message; and acks by few tokens are cheap.
    """

    _DIGITS = 32

    def __init__(self) -> None:
        self._pool = ""
        self._next = 0
        self._turn: dict[Consumer, str] = {}

    def of(self, consumer: Consumer) -> str:
        """The token of the consumer's claims in this turn of the loop."""
        token = self._turn.get(consumer)
        if token is None:
            if not self._turn:
                asyncio.get_running_loop().call_soon(self._turn.clear)
            token = self._turn[consumer] = self._take()
        return token

    def _take(self) -> str:
        # Fetched for many at once: a system call for each would cost more than the claim it is for.
        start = self._next
        if start >= len(self._pool):
            self._pool, start = secrets.token_hex(self._DIGITS // 2 * 256), 0
        self._next = start + self._DIGITS
        return self._pool[start : self._next]


class Dispatcher:
    """Owns the line of hungry consumers of one queue; used on the event loop only.

    `_ready` is the hint that messages may be ready. It starts true, a wake-up sets it, and it falls only when a claim
    made after the last wake-up found the queue empty: so no wake-up is lost between looking and waiting.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Clock,
        tokens: Tokens,
        claim: Claimer,
        release: Callable[[Sequence[Message]], object],
        leases: Leases | None = None,
    ) -> None:
        self.queue = queue
        self.leases = leases or Leases(InFlight())
        self.consumers: set[Consumer] = set()
        self.meter = Meter(clock())
        self._clock = clock
        self._tokens = tokens
        self._claim = claim
        self._release = release
        self._hungry: dict[Consumer, None] = {}
        self._ready = True
        self._claiming: frozenset[Consumer] = frozenset()
        self._stopped = False

    def stop(self) -> None:
        """Deliver nothing more: the broker drains."""
        self._stopped = True

    def configure(self, queue: Queue) -> None:
        """The queue's configuration changed, or it was paused or resumed."""
        self.queue = queue
        self._ready = True  # a claim that came while it was paused found nothing, which says nothing
        self.pump()

    def add(self, consumer: Consumer) -> None:
        """A consumer that takes part from now on."""
        self.consumers.add(consumer)
        self.feed(consumer)

    def feed(self, consumer: Consumer) -> None:
        """The consumer may have room again."""
        # Not while a claim for it is on its way: what a later publish brings must not overtake that.
        if consumer in self.consumers and consumer not in self._claiming:
            self._hungry[consumer] = None
            self.pump()

    def remove(self, consumer: Consumer) -> None:
        """The consumer leaves; what is claimed for it on the way is given back when it comes."""
        self.consumers.discard(consumer)
        self._hungry.pop(consumer, None)
        self.leases.users.forget(consumer, self)

    def wake(self) -> None:
        """Messages may be ready."""
        self._ready = True
        self.pump()

    def pump(self) -> None:
        """Claim from the backlog for whoever is hungry; one claim at a time."""
        if not self._ready or self._claiming or not self._hungry or self.queue.paused or self._stopped:
            return
        reservations, claims = self.reserve(min(CLAIM_EACH * len(self._hungry), CLAIM_ALL), None, self._clock())
        if not claims:
            return
        self._claiming = frozenset(consumer for consumer, _, _ in reservations)
        self._ready = False  # a wake-up that comes while the claim is on its way sets it again
        self._claim(self, claims, lambda got: self._claimed(reservations, claims, got))

    def reserve(self, count: int, size: int | None, now: int) -> tuple[list[Reservation], list[Claim]]:
        """Set aside credit for `count` messages, of `size` bytes together where that is known, in fair shares.

        Whoever gets the answer must call `served` with it.
        """
        reservations: list[Reservation] = []
        claims: list[Claim] = []
        if self.queue.paused or self._stopped:
            return reservations, claims
        while count > 0 and self._hungry:
            share = -(-count // len(self._hungry))
            consumer = next(iter(self._hungry))
            del self._hungry[consumer]
            wanted, room = consumer.wants()
            if (wanted := self._allowed(consumer, wanted)) <= 0:
                continue
            taken = min(wanted, share)
            reserved = room if size is None else min(size, room)
            reservations.append(self._reserve(consumer, taken, reserved))
            claims.append(self._claim_of(consumer, taken, room, now))
            count -= taken
            if wanted > taken and size is not None:
                self._hungry[consumer] = None  # to the end of the line
        return reservations, claims

    def reserve_for(self, consumer: Consumer) -> tuple[list[Reservation], list[Claim]]:
        """All that one consumer wants, whether it stands in line or not. Whoever gets the answer calls `served`."""
        wanted, room = consumer.wants()
        if (wanted := self._allowed(consumer, wanted)) <= 0 or self._stopped:
            return [], []
        return [self._reserve(consumer, wanted, room)], [self._claim_of(consumer, wanted, room, self._clock())]

    def _allowed(self, consumer: Consumer, wanted: int) -> int:
        """So much of it as the quota of its user has room for; with none, it is fed when there is."""
        users = self.leases.users
        if wanted <= 0 or not users.most:
            return wanted
        allowed = users.allowed(consumer.holder, wanted)
        if not allowed:
            users.wait(consumer, self, partial(self.feed, consumer))
        return allowed

    def _reserve(self, consumer: Consumer, count: int, size: int) -> Reservation:
        consumer.reserve(count, size)
        self.leases.reserve(consumer.holder, count)
        return consumer, count, size

    def _claim_of(self, consumer: Consumer, count: int, room: int, now: int) -> Claim:
        terms = consumer.terms(self._tokens.of(consumer), now, self.queue.config.lease_ms)
        return Claim(self.queue.name, count, room, terms, now, id(consumer))

    def served(self, reservations: Sequence[Reservation], got: Sequence[list[Message]]) -> None:
        """Hand the consumers what their claims brought; nothing at all where the claims failed."""
        if self.leases.dropped:
            got = self._strayed(got)
        for index, (consumer, count, size) in enumerate(reservations):
            messages = got[index] if index < len(got) else []
            self.leases.came(consumer.holder, count, len(messages))
            if left := consumer.deliver(count, size, messages):
                self._release(left)
            if consumer in self.consumers and consumer not in self._claiming and consumer.wants()[0] > 0:
                self._hungry[consumer] = None

    def _strayed(self, got: Sequence[list[Message]]) -> Sequence[list[Message]]:
        """The queue was dropped before this came. Its messages are gone, or are those of a new queue of its name, which
        has a dispatcher of its own: nobody gets them here."""
        strays = [message for messages in got for message in messages]
        for message in strays:
            self.leases.users.stray(message.id, message.lease)
        if strays:
            self._release(strays)
        return ()

    def _claimed(self, reservations: list[Reservation], claims: list[Claim], got: list[list[Message]]) -> None:
        self._claiming = frozenset()
        # Somebody had room left but got no more: the queue was empty. Otherwise more may be waiting.
        if not any(map(_had_room, claims, got)):
            self._ready = True
        self.served(reservations, got)
        self.pump()


def _had_room(claim: Claim, messages: list[Message]) -> bool:
    taken = sum([weight(message.content, message.attributes) for message in messages])
    return len(messages) < claim.limit and taken < claim.max_bytes
