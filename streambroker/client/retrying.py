"""When the SDK tries a call again, and how long it waits before that."""

from __future__ import annotations

from dataclasses import dataclass

from streambroker.client.errors import (
    ApiError,
    ConnectionLost,
    Draining,
    Overloaded,
    RateLimited,
    StreambrokerError,
    Untrusted,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` tries of a call; waits grow from `base_s` by doubling up to `most_s`, with full jitter.

    Full jitter spreads the wait evenly from nothing up to the bound (Brooker, Exponential Backoff And Jitter, 2015), so
    that clients which failed together do not come back together.
    """

    attempts: int = 4
    base_s: float = 0.2
    most_s: float = 10.0

    def wait_s(self, tries: int, error: StreambrokerError, chance: float) -> float:
        """Seconds to wait after the `tries`-th failure (from 1); `chance` in [0, 1) is the jitter's dice.

        Where the broker has said when, never less than that.
        """
        spread = chance * min(self.most_s, self.base_s * 2.0 ** min(tries - 1, 32))
        return spread if error.retry_after_ms is None else error.retry_after_ms / 1_000 + min(spread, self.base_s)


NO_RETRY = RetryPolicy(attempts=1)


def may_repeat(error: StreambrokerError, repeatable: bool) -> bool:
    """Whether a call that failed so may be made again. `repeatable`: doing it twice is as good as doing it once.

    What was certainly not done may always be: the connection was refused, or the broker said so (429, `draining`,
    `overloaded`; a 503 of somebody in between says nothing certain).
    """
    if isinstance(error, RateLimited | Draining | Overloaded):
        return True
    if isinstance(error, Untrusted):
        return False
    if isinstance(error, ConnectionLost):
        return repeatable or not error.sent
    return repeatable and isinstance(error, ApiError) and error.status in (408, 500, 502, 503, 504)
