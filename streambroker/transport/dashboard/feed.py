"""What all dashboards are told, once a second: measured once, and made once for all who may see the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streambroker.broker.broker import Broker
from streambroker.broker.rates import Meter
from streambroker.core.access import Principal
from streambroker.core.message import State
from streambroker.transport.dashboard.board import Board
from streambroker.transport.dashboard.frames import PercentilesOut, Refusing
from streambroker.transport.dashboard.happenings import Watched
from streambroker.transport.dashboard.views import ALL, Moment, View, key_of
from streambroker.transport.roster import SAMPLE_MS, Roster
from streambroker.transport.status import Depths, Status

log = logging.getLogger(__name__)

INTERVAL_MS = 1_000
MAX_DASHBOARDS = 200
"""Dashboards that may be open at a time."""
LINGER = 60
"""Intervals for which the history of a view is kept when nobody looks, so that a reload does not start empty."""
MOST_LINGERING = 32
_AGES_SHARE = 0.02
"""The part of the time that looking up the oldest messages may take."""
_AGES_EVERY_MS = 2_000

Quantiles = Callable[[], tuple[float, float, float] | None]
"""The 50th, 95th and 99th percentile since the last call, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from.

    `measure` brings the status' usage up to date. `oldest` reads from the disk; it tells of each queue that has
    messages ready when the oldest of them was published, in milliseconds since 1970.
    """

    depths: Depths
    oldest: Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
    measure: Callable[[], None]
    delivery: Quantiles
    publish: Quantiles
    refusing: Callable[[], Refusing | None]


class Listener(Protocol):
    """An open dashboard."""

    def wake(self) -> None:
        """There may be something new to tell."""
        ...

    def close(self, code: int, reason: str) -> None:
        """It must end."""
        ...

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when it has ended."""
        ...


class Feed:
    """Owns the views, the board and the events that are watched. `run` is its one task; it also keeps the history of
    the overview, and samples the rates of consumers, when nobody looks."""

    def __init__(self, broker: Broker, roster: Roster, status: Status, sources: Sources) -> None:
        self.broker = broker
        self.roster = roster
        self.status = status
        self.board = Board(broker)
        self.watched = Watched(broker.events)
        self.open: set[Listener] = set()
        self.moment: Moment | None = None
        self._sources = sources
        self._generation = broker.generation
        self._meters = _meters(broker)
        self._views: dict[Hashable, View] = {ALL: View(None, self._meters)}
        self._at = self._sampled_at = broker.clock()
        self._requests = status.counters.total
        self._looking_up: asyncio.Task[None] | None = None
        self._ages_due_at = 0.0

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + INTERVAL_MS / 1_000, loop.time())  # what was missed is not made up for
            await asyncio.sleep(due - loop.time())
            try:
                self.advance()
            except Exception:
                log.exception("the dashboards miss an interval")

    async def close_all(self, code: int, reason: str) -> None:
        """Close every dashboard."""
        leaving = list(self.open)
        for listener in leaving:
            listener.close(code, reason)
        if leaving:
            await asyncio.wait([listener.ended for listener in leaving], timeout=5)

    # -- who looks -----------------------------------------------------------------------------------------------------

    def enter(self, principal: Principal) -> View:
        """What somebody with these rights sees. Whoever gets it gives it back to `leave`."""
        key = key_of(principal)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(principal, self._meters)
        view.watchers += 1
        view.idle = 0
        return view

    def leave(self, view: View) -> None:
        """It is looked at by one less."""
        view.watchers -= 1

    def watch_queues(self) -> None:
        """Somebody wants the table of queues from now on; whoever asks calls `board.end` some day."""
        self.board.begin(self.moment)
        self._look_up_ages()

    # -- an interval ---------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """An interval is over: measure, and tell everybody."""
        moment = self.moment = self._measure()
        for view in self._views.values():
            view.advance(moment, self.status)
        self._forget_views()
        if moment.at - self._sampled_at >= SAMPLE_MS:
            self._sampled_at = moment.at
            self.roster.sample(moment.at)
        self.board.advance(moment)
        self.watched.advance()
        self._look_up_ages()
        for listener in self.open:
            listener.wake()

    def _measure(self) -> Moment:
        sources, now, requests = self._sources, self.broker.clock(), self.status.counters.total
        sources.measure()
        if self._generation != self.broker.generation:
            self._generation, self._meters = self.broker.generation, _meters(self.broker)
        moment = Moment(
            now,
            max(now - self._at, 1),
            requests - self._requests,
            self._meters,
            sources.depths(),
            _shown(sources.delivery()),
            _shown(sources.publish()),
            sources.refusing(),
        )
        self._at, self._requests = now, requests
        return moment

    def _forget_views(self) -> None:
        lingering = [(key, view) for key, view in self._views.items() if key != ALL and not view.watchers]
        for _, view in lingering:
            view.idle += 1
        lingering.sort(key=lambda one: one[1].idle)
        for index, (key, view) in enumerate(lingering):
            if index >= MOST_LINGERING or view.idle > LINGER:
                del self._views[key]

    # -- the oldest messages -------------------------------------------------------------------------------------------

    def _look_up_ages(self) -> None:
        """While somebody watches the queues, and never for more than a part of the time."""
        due = asyncio.get_running_loop().time() >= self._ages_due_at
        if self.board.watchers and self._looking_up is None and self.moment is not None and due:
            ready = [name for name, depth in self.moment.depths.items() if depth[State.READY] > 0]
            self._looking_up = asyncio.create_task(self._look_up(ready))

    async def _look_up(self, ready: list[str]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self.board.oldest = await self._sources.oldest(ready) if ready else {}
        except Exception as error:
            log.warning("the ages of messages cannot be looked up: %s", error)
        finally:
            took = loop.time() - began
            self._ages_due_at = loop.time() + max(took / _AGES_SHARE, _AGES_EVERY_MS / 1_000) - took
            self._looking_up = None


def _meters(broker: Broker) -> Mapping[str, Meter]:
    return {name: one.meter for name, one in broker.traffic().items()}


def _shown(quantiles: tuple[float, float, float] | None) -> PercentilesOut | None:
    return None if quantiles is None else PercentilesOut(*quantiles)
