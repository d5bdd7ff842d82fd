"""What the Python SDK costs beside the leanest client of the same protocol."""

from __future__ import annotations

from functools import partial

from bench.figures import Goal, Outcome
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, prose, rounds
from bench.scenarios.flow import measure

SIDES = ("ours", "ours-sdk")


def sdk(plan: Plan, progress: Progress) -> Outcome:
    """The flow load with single publishes, 64 in flight, and with batches of 100, ten in flight."""
    single, batches = plan.flow_single_window, plan.flow_batch_window
    outcome = Outcome(
        name="sdk",
        title="Publish + consume + ack at once through the Python SDK",
        method=prose(f"""
            As `flow`: {plan.flow_messages:,} messages of {plan.payload_bytes} bytes a round, one producer and one
            consumer on connections of their own in one client process, credit {plan.credit:,}. `ours` is the raw client
            of this benchmark, which publishes without a key and acks without confirmation. `ours-sdk` is
            `streambroker.client` with its defaults: every publish request has a key under which it can be repeated,
            every ack is confirmed and remembered until then. The consumer does not wait for each ack before it takes
            the next message.
        """),
        goals=[
            _goal("single", f"one by one, {single} in flight"),
            _goal("batch", f"batches of {plan.batch_size}, {batches} in flight"),
        ],
    )
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"sdk: round {number}/{plan.rounds}")
        for key, batch, window in (("single", 1, single), ("batch", plan.batch_size, batches)):
            for side in sides:
                taker.take(key, side, partial(measure, side, batch, window, plan))
    return outcome


def _goal(key: str, text: str) -> Goal:
    return Goal(
        text=f"publish + consume + ack, {text}: SDK ÷ raw client",
        ours=f"{key}.ours-sdk.rate",
        reference=f"{key}.ours.rate",
        better="higher",
        least=0.8,
    )
