"""How hard a receiver is pressed that fails again and again: less and less, then not at all."""

from __future__ import annotations

THRESHOLD = 5
"""Failures in a row after which only one request at a time is made, with a pause before each."""
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 1_000, 60_000
MOST_ASKED_MS = 600_000
"""The longest pause that a receiver's Retry-After makes for everything that it gets."""


class Circuit:
    """What a run of failures means for the next request. Times in milliseconds; `failing_since` is a run's first.

    Pauses double from 1 s to 60 s; one success ends the run.
    """

    def __init__(self, failing_since: int | None = None) -> None:
        self.failing_since = failing_since
        # A run that a restart interrupted goes on where it was: with one request, and the shortest pause.
        self.failures = 0 if failing_since is None else THRESHOLD
        self.resume_at = 0
        self._pause_ms = FIRST_PAUSE_MS

    @property
    def open(self) -> bool:
        """Whether the receiver gets one request at a time."""
        return self.failures >= THRESHOLD

    def room(self, concurrency: int, now: int) -> int:
        """How many requests there may be at a time."""
        if now < self.resume_at:
            return 0
        return 1 if self.open else concurrency

    def succeeded(self) -> None:
        """The receiver took one."""
        self.failing_since, self.failures, self.resume_at, self._pause_ms = None, 0, 0, FIRST_PAUSE_MS

    def failed(self, now: int, asked_ms: int | None, chance: float) -> None:
        """It did not. `asked_ms` is the pause that it asked for; `chance` in [0, 1) spreads those who fail together."""
        self.failures += 1
        if self.failing_since is None:
            self.failing_since = now
        if asked_ms is not None:
            self.resume_at = max(self.resume_at, now + min(asked_ms, MOST_ASKED_MS))
        if self.open and now >= self.resume_at:  # what was under way when it opened counts once
            self.resume_at = now + round(self._pause_ms * (0.5 + chance / 2))
            self._pause_ms = min(self._pause_ms * 2, LONGEST_PAUSE_MS)

    def given_up(self, now: int, after_ms: int) -> bool:
        """Whether it has failed without a break for `after_ms` (0: never)."""
        return bool(after_ms) and self.failing_since is not None and now - self.failing_since >= after_ms
