"""Metrics for Prometheus: collected and written in a thread, for whoever asks within a second once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from streambroker.observe import exposition
from streambroker.observe.exposition import CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

FRESH_S = 1.0


class Metrics:
    """Owned by the event loop. The hot paths only add to plain numbers; all else is done here, when somebody asks.

    Never more than one thread at a time collects, so a collector may keep what it knows from one time to the next.
    """

    def __init__(self, collectors: Sequence[Collector]) -> None:
        # The library's own global registry is not used: tests run many brokers in one process.
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        self._text: asyncio.Future[bytes] | None = None
        self._asked_at = 0.0

    async def text(self) -> bytes:
        """All metrics, no more than a second old, as `CONTENT_TYPE`."""
        now = asyncio.get_running_loop().time()
        if self._text is None or (self._text.done() and now - self._asked_at >= FRESH_S):
            self._asked_at = now
            self._text = asyncio.ensure_future(asyncio.to_thread(self._collect))
        return await asyncio.shield(self._text)  # others may be waiting for it too

    def _collect(self) -> bytes:
        return exposition.text(self._registry.collect())
