"""What it costs to see: the broker as it is, and with its counters, metrics and logs taken out."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.figures import Goal, Outcome
from bench.jobs import RoundError, run_load
from bench.plan import Plan
from bench.rest import wrk
from bench.scenarios.common import Progress, Taker, Values, prose, rounds, throughput
from bench.servers import running

SIDES = ("ours", "unobserved")


def observe(plan: Plan, progress: Progress) -> Outcome:
    """REST publishes, publishes of batches, and messages all the way, seen and unseen."""
    outcome = Outcome(
        name="observe",
        title="Statistics, metrics and logs, and without them",
        method=prose(f"""
            The broker with its defaults, and started by `bench/unobserved.py`, which takes out what it counts and the
            tasks that look at it. REST: wrk, one thread, {plan.rest_connections} connections, {plan.rest_seconds:.0f} s
            a round. Publish: batches of {plan.batch_size} over WebSocket, 4 in flight. Flow: publish, consume and ack
            at once over WebSocket, {plan.flow_single_window} single messages in flight, or batches of
            {plan.batch_size}, {plan.flow_batch_window} in flight.
        """),
        goals=[
            Goal(text=f"{text}, seen ÷ unseen", ours=f"{key}.ours.{of}", reference=f"{key}.unobserved.{of}",
                 better="lower" if of == "server_cpu" else "higher", least=1.05 if of == "server_cpu" else 0.95)
            for key, text in (("rest", "REST publish"), ("publish", "WebSocket publish"), ("single", "flow one by one"),
                              ("batch", "flow in batches"))
            for of in ("rate", "server_cpu")
        ],
    )  # fmt: skip
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, SIDES):
        progress(f"observe: round {number}/{plan.rounds}")
        for key, measure in (("rest", _rest), ("publish", _publish), ("single", _single), ("batch", _batch)):
            for side in sides:
                taker.take(key, side, partial(measure, side, plan))
    return outcome


def _rest(side: str, plan: Plan) -> Values:
    with running(side) as server:
        wrk(server, connections=plan.rest_connections, seconds=1, size=plan.payload_bytes)
        before = server.cpu_seconds()
        result = wrk(server, connections=plan.rest_connections, seconds=plan.rest_seconds, size=plan.payload_bytes)
        cpu = server.cpu_seconds() - before
        if result.status or result.socket:
            raise RoundError(f"{result.status} answers of 4xx/5xx, {result.socket} socket errors\n{server.log_tail()}")
    return [("rate", "req/s", result.rate), ("server_cpu", "ms/1,000", cpu / result.requests * 1e6)]


def _publish(side: str, plan: Plan) -> Values:
    return _load(side, "publish", plan, total=plan.publish_messages, batch=plan.batch_size, window=4)


def _single(side: str, plan: Plan) -> Values:
    return _load(side, "flow", plan, total=plan.flow_messages, batch=1, window=plan.flow_single_window)


def _batch(side: str, plan: Plan) -> Values:
    return _load(side, "flow", plan, total=plan.flow_messages, batch=plan.batch_size, window=plan.flow_batch_window)


def _load(side: str, load: str, plan: Plan, **sizes: Any) -> Values:
    return throughput(run_load(side, load, payload_bytes=plan.payload_bytes, credit=plan.credit, **sizes))
