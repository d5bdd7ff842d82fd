"""Totals that outlive a restart: kept now and then, for they are not worth an fsync with each request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Protocol

from streambroker.core.errors import BrokerError
from streambroker.transport.resource import Counters

log = logging.getLogger(__name__)

SAVE_S = 10.0
"""How many seconds of counting a crash may lose."""
_REQUESTS = "requests"


class Stored(Protocol):
    """Where totals are kept; see `store.sql.totals.Totals`."""

    def load(self) -> Awaitable[Mapping[str, int]]: ...
    def save(self, counts: Mapping[str, int], /) -> Awaitable[None]: ...


class TotalsKeeper:
    """Loads the totals into `counters`, and keeps them: `run` is its one task.

    A store that refuses (a full disk) is asked again the next time; nobody but `/stats` needs to know the count.
    """

    def __init__(self, stored: Stored, counters: Counters) -> None:
        self._stored = stored
        self._counters = counters
        self._saved = 0

    async def load(self) -> None:
        """Go on counting where the last run ended."""
        self._saved = (await self._stored.load()).get(_REQUESTS, 0)
        self._counters.earlier = self._saved

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(SAVE_S)
            await self.save()

    async def save(self) -> None:
        """Keep what has changed; while nothing has, the disk rests."""
        total = self._counters.total
        if total == self._saved:
            return
        try:
            await self._stored.save({_REQUESTS: total})
            self._saved = total
        except BrokerError as error:
            log.info("the totals have to wait: %s", error.detail)
