"""A start: how long until it listens, what that takes of a core, and how much memory it has then."""

from __future__ import annotations

import shutil
import time
from functools import partial

from bench.figures import Goal, Outcome
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import SERVERS, Server, scratch

SIDES = ("ours", "bare", "redis")


def start(plan: Plan, progress: Progress) -> Outcome:
    """A first start in an empty directory."""
    outcome = Outcome(
        name="start",
        title="A first start",
        method=prose("""
            Each server starts in an empty directory; ours makes its database, its key and its first user. Seconds are
            from the start of the process until it listens, to the next 20 ms; CPU and resident size are those of the
            process then. `bare` is Starlette and uvicorn with one route: what Python and they take.
        """),
        goals=[Goal(text="until it listens", ours="start.ours.until", better="lower")],
    )
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"start: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("start", side, partial(_measure, side))
    return outcome


def _measure(side: str) -> Values:
    directory = scratch()
    server = SERVERS[side](directory)
    try:
        began = time.perf_counter()
        Server.start(server)  # without the login that the broker's own goes on with
        until = time.perf_counter() - began
        return [("until", "s", until), ("cpu", "s", server.cpu_seconds()), ("rss", "MiB", server.rss() / 1024**2)]
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
