"""What rate limiting costs: the same broker with limits that are out of reach, and with none."""

from __future__ import annotations

from functools import partial

from bench.figures import Goal, Outcome
from bench.jobs import RoundError, run_load
from bench.plan import Plan
from bench.rest import wrk
from bench.scenarios.common import Progress, Taker, Values, prose, rounds, throughput
from bench.servers import LIMITS_OFF, LIMITS_OUT_OF_REACH, running

SIDES = {"limited": LIMITS_OUT_OF_REACH, "unlimited": LIMITS_OFF}


def limits(plan: Plan, progress: Progress) -> Outcome:
    """REST publishes of many connections, and single messages over WebSocket, counted and not."""
    outcome = Outcome(
        name="limits",
        title="Rate limits on and off",
        method=prose(f"""
            REST: wrk, one thread, {plan.rest_connections} connections, {plan.rest_seconds:.0f} s a round. WebSocket:
            publish, consume and ack at once, {plan.flow_single_window} in flight, {plan.flow_messages:,} messages. The
            same broker, with limits that nobody reaches and with all of them off.
        """),
        goals=[
            Goal(text="REST publish with rate limits ÷ without", ours="rest.limited.rate",
                 reference="rest.unlimited.rate", better="higher", least=0.95),
            Goal(text="WebSocket publish + consume + ack with rate limits ÷ without", ours="websocket.limited.rate",
                 reference="websocket.unlimited.rate", better="higher", least=0.95),
        ],
    )  # fmt: skip
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, tuple(SIDES)):
        progress(f"limits: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("rest", side, partial(_rest, SIDES[side], plan))
        for side in sides:
            taker.take("websocket", side, partial(_websocket, SIDES[side], plan))
    return outcome


def _rest(env: dict[str, str], plan: Plan) -> Values:
    with running("ours", env) as server:
        wrk(server, connections=plan.rest_connections, seconds=1, size=plan.payload_bytes)
        result = wrk(server, connections=plan.rest_connections, seconds=plan.rest_seconds, size=plan.payload_bytes)
        if result.status or result.socket:
            raise RoundError(f"{result.status} answers of 4xx/5xx, {result.socket} socket errors\n{server.log_tail()}")
    return [("rate", "req/s", result.rate)]


def _websocket(env: dict[str, str], plan: Plan) -> Values:
    sizes = {"total": plan.flow_messages, "batch": 1, "window": plan.flow_single_window, "credit": plan.credit}
    return throughput(run_load("ours", "flow", env=env, payload_bytes=plan.payload_bytes, **sizes))
