"""Times on the wire: RFC 3339 in UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from streambroker.core.errors import invalid

_END_MS = 253_402_300_800_000
"""The beginning of the year 10,000, which RFC 3339 cannot write."""


@lru_cache(maxsize=8192)  # a burst of messages shares few moments
def rfc3339(ms: int) -> str:
    """``2026-11-22T10:13:00.123Z`` of milliseconds since 1970."""
    second = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{ms % 1000:03d}Z"


def milliseconds(time: datetime, pointer: str) -> int:
    """Milliseconds since 1970 of an aware time, rounded down.

    Raises `Invalid` naming `pointer` for one that is past the year 9999 in UTC, and so could not be told again.
    """
    ms = (int(time.timestamp()) * 1000) + time.microsecond // 1000
    if ms >= _END_MS:
        raise invalid(pointer, "is after the year 9999 in UTC")
    return ms
