"""Times on the wire: RFC 3339 in UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=8192)  # a burst of messages shares few moments
def rfc3339(ms: int) -> str:
    """``2026-11-22T10:13:00.123Z`` of milliseconds since 1970."""
    second = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{ms % 1000:03d}Z"


def milliseconds(time: datetime) -> int:
    """Milliseconds since 1970 of an aware time, rounded down."""
    return (int(time.timestamp()) * 1000) + time.microsecond // 1000
