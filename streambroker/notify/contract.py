"""What a notifier promises: a hint that a queue may have messages ready.

A hint may be lost, repeated or merged; that costs latency, never a message. Whoever waits watches first, then claims,
then waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Notifier(Protocol):
    """Tells every node that watches that a queue may have messages ready."""

    def watch(self, callback: Callable[[str], None]) -> None:
        """Call `callback(queue)` on this node's event loop for every hint from now on."""
        ...

    def notify(self, queue: str) -> None:
        """Give the hint; never blocks, never raises."""
        ...
