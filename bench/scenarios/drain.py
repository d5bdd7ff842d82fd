"""Draining a backlog with one and four consumers, against NATS JetStream; speed at both ends and memory."""

from __future__ import annotations

from functools import partial

from bench.figures import Goal, Outcome
from bench.jobs import run_load
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, Values, prose, rounds, throughput

SIDES = ("ours", "nats")


def drain(plan: Plan, progress: Progress) -> Outcome:
    """Fill, wait a second, drain."""
    outcome = Outcome(
        name="drain",
        title=f"Drain a backlog of {plan.drain_messages:,}",
        method=prose(f"""
            {plan.drain_messages:,} messages of {plan.payload_bytes} bytes are published first (not timed), then
            {" or ".join(map(str, plan.drain_consumers))} consumers with a connection each, all in one client process,
            drain and ack them; credit {plan.credit:,} each. From the first subscription to the last confirmed ack.
            `first` and `last` are the rates of those tenths; `rss_most` is the server's largest resident size at the
            start and at the end of any tenth.
        """),
        goals=[goal for consumers in plan.drain_consumers for goal in _goals(consumers)],
    )
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"drain: round {number}/{plan.rounds}")
        for consumers in plan.drain_consumers:
            for side in sides:
                taker.take(f"drain{consumers}", side, partial(_measure, side, consumers, plan))
    if plan.drain_messages < 1_000_000:
        outcome.note(f"A quick run: a backlog of {plan.drain_messages:,}, not of 1,000,000.")
    return outcome


def _goals(consumers: int) -> list[Goal]:
    key = f"drain{consumers}"
    text = f"drain, {consumers} consumer{'s' if consumers > 1 else ''}"
    return [
        Goal(text=f"{text} ÷ NATS", ours=f"{key}.ours.rate", reference=f"{key}.nats.rate", better="higher",
             least=0.5, aim=1.0),
        Goal(text=f"{text}: last tenth ÷ first tenth", ours=f"{key}.ours.last", reference=f"{key}.ours.first",
             better="higher", least=0.9),
        Goal(text=f"{text}: server memory", ours=f"{key}.ours.rss_most", better="lower", least=200.0),
    ]  # fmt: skip


def _measure(side: str, consumers: int, plan: Plan) -> Values:
    result = run_load(
        side,
        "drain",
        total=plan.drain_messages,
        consumers=consumers,
        credit=plan.credit,
        payload_bytes=plan.payload_bytes,
    )
    return [
        *throughput(result),
        ("first", "msg/s", result.figures["first_tenth_per_s"]),
        ("last", "msg/s", result.figures["last_tenth_per_s"]),
        ("rss_before", "MiB", result.figures["rss_before_mib"]),
        ("rss_most", "MiB", result.figures["rss_most_mib"]),
    ]
