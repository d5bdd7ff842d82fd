"""The broker's clock: wall time at the start, and from then on only forward, second for second.

When somebody sets the machine's clock by a day while the broker runs, no lease ends early and none lives for ever:
what counts is the monotonic clock, which the jump does not touch. The next start takes the wall clock anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Milliseconds since 1970."""


def steady_clock() -> Clock:
    """A clock that starts with the wall time and cannot jump."""
    start_wall, start = time.time_ns(), time.monotonic_ns()
    monotonic = time.monotonic_ns
    return lambda: (start_wall + monotonic() - start) // 1_000_000
