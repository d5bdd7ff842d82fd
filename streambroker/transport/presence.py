"""Who is here: what users hold open (WebSockets, parked polls), so that it ends when their right to it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from streambroker.core.access import Principal, Role
from streambroker.core.errors import RateLimited, Unauthenticated
from streambroker.transport.roster import Roster

log = logging.getLogger(__name__)

_RETRY_AFTER_MS = 5_000


class Guest(Protocol):
    """Something that a user holds open."""

    @property
    def principal(self) -> Principal:
        """In whose name it is open."""
        ...

    def recognized(self, principal: Principal) -> None:
        """The user's rights have changed: this is who it is now."""
        ...

    def turned_out(self) -> None:
        """The session or key in whose name it is open is no longer good."""
        ...


class Presence:
    """Owned by the event loop. `still` tells who a principal is now, None when it is nobody any more.

    `most` bounds what one member holds open (0: nothing does); what an admin does, only the broker's total bounds.
    `consumers` are those of the guests who take messages; they enter and leave there by themselves.
    """

    def __init__(self, still: Callable[[Principal], Principal | None], most: int = 0) -> None:
        self._still = still
        self._most = most
        self.consumers = Roster()
        self._guests: dict[str, set[Guest]] = {}

    def enter(self, guest: Guest) -> None:
        """Something is open from now on.

        Raises `RateLimited` where the user has too much open already (API keys are counted apart, so that they cannot
        take a user's own places), and `Unauthenticated` where its session or key has ended meanwhile.
        """
        principal = guest.principal
        if self._still(principal) is None:
            raise Unauthenticated("the session or key has ended; log in again")
        mine = self._guests.setdefault(principal.username, set())
        by_key = principal.key_id is not None
        alike = sum((other.principal.key_id is not None) is by_key for other in mine) if len(mine) >= self._most else 0
        if self._most and alike >= self._most and principal.role is not Role.ADMIN:
            raise RateLimited(
                f"you have {self._most} connections and polls open, the most that max_connections_per_user allows; "
                "close some",
                retry_after_ms=_RETRY_AFTER_MS,
            )
        mine.add(guest)

    def leave(self, guest: Guest) -> None:
        """It is closed; nothing happens where it never entered."""
        username = guest.principal.username
        mine = self._guests.get(username)
        if mine is not None:
            mine.discard(guest)
            if not mine:
                del self._guests[username]

    def changed(self, username: str) -> None:
        """The user's sessions, keys or rights have changed: everything open is judged anew."""
        for guest in list(self._guests.get(username, ())):
            try:
                now = self._still(guest.principal)
                if now is None:
                    guest.turned_out()
                elif now is not guest.principal:
                    guest.recognized(now)
            except Exception:  # the others have to hear of it all the same
                log.exception("something open could not be told of a change of its user")
