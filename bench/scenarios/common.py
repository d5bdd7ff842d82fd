"""What scenarios share: rounds whose sides take turns in going first, and failures kept beside the figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import psutil

from bench.figures import Outcome
from bench.jobs import RoundError
from bench.loads import Result
from bench.numbers import human
from bench.plan import Plan
from bench.servers import REPOSITORY

Progress = Callable[[str], None]
Values = list[tuple[str, str, float]]
"""``(quantity, unit, value)`` of one round of one side."""

_QUIET_PERCENT = 15.0

LEAN = "`redis` is redis-py in the loop read, ack, read. `redis-lean` is a client of our own; it sets no goal."


def prose(text: str) -> str:
    """A paragraph written over several lines, as one."""
    return " ".join(text.split())


def rounds(count: int, sides: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Number each round and give the order of its sides; the order is turned by one each round."""
    for number in range(count):
        turn = number % len(sides)
        yield number + 1, [*sides[turn:], *sides[:turn]]


class Taker:
    """Takes measurements into an outcome. A side that failed once is not tried again, and the failure is noted."""

    def __init__(self, outcome: Outcome, plan: Plan, progress: Progress) -> None:
        self.outcome = outcome
        self._plan = plan
        self._progress = progress
        self._failed: set[str] = set()

    def take(self, key: str, side: str, measure: Callable[[], Values]) -> None:
        """Run ``measure``, add its ``(suffix, unit, value)`` as the series ``key.side.suffix``."""
        name = f"{key}.{side}"
        if name in self._failed:
            return
        self._wait_for_quiet()
        try:
            values = measure()
        except (RoundError, RuntimeError, OSError) as failure:
            self._failed.add(name)
            text = str(failure)[-1_500:].replace(str(REPOSITORY), ".")
            self.outcome.failures.append(f"{name}: {text}")
            self._progress(f"  {name}: FAILED {text}")
            return
        for suffix, unit, value in values:
            self.outcome.add(f"{name}.{suffix}", side, unit, value)
        self._progress(f"  {name}: " + ", ".join(f"{suffix} {human(value)}" for suffix, _, value in values))

    def _wait_for_quiet(self) -> None:
        """Wait while others use the machine, as long as the plan's patience lasts."""
        deadline = time.monotonic() + self._plan.patience_seconds
        while time.monotonic() < deadline:
            if psutil.cpu_percent(interval=0.5) < _QUIET_PERCENT:
                return


def throughput(result: Result) -> Values:
    """The series every load has: rate, server CPU, how busy the client was, and everything else on the machine."""
    return [
        ("rate", "msg/s", result.rate),
        ("server_cpu", "ms/1,000", result.cpu_ms_per_thousand),
        ("client_busy", "% of a core", result.client_cpu / result.seconds * 100),
        ("others_busy", "% of a core", result.others_cpu / result.seconds * 100),
    ]
