"""A thread that writes, so that whoever logs never waits for a disk or a pipe."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from streambroker.observe.redaction import Plain

Event = dict[str, Plain]

BOUND = 2_000
"""Lines that may wait. What comes when so many do is dropped and counted; the next line written says how many."""


class Outlet:
    """Hands events, in order, to `write` in a thread of its own, which it owns.

    `write` must not raise. Before `start` events gather, up to the bound as well.
    """

    def __init__(self, name: str, write: Callable[[Event], None], bound: int = BOUND) -> None:
        self._write: Final = write
        self._bound: Final = bound
        # Unlike `queue.Queue` it may be entered again by what the garbage collector runs in the midst of a `put`.
        self._waiting: SimpleQueue[Event | None] = SimpleQueue()
        self._dropped = 0  # changed by those who put
        self._told = 0  # changed by the thread
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, event: Event) -> None:
        """Have it written; never waits. After `close` it is written here and now."""
        if self._closed:
            if not self._thread.is_alive():
                self._write(event)
        elif self._waiting.qsize() >= self._bound:
            self._dropped += 1
        else:
            self._waiting.put(event)

    def close(self, timeout_s: float) -> bool:
        """Write what waits and end the thread; whether it ended. One that hangs longer is left alone."""
        self._closed = True
        self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            if dropped := self._dropped - self._told:
                self._told += dropped
                self._write(_dropped(dropped, event))
            self._write(event)


def _dropped(lines: int, before: Event) -> Event:
    text = f"{lines} lines of the log were dropped, for they came faster than they could be written"
    return {"timestamp": before.get("timestamp"), "level": "warning", "logger": __name__, "event": text}
