"""A broker for one test, on a thread of its own, so that it does not matter on which loop the test runs, if on any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from streambroker.embedded.broker import Broker
from streambroker.embedded.clock import ManualClock
from streambroker.embedded.heart import MEMORY, Heart
from streambroker.embedded.hosting import LoopThread
from streambroker.embedded.sync import SyncBroker


@contextmanager
def on_a_thread(settings: Mapping[str, Any]) -> Iterator[tuple[SyncBroker, Broker]]:
    """A fresh broker in memory with a manual clock, for those who block and for those who await."""
    thread = LoopThread()
    try:
        heart = thread.run(Heart.open(MEMORY, ManualClock(), **settings))
        try:
            yield SyncBroker._attached(heart, thread), Broker._attached(heart, thread)
        finally:
            thread.run(heart.close())
    finally:
        thread.stop()
