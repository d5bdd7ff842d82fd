"""What can be configured of a queue, and the arithmetic of retrying."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streambroker.core.names import QueueName

DAY_MS = 86_400_000
MAX_MS = 366 * DAY_MS
"""The longest duration that any option takes: a year."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]
LeaseMs = Annotated[int, msgspec.Meta(ge=1, le=7 * DAY_MS)]


class Backoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a message that was nacked waits before it is tried again."""

    kind: Literal["exponential", "fixed"] = "exponential"
    base_ms: Milliseconds = 1_000
    factor: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2
    max_ms: Milliseconds = 300_000
    jitter: bool = True


class QueueConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of a queue. Durations in milliseconds; 0 means no limit where the text says so."""

    lease_ms: LeaseMs = 30_000
    max_attempts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 5
    backoff: Backoff = Backoff()
    dead_letter_queue: QueueName | None = None
    message_ttl_ms: Milliseconds = 0
    max_messages: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    overflow: Literal["reject", "drop_oldest"] = "reject"
    retention_ms: Milliseconds = 3_600_000
    dedup_window_ms: Milliseconds = DAY_MS
    durability: Literal["fsync", "memory"] = "fsync"


class QueueConfigChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A partial `QueueConfig`: members that are absent stay as they are."""

    lease_ms: LeaseMs | msgspec.UnsetType = msgspec.UNSET
    max_attempts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | msgspec.UnsetType = msgspec.UNSET
    backoff: Backoff | msgspec.UnsetType = msgspec.UNSET
    dead_letter_queue: QueueName | msgspec.UnsetType | None = msgspec.UNSET
    message_ttl_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    max_messages: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | msgspec.UnsetType = msgspec.UNSET
    overflow: Literal["reject", "drop_oldest"] | msgspec.UnsetType = msgspec.UNSET
    retention_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    dedup_window_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    durability: Literal["fsync", "memory"] | msgspec.UnsetType = msgspec.UNSET

    def applied_to(self, config: QueueConfig) -> QueueConfig:
        """`config` with the members that are present here."""
        changes = {f: v for f in self.__struct_fields__ if (v := getattr(self, f)) is not msgspec.UNSET}
        return msgspec.structs.replace(config, **changes)


def backoff_ms(backoff: Backoff, failures: int, chance: float) -> int:
    """Milliseconds to wait after the `failures`-th failure (from 1); `chance` in [0, 1) is the jitter's dice.

    With jitter the wait is spread evenly over the upper half ("equal jitter": Brooker, Exponential Backoff And
    Jitter, 2015), so that retries of a burst do not come back as a burst, and none comes back at once.
    """
    if backoff.kind == "fixed":
        wait = float(backoff.base_ms)
    else:
        # Past 64 doublings every sensible limit is reached; the bound keeps the power finite.
        wait = backoff.base_ms * backoff.factor ** min(failures - 1, 64)
    wait = min(wait, backoff.max_ms)
    return int(wait * (0.5 + chance / 2) if backoff.jitter else wait)
