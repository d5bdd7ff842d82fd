"""The log of deliveries: noted at once, written together a little later, bounded for each webhook."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque

from streambroker.core.errors import BrokerError
from streambroker.store.sql.webhooks import Delivery, Kind, Webhooks
from streambroker.transport.webhooks.answers import Answer

log = logging.getLogger(__name__)

WRITE_S = 1.0
MAX_WAITING = 5_000
"""Deliveries that wait to be written; beyond that the oldest are not remembered."""


class Journal:
    """Owns what waits to be written; used from the event loop. What is lost in a crash is a second of the log."""

    def __init__(self, stored: Webhooks) -> None:
        self._stored = stored
        self._waiting: deque[Delivery] = deque(maxlen=MAX_WAITING)
        self._numbers = itertools.count(1)
        self._something = asyncio.Event()
        self._one_writes = asyncio.Lock()

    def note(
        self, webhook_id: str, kind: Kind, at: int, message_id: int | None, attempt: int | None, answer: Answer
    ) -> Delivery:
        """A request was made at `at`, milliseconds since 1970, and this came of it."""
        delivery = Delivery(
            webhook_id,
            f"{at:012x}{next(self._numbers) & 0xFFFF_FFFF_FFFF:012x}",
            kind,
            at,
            message_id,
            attempt,
            answer.outcome,
            answer.status,
            answer.latency_ms,
            answer.error,
            answer.response,
        )
        self._waiting.append(delivery)
        self._something.set()
        return delivery

    async def write(self) -> None:
        """Returns once all that was noted is written, or cannot be at the moment."""
        async with self._one_writes:
            self._something.clear()
            waiting, self._waiting = self._waiting, deque(maxlen=MAX_WAITING)
            if not waiting:
                return
            try:
                await self._stored.log(list(waiting))
            except BrokerError as error:
                log.warning("the log of webhooks' deliveries has to wait: %s", error.detail)
                self._waiting.extendleft(itertools.islice(reversed(waiting), MAX_WAITING - len(self._waiting)))
                self._something.set()

    async def run(self) -> None:
        """Write what is noted, every `WRITE_S`, for ever."""
        while True:
            await self._something.wait()
            await asyncio.sleep(WRITE_S)
            await self.write()
