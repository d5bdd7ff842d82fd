"""Delivery latency at a steady rate: publish call to the consumer's hand, against Redis Streams and NATS."""

from __future__ import annotations

from functools import partial

from bench.figures import Goal, Outcome
from bench.jobs import run_load
from bench.plan import Plan
from bench.scenarios.common import LEAN, Progress, Taker, Values, prose, rounds

SIDES = ("ours", "redis", "nats", "redis-lean")


def latency(plan: Plan, progress: Progress) -> Outcome:
    """1,000 messages a second, each published on its own."""
    outcome = Outcome(
        name="latency",
        title=f"Delivery latency at {plan.latency_rate:,} messages/s",
        method=prose(f"""
            One producer and one consumer in one client process, so one clock; {plan.latency_rate:,} messages/s for
            {plan.latency_seconds:.0f} s a round, paced by an open schedule (an event loop's timers tick in
            milliseconds, so one or two publishes go out at each tick). From the publish call to the consumer's
            callback, without the first 5 %. Server CPU in the same span.
        """),
        goals=[
            Goal(text="delivery latency p50 ÷ Redis always", ours="latency.ours.p50", reference="latency.redis.p50",
                 better="lower", least=0.7),
            Goal(text="delivery latency p50 ÷ NATS", ours="latency.ours.p50", reference="latency.nats.p50",
                 better="lower", aim=1.5),
            Goal(text="server CPU at that rate ÷ Redis always", ours="latency.ours.server_cpu",
                 reference="latency.redis.server_cpu", better="lower"),
        ],
    )  # fmt: skip
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"latency: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("latency", side, partial(_measure, side, plan))
    outcome.note(LEAN)
    return outcome


def _measure(side: str, plan: Plan) -> Values:
    result = run_load(
        side,
        "latency",
        rate=plan.latency_rate,
        seconds=plan.latency_seconds,
        credit=plan.credit,
        payload_bytes=plan.payload_bytes,
    )
    return [
        ("p50", "ms", result.figures["p50_ms"]),
        ("p90", "ms", result.figures["p90_ms"]),
        ("p99", "ms", result.figures["p99_ms"]),
        ("server_cpu", "ms/1,000", result.cpu_ms_per_thousand),
        ("others_busy", "% of a core", result.others_cpu / result.seconds * 100),
    ]
