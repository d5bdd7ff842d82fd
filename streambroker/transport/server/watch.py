"""One timer for the deadlines of all connections: most requests are over before anybody has to look."""

from __future__ import annotations

import asyncio
from typing import Protocol

from streambroker.transport.server.bounds import MAX_UNREAD, NEVER, Deadlines
from streambroker.transport.server.unread import Backlog

_LOOK_S = 1.0
_SOON_S = 0.005


class Watched(Protocol):
    """A connection that waits for its client."""

    def look(self, now: float) -> float:
        """Act on what is overdue at `now` of the loop's clock; the time of the next deadline, `NEVER` without one."""
        ...


class Watch:
    """Owns the connections that wait for their clients, and the one timer that looks after them.

    A connection that is not waiting any more may stay until the next look, so that the request that came in time costs
    nothing here. `most` is how many connections there may be, `surplus` how many there are beside them, to be refused,
    and `backlog` what of the answers was not read yet.
    """

    def __init__(self, deadlines: Deadlines, most: int) -> None:
        self.deadlines = deadlines
        self.most = most
        self.surplus = 0
        self.backlog = Backlog(MAX_UNREAD)
        # As often as the shortest deadline, so that the one of a newcomer cannot pass before the next look.
        self._every = min(_LOOK_S, deadlines.head, deadlines.body, deadlines.rest, deadlines.unread, deadlines.refused)
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, connection: Watched) -> None:
        """Look at the connection from now on."""
        self._watched.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._look)

    def discard(self, connection: Watched) -> None:
        """Forget the connection."""
        self._watched.discard(connection)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        soonest = now + self._every
        for connection in list(self._watched):
            at = connection.look(now)
            if at == NEVER:
                self._watched.discard(connection)
            elif at < soonest:
                soonest = at
        self.backlog.bound()
        # Never at once: the loop's clock counts in milliseconds and may still stand before `soonest`.
        self._timer = loop.call_at(max(soonest, now + _SOON_S), self._look) if self._watched else None
