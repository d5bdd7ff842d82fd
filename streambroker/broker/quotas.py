"""How many queues there may be, and how many messages a user may hold at a time.

What is asked for counts from the moment at which it is asked for: those who ask at the same time cannot exceed a quota
together.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from streambroker.core.errors import RateLimited
from streambroker.store.contract import Queue

RETRY_QUEUES_MS = 60_000
RETRY_LEASES_MS = 1_000


@dataclass(frozen=True, slots=True)
class Quotas:
    """0: no bound. The last two are of each user; `max_queues` is of all together."""

    max_queues: int = 0
    max_queues_per_user: int = 0
    max_in_flight_per_user: int = 0


NO_QUOTAS = Quotas()


class QueueCount:
    """Owns the count of queues, by owner. The queues of nobody (an empty owner) count only against `max_queues`."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._owners: dict[str, str] = {}
        self._owned: Counter[str] = Counter()
        self._coming: dict[object, tuple[Collection[str], str]] = {}

    def known(self, queue: Queue) -> None:
        """There is such a queue."""
        if queue.name not in self._owners:
            self._owners[queue.name] = queue.owner
            self._owned[queue.owner] += 1

    def dropped(self, name: str) -> None:
        """There is no such queue any more."""
        owner = self._owners.pop(name, None)
        if owner is not None:
            self._owned[owner] -= 1

    def expect(self, names: Iterable[str | None], owner: str) -> object:
        """These queues are about to exist, where they do not yet. Raises `RateLimited`, else answers what to give to
        `came` once it is known whether they do."""
        fresh = {name for name in names if name is not None and name not in self._owners}
        if fresh:
            self._check(fresh, owner)
        coming = object()
        self._coming[coming] = fresh, owner
        return coming

    def came(self, coming: object) -> None:
        """What was expected exists now, or will not."""
        del self._coming[coming]

    def _check(self, fresh: set[str], owner: str) -> None:
        most, most_owned = self._quotas.max_queues, self._quotas.max_queues_per_user
        if most and len(self._owners) + len(self._on_the_way(None) | fresh) > most:
            raise _too_many(f"the broker holds max_queues ({most}) queues already")
        if most_owned and owner and self._owned[owner] + len(self._on_the_way(owner) | fresh) > most_owned:
            raise _too_many(f"{owner} has max_queues_per_user ({most_owned}) queues already")

    def _on_the_way(self, owner: str | None) -> set[str]:
        return {
            name
            for names, whose in self._coming.values()
            if owner is None or whose == owner
            for name in names
            if name not in self._owners
        }


def _too_many(detail: str) -> RateLimited:
    return RateLimited(f"{detail}; nothing was created. Delete some", retry_after_ms=RETRY_QUEUES_MS)


class Taker(Protocol):
    """A consumer as far as its user's quota goes."""

    holder: str


class InFlight:
    """Owns the count of leases by user, with those that claims on their way may still give them.

    `exempt` says whom the quota does not bind. Where there is none, nothing is counted.
    """

    def __init__(self, most: int = 0, exempt: Callable[[str], bool] = lambda user: False) -> None:
        self.most = most
        self._exempt = exempt
        self._held: dict[str, int] = {}
        self._coming: dict[str, int] = {}
        self._waiting: dict[str, dict[tuple[Taker, object], Callable[[], None]]] = {}
        self._strays: set[tuple[int, str | None]] = set()

    def allowed(self, user: str, wanted: int) -> int:
        """How many of so many messages the user may be given."""
        room = self.most - self._held.get(user, 0) - self._coming.get(user, 0)
        return wanted if wanted <= room or not self.most or self._exempt(user) else max(room, 0)

    def check(self, user: str) -> None:
        """Raises `RateLimited` where the user holds as many messages as it may."""
        if self.most and self._held.get(user, 0) >= self.most and not self._exempt(user):
            raise RateLimited(
                f"{user} holds max_in_flight_per_user ({self.most}) messages already; settle some",
                retry_after_ms=RETRY_LEASES_MS,
            )

    def wait(self, consumer: Taker, line: object, feed: Callable[[], None]) -> None:
        """Call `feed` once its user has room again."""
        self._waiting.setdefault(consumer.holder, {})[consumer, line] = feed

    def forget(self, consumer: Taker, line: object) -> None:
        """The consumer does not wait any more."""
        if waiting := self._waiting.get(consumer.holder):
            waiting.pop((consumer, line), None)
            if not waiting:
                del self._waiting[consumer.holder]

    def change(self, user: str, held: int, coming: int = 0) -> None:
        """So many more are held by the user, and are on their way to it."""
        _add(self._held, user, held)
        _add(self._coming, user, coming)
        if held + coming < 0 and user in self._waiting:
            # Not at once: whoever reports this is in the middle of its own work.
            asyncio.get_running_loop().call_soon(self._feed, user)

    def stray(self, message_id: int, lease: str | None) -> None:
        """A lease that came for a queue that is gone: it counts for nobody until it is given back."""
        self._strays.add((message_id, lease))

    def is_stray(self, message_id: int, lease: str | None) -> bool:
        """Whether that lease counts for nobody."""
        return (message_id, lease) in self._strays

    def home(self, message_id: int, lease: str | None) -> None:
        """It has been given back, or there was nothing any more to be given back."""
        self._strays.discard((message_id, lease))

    def _feed(self, user: str) -> None:
        for feed in self._waiting.pop(user, {}).values():
            feed()


class Leases:
    """The share of one queue in `InFlight`: what is leased of it, by user."""

    def __init__(self, users: InFlight) -> None:
        self.users = users
        self._here: dict[str, int] = {}
        self.dropped = False
        """The queue is gone; what may still come for it is not counted."""

    def reserve(self, user: str, count: int) -> None:
        """A claim for so many is on its way."""
        if self.users.most:
            self.users.change(user, 0, count)

    def came(self, user: str, reserved: int, count: int) -> None:
        """The claim that reserved so many brought `count`."""
        if self.users.most:
            self.users.change(user, 0, -reserved)
            self.change(user, count)

    def change(self, user: str, by: int) -> None:
        """So many more are leased."""
        if by and self.users.most and not self.dropped:
            _add(self._here, user, by)
            self.users.change(user, by)

    def drop(self) -> None:
        """The queue is gone, and its leases with it."""
        here, self._here, self.dropped = self._here, {}, True
        for user, count in here.items():
            self.users.change(user, -count)


def _add(counts: dict[str, int], user: str, by: int) -> None:
    if by:
        count = counts[user] = counts.get(user, 0) + by
        if not count:
            del counts[user]
