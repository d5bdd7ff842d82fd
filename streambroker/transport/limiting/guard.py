"""The delay of those who guess passwords."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from limits import RateLimitItem

from streambroker.core.errors import RateLimited
from streambroker.store.sql.login_failures import Failures, LoginFailures
from streambroker.transport.limiting.addresses import network

FORGET_MS = 3_600_000
"""After so long without another failure, the earlier ones are forgotten."""
MAX_DELAY_MS = 900_000
MAX_ENTRIES = 10_000
_MAX_DOUBLINGS = 10
_SAVE_INTERVAL_S = 1
_CLOSE_DEADLINE_S = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Subjects:
    """Whom a failed login counts against, as digests: names have no bound, and may be passwords."""

    network: bytes
    user: bytes
    pair: bytes


class Guard:
    """Delays logins after too many failed ones: `LoginGuard` of the authentication service.

    `rate` says how many failures, in how long, are tolerated; None switches the guard off.

    - After so many from one network, each further failure from there is followed by a delay of 2, 4, 8 … s, 15 min at
      most, in which every login from there is refused. When the delay is over, one may try at a time.
    - After so many for one user, from wherever, the same holds for each network that has itself failed for that user.
      Others may try: whoever knows the password gets in from an address of their own, so nobody can lock a user out.
    - A good login clears what its network has failed at for its user, not what the network has failed at. An hour
      without failures clears all.

    Owns at most 10,000 entries, the longest unchanged leave first. They are stored within a second, in one
    transaction however many there are, and loaded at the start. Used from the event loop only; `clock` gives
    milliseconds since 1970 UTC and must not jump while it runs. `secret` keeps whoever has a copy of the database from
    trying names against the digests.
    """

    def __init__(
        self, rate: RateLimitItem | None, stored: LoginFailures, clock: Callable[[], int], secret: bytes = b""
    ) -> None:
        self._rate = rate
        self._stored = stored
        self._clock = clock
        self._key = hashlib.blake2b(secret, digest_size=32).digest()
        # In the order of their last failure.
        self._entries: OrderedDict[bytes, Failures] = OrderedDict()
        self._changed: set[bytes] = set()
        self._something_changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._failing = False
        self._saver: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what was stored, and begin to store what comes."""
        if self._rate is None:
            return
        now = self._clock()
        for entry in (await self._stored.load(now - FORGET_MS))[-MAX_ENTRIES:]:
            # The machine's clock may have been set back meanwhile: no delay is longer for it.
            barred_until = min(entry.barred_until, now + _delay_ms(entry.level))
            self._entries[entry.subject] = replace(
                entry, barred_until=barred_until, failed_at=min(entry.failed_at, now)
            )
        self._saver = asyncio.create_task(self._keep_saved())

    async def close(self) -> None:
        """Store what is not stored yet; call it before the store closes."""
        if self._saver is not None:
            self._closed.set()
            self._something_changed.set()
            await asyncio.wait([self._saver], timeout=_CLOSE_DEADLINE_S)
            self._saver.cancel()

    def admit(self, username: str, address: str) -> Callable[[], None]:
        """Return when this login may be tried. Raises `RateLimited` with the delay otherwise.

        The answer gives the try back: to be called where no password was looked at.
        """
        if self._rate is None:
            return _nothing
        now = self._clock()
        subjects = self._subjects(username, address)
        counts = [self._entry(subjects.network, now)]
        if (user := self._entry(subjects.user, now)) is not None and user.level:
            counts.append(self._entry(subjects.pair, now))
        delayed = [entry for entry in counts if entry is not None and entry.level]
        wait_ms = max((entry.barred_until - now for entry in delayed), default=0)
        if wait_ms > 0:
            raise RateLimited("too many failed logins; wait before the next one", retry_after_ms=wait_ms)
        # Until it is known how this one ends, the next one waits: else many could try at the end of each delay.
        taken = [(entry, replace(entry, barred_until=now + _delay_ms(entry.level))) for entry in delayed]
        for entry, barred in taken:
            self._entries[entry.subject] = barred
        return lambda: self._give_back(taken)

    def _give_back(self, taken: list[tuple[Failures, Failures]]) -> None:
        for before, barred in taken:
            # Where it is another one by now, somebody else has failed or succeeded meanwhile, and that counts.
            if self._entries.get(barred.subject) is barred:
                self._entries[barred.subject] = before

    def failed(self, username: str, address: str) -> None:
        """Take note of a wrong password or user name."""
        if self._rate is None:
            return
        now = self._clock()
        subjects = self._subjects(username, address)
        user = self._entry(subjects.user, now)
        pair = self._entry(subjects.pair, now)
        attacked = user is not None and user.level > 0
        self._put(_once_more(self._entry(subjects.network, now) or _first(subjects.network, now), now, self._rate))
        self._put(_once_more(user or _first(subjects.user, now), now, self._rate))
        # While nobody attacks the user, mistakes add up to nothing; once somebody does, the last one costs 2 s.
        self._put(_at_level(pair or _first(subjects.pair, now), pair.level + 1 if pair and attacked else 1, now))
        while len(self._entries) > MAX_ENTRIES:
            self._note(self._entries.popitem(last=False)[0])

    def succeeded(self, username: str, address: str) -> None:
        """Take note of a good login."""
        if self._rate is None:
            return
        now = self._clock()
        subjects = self._subjects(username, address)
        if self._entries.pop(subjects.pair, None) is not None:
            self._note(subjects.pair)
        if (entry := self._entry(subjects.network, now)) is not None:
            self._entries[subjects.network] = replace(entry, barred_until=now)

    # -- entries -------------------------------------------------------------------------------------------------------

    def _subjects(self, username: str, address: str) -> _Subjects:
        place = network(address)
        return _Subjects(self._digest("n", place), self._digest("u", username), self._digest("p", place, username))

    def _digest(self, *parts: str) -> bytes:
        # No part but the last can hold a space.
        text = " ".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=self._key).digest()

    def _entry(self, subject: bytes, now: int) -> Failures | None:
        entry = self._entries.get(subject)
        return None if entry is None or now - entry.failed_at >= FORGET_MS else entry

    def _put(self, entry: Failures) -> None:
        self._entries[entry.subject] = entry
        self._entries.move_to_end(entry.subject)
        self._note(entry.subject)

    def _note(self, subject: bytes) -> None:
        self._changed.add(subject)
        self._something_changed.set()

    # -- storing -------------------------------------------------------------------------------------------------------

    async def _keep_saved(self) -> None:
        while not self._closed.is_set():
            await self._something_changed.wait()
            self._something_changed.clear()
            await self._save()
            try:
                async with asyncio.timeout(_SAVE_INTERVAL_S):
                    await self._closed.wait()
            except TimeoutError:
                pass
        await self._save()

    async def _save(self) -> None:
        self._forget(self._clock())
        noted, self._changed = self._changed, set()
        if not noted:
            return
        changed = [entry for subject in noted if (entry := self._entries.get(subject)) is not None]
        gone = [subject for subject in noted if subject not in self._entries]
        try:
            await self._stored.save(changed, gone)
        except Exception as error:  # a full disk, for instance; they count all the same
            # Bounded for as long as it lasts: what is gone from memory is deleted by the next start instead.
            self._changed.update(entry.subject for entry in changed)
            self._something_changed.set()
            if not self._failing:
                _log.warning("failed logins could not be stored; a restart would forget them: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _forget(self, now: int) -> None:
        while self._entries:
            subject, entry = next(iter(self._entries.items()))
            if now - entry.failed_at < FORGET_MS:
                return
            del self._entries[subject]
            self._changed.add(subject)


def _nothing() -> None:
    """Where nothing was taken."""


def _first(subject: bytes, now: int) -> Failures:
    return Failures(subject, 0, now, 0, 0, now)


def _once_more(entry: Failures, now: int, tolerated: RateLimitItem) -> Failures:
    """The entry after another failure, with a level once there were as many as are tolerated."""
    if not entry.level and now - entry.since >= tolerated.get_expiry() * 1_000:
        entry = replace(entry, failures=0, since=now)
    return _at_level(entry, entry.level + 1 if entry.level or entry.failures + 1 >= tolerated.amount else 0, now)


def _at_level(entry: Failures, level: int, now: int) -> Failures:
    barred_until = now + _delay_ms(level) if level else 0
    return Failures(entry.subject, entry.failures + 1, entry.since, level, barred_until, now)


def _delay_ms(level: int) -> int:
    return int(min(1_000 * 2 ** min(level, _MAX_DOUBLINGS), MAX_DELAY_MS))
