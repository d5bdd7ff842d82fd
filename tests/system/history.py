"""What the clients did and saw: the history that the checker judges.

Every operation carries the time it was invoked, the time it completed and its outcome, in Jepsen's words: ``ok`` it
certainly happened, ``fail`` it certainly did not, ``info`` nobody knows (a cut connection, a time-out, a 5xx).
All times are this process's monotonic clock, in seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class Verdict(StrEnum):
    ACK = "ack"
    REQUEUE = "requeue"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Item:
    """One message as its publisher knows it; ``value`` is unique for each message that was meant."""

    value: str
    queue: str
    priority: int = 0
    dedup_id: str | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """One publish call of one or more items; a retry is another ``Publish`` of the same items."""

    process: str
    items: tuple[Item, ...]
    invoked: float
    completed: float
    outcome: Outcome
    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message handed to one consumer.

    ``not_before`` is the earliest moment the broker can have decided on it: the long-poll's invocation, or the
    subscription of the socket. ``expires`` is None for a session lease. ``sole`` says that no other consumer reads
    the queue, so that this connection may judge the order.
    """

    process: str
    connection: str
    message_id: str
    value: str
    queue: str
    priority: int
    attempt: int
    lease: str
    not_before: float
    received: float
    expires: float | None
    sole: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    process: str
    verdict: Verdict
    message_id: str
    lease: str
    invoked: float
    completed: float
    outcome: Outcome
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A consumer's connection is over: what it held may be handed to others from here on."""

    connection: str
    at: float


@dataclass(frozen=True, slots=True)
class Crash:
    at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The broker stopped as it was asked to: every lease not used by now is given back."""

    at: float


@dataclass(frozen=True, slots=True)
class Resting:
    """A message as browsing found it when all was over."""

    message_id: str
    value: str
    queue: str
    status: str


@dataclass(slots=True)
class History:
    """``dead_letters`` maps a queue to its dead-letter queue; in ``limited`` queues attempts may be used up."""

    publishes: list[Publish] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    settles: list[Settle] = field(default_factory=list)
    endings: list[Ended] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    resting: list[Resting] = field(default_factory=list)
    dead_letters: dict[str, str] = field(default_factory=dict)
    limited: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Publish | Delivery | Settle | Ended | Crash | Stop | Resting]:
        yield from self.publishes
        yield from self.deliveries
        yield from self.settles
        yield from self.endings
        yield from self.crashes
        yield from self.stops
        yield from self.resting

    def save(self, path: Path) -> None:
        """Write one JSON object a line, for whoever has to find out what happened."""
        with path.open("w", encoding="utf-8") as lines:
            for entry in self:
                lines.write(json.dumps({"what": type(entry).__name__, **asdict(entry)}) + "\n")


def now() -> float:
    return time.monotonic()


def to_monotonic(rfc3339: str) -> float:
    """The moment on this process's monotonic clock that a wall-clock time names."""
    return time.monotonic() + datetime.fromisoformat(rfc3339).timestamp() - time.time()
