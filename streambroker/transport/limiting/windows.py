"""The sliding window counter: what is taken in this window, and the share of the last one that still counts.

Of the window before counts the part that a window ending now would still cover, as if its use had been even. So there
is no moment at which two windows' worth can be taken at once, and a client costs two numbers.
"""

from __future__ import annotations

from math import floor
from typing import NamedTuple, Protocol

from limits import RateLimitItem


class Window(NamedTuple):
    """What was taken in this window and in the one before, and for how long each still counts, in seconds.

    In the form of `SlidingWindowCounterSupport.get_sliding_window` of the `limits` library: the current count lives
    through the next window, in which it is the previous one. A time of 0 is that of a count that does not exist.
    """

    previous: int
    previous_left: float
    current: int
    current_left: float

    def free(self, item: RateLimitItem) -> int:
        """How much can be taken now."""
        return max(0, item.amount - self.current - floor(self.previous * self.previous_left / item.get_expiry()))

    def ends_in_ms(self, item: RateLimitItem) -> int:
        """How long what is taken now may be spent."""
        expiry = item.get_expiry()
        return max(1, round(1_000 * (self.current_left - expiry if self.current_left > expiry else expiry)))

    def retry_ms(self, item: RateLimitItem, cost: int) -> int:
        """When `cost`, at most the limit, can be taken if nobody takes anything until then."""
        expiry = item.get_expiry()
        room = item.amount - cost + 1
        if self.current < room:
            seconds = self.previous_left - (room - self.current) * expiry / self.previous if self.previous else 0.0
        else:  # in the next window, when enough of this one no longer counts
            seconds = self.current_left - room * expiry / self.current
        # Strictly after that, in whole milliseconds; a float may be a hair below the whole one that it stands for.
        return max(0, floor(1_000 * seconds + 1e-6)) + 1


class Windows(Protocol):
    """Where counts are kept."""

    async def look(self, item: RateLimitItem, *names: str) -> Window:
        """The counts of one client."""
        ...

    async def hit(self, item: RateLimitItem, *names: str, cost: int) -> bool:
        """Take `cost`; False, and nothing taken, where less is free."""
        ...
