"""Fifty open dashboards: what they take of a core."""

from __future__ import annotations

from functools import partial

import msgspec

from bench.dashboards import DashboardsJob, DashboardsResult
from bench.figures import Goal, Outcome
from bench.jobs import run_client
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import running

SIDES = ("with", "without")


def dashboards(plan: Plan, progress: Progress) -> Outcome:
    """The same light work, with everybody looking and with nobody."""
    outcome = Outcome(
        name="dashboards",
        title=f"{plan.dashboards} open dashboards",
        method=prose(f"""
            A broker with {plan.dashboard_queues} queues, into which a message goes every 20 ms, watched over
            {plan.dashboard_seconds:.0f} s by {plan.dashboards} dashboards that look at all queues, all consumers and
            the events of one queue; and the same with none. The figure is the difference, of one core.
        """),
        goals=[Goal(text=f"{plan.dashboards} dashboards", ours="dashboards.difference.cpu", better="lower", least=5.0)],
    )
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"dashboards: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("dashboards", side, partial(_measure, plan.dashboards if side == "with" else 0, plan))
    both = [outcome.series.get(f"dashboards.{side}.cpu") for side in SIDES]
    if both[0] is not None and both[1] is not None:
        for seen, unseen in zip(both[0].values, both[1].values, strict=False):
            outcome.add("dashboards.difference.cpu", "ours", "% of a core", seen - unseen)
    return outcome


def _measure(count: int, plan: Plan) -> Values:
    with running("ours") as server:
        job = DashboardsJob(
            port=server.port,
            token=server.token,
            server_pid=server.pid,
            dashboards=count,
            queues=plan.dashboard_queues,
            seconds=plan.dashboard_seconds,
        )
        result = msgspec.json.decode(run_client("bench.dashboards", job, server, 180), type=DashboardsResult)
    if count and result.frames_each < plan.dashboard_seconds / 2:
        raise RuntimeError(f"a dashboard was sent {result.frames_each:.1f} frames in {plan.dashboard_seconds:.0f} s")
    return [("cpu", "% of a core", result.cpu_percent), ("frames", "each", result.frames_each)]
