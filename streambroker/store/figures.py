"""What a store tells of itself, for metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from streambroker.core.histogram import Histogram
from streambroker.store.contract import Command, Publish, Settle


class Turns:
    """How many messages shared a commit, and how long it took. Owned by the writer's thread; read without a lock."""

    def __init__(self) -> None:
        self.messages = Histogram(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
        self.seconds = Histogram(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

    def note(self, commands: Iterable[Command], seconds: float) -> None:
        """A turn is durable. A command that is neither a publish nor a settle counts as one message."""
        messages = 0
        for command in commands:
            kind = type(command)
            if kind is Publish:
                messages += len(command.drafts)  # type: ignore[union-attr]
            elif kind is Settle:
                messages += len(command.items)  # type: ignore[union-attr]
            else:
                messages += 1
        self.messages.add(messages)
        self.seconds.add(seconds)


def sync_times() -> Histogram:
    """For the time that a durable commit takes, in seconds."""
    return Histogram(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class StoreFigures(NamedTuple):
    """One moment. `turn_messages` and `turn_seconds` are of group commits, `sync_seconds` of the durable commits in
    them: what the disk took. `waiting_messages` and `waiting_bytes` are of publishes that wait for a commit."""

    turn_messages: Histogram
    turn_seconds: Histogram
    sync_seconds: Histogram
    waiting_messages: int
    waiting_bytes: int
    database_bytes: int
    log_bytes: int
    free_bytes: int
    disk_full: bool
    quota_used_up: bool
