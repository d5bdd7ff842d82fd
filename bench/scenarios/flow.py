"""Publish, consume and ack at once: rate and server CPU, against NATS JetStream and Redis Streams."""

from __future__ import annotations

from functools import partial

from bench.figures import Goal, Outcome
from bench.jobs import run_load
from bench.plan import Plan
from bench.scenarios.common import LEAN, Progress, Taker, Values, prose, rounds, throughput

SIDES = ("ours", "nats", "redis", "redis-lean")


def flow(plan: Plan, progress: Progress) -> Outcome:
    """Single publishes with 64 in flight, then batches of 100 with ten in flight; one producer, one consumer."""
    single, batches = plan.flow_single_window, plan.flow_batch_window
    one_by_one, in_batches = f"one by one, {single} in flight", f"batches of {plan.batch_size}, {batches} in flight"
    outcome = Outcome(
        name="flow",
        title="WebSocket publish + consume + ack at once",
        method=prose(f"""
            {plan.flow_messages:,} messages of {plan.payload_bytes} bytes a round, one producer and one consumer on
            connections of their own in one client process, credit {plan.credit:,}. `single`: each message is a publish
            of its own, {single} in flight. `batch`: {plan.batch_size} messages a publish, {batches} in flight. From the
            first publish to the last confirmed ack. Acks of ours and NATS are not confirmed but for the last; Redis'
            XACK is. Server CPU is user + system time of the server's process in the same span.
        """),
        goals=[*_goals("single", one_by_one), *_goals("batch", in_batches)],
    )
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"flow: round {number}/{plan.rounds}")
        for key, batch, window in (("single", 1, single), ("batch", plan.batch_size, batches)):
            for side in sides:
                taker.take(key, side, partial(measure, side, batch, window, plan))
    outcome.note(LEAN)
    return outcome


def _goals(key: str, text: str) -> list[Goal]:
    ours = f"{key}.ours"
    return [
        Goal(text=f"publish + consume + ack, {text} ÷ NATS", ours=f"{ours}.rate", reference=f"{key}.nats.rate",
             better="higher", least=1.0, aim=2.0),
        Goal(text=f"publish + consume + ack, {text} ÷ Redis always", ours=f"{ours}.rate",
             reference=f"{key}.redis.rate", better="higher", least=2.0),
        Goal(text=f"server CPU per 1,000 messages, {text} ÷ Redis always", ours=f"{ours}.server_cpu",
             reference=f"{key}.redis.server_cpu", better="lower", least=1.0),
        Goal(text=f"server CPU per 1,000 messages, {text} ÷ NATS", ours=f"{ours}.server_cpu",
             reference=f"{key}.nats.server_cpu", better="lower", aim=1.0),
    ]  # fmt: skip


def measure(side: str, batch: int, window: int, plan: Plan) -> Values:
    """One round of one side."""
    result = run_load(
        side,
        "flow",
        total=plan.flow_messages,
        batch=batch,
        window=window,
        credit=plan.credit,
        payload_bytes=plan.payload_bytes,
    )
    return throughput(result)
