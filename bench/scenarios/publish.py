"""Confirmed WebSocket publishes in batches, against Redis Streams and against SQLite without a broker."""

from __future__ import annotations

import shutil
from functools import partial

from bench.figures import Goal, Outcome
from bench.jobs import run_load
from bench.plan import Plan
from bench.rest import floor
from bench.scenarios.common import LEAN, Progress, Taker, Values, prose, rounds, throughput
from bench.servers import scratch

SIDES = ("ours", "redis", "sqlite", "nats", "redis-lean", "sqlite-plain")


def publish(plan: Plan, progress: Progress) -> Outcome:
    """Batches of 100, one and four in flight."""
    outcome = Outcome(
        name="publish",
        title="WebSocket publish, confirmed, batches of 100",
        method=prose(f"""
            {plan.publish_messages:,} messages of {plan.payload_bytes} bytes a round from one client process,
            {" and ".join(map(str, plan.publish_windows))} batches of {plan.batch_size} in flight on every side. Ours:
            one publish operation a batch on one WebSocket. Redis: a pipeline of XADD a batch (redis-py; lean: hiredis
            on one connection). NATS: publish_async a message. SQLite: executemany, 1,000 rows a
            commit, WAL, FULL, a message's columns with one index (plain: three columns, no index).
        """),
        goals=[goal for window in plan.publish_windows for goal in _goals(window)],
    )
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"publish: round {number}/{plan.rounds}")
        for window in plan.publish_windows:
            for side in sides:
                taker.take(f"window{window}", side, partial(_measure, side, window, plan))
    outcome.note(LEAN)
    return outcome


def _goals(window: int) -> list[Goal]:
    text = f"WebSocket publish, batches of 100, {window} in flight"
    key = f"window{window}"
    return [
        Goal(text=f"{text} ÷ Redis always", ours=f"{key}.ours.rate", reference=f"{key}.redis.rate",
             better="higher", least=1.2),
        Goal(text=f"{text} ÷ sqlite3 executemany", ours=f"{key}.ours.rate", reference=f"{key}.sqlite.rate",
             better="higher", aim=0.4),
    ]  # fmt: skip


def _measure(side: str, window: int, plan: Plan) -> Values:
    if side.startswith("sqlite"):
        directory = scratch()
        try:
            rows = floor(side, plan.publish_messages, plan.payload_bytes, directory)["rows_per_s"]
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return [("rate", "msg/s", rows)]
    return throughput(
        run_load(
            side,
            "publish",
            total=plan.publish_messages,
            batch=plan.batch_size,
            window=window,
            payload_bytes=plan.payload_bytes,
        )
    )
