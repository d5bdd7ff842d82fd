"""The notifier of one process: a function call."""

from __future__ import annotations

from collections.abc import Callable


class LocalNotifier:
    """See `contract.Notifier`."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[str], None]] = []

    def watch(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def notify(self, queue: str) -> None:
        for callback in self._callbacks:
            callback(queue)
