"""Thousands of idle consumers: memory for each, CPU at rest, and how many one publish wakes."""

from __future__ import annotations

from functools import partial

import msgspec

from bench.figures import Goal, Outcome
from bench.idle import IdleJob, IdleResult
from bench.jobs import run_client
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import running


def idle(plan: Plan, progress: Progress) -> Outcome:
    """WebSocket consumers of one queue and long-polls parked on another."""
    count = plan.idle_connections
    outcome = Outcome(
        name="idle",
        title=f"{count:,} idle WebSocket consumers, {count:,} parked long-polls",
        method=prose(f"""
            Against one server from one client process: 50 WebSocket consumers to warm up, then {count:,} more on one
            queue; 50 and {count:,} long-polls on another. KiB each is the growth of the server's resident size by the
            {count:,}, one second after the last. Idle CPU over {plan.idle_seconds:.0f} s with all of them open,
            heartbeats included. Then one publish to each queue, and one second later who got something.
        """),
        goals=[
            Goal(text="an idle WebSocket consumer", ours="idle.ours.websocket", better="lower", least=40, aim=25),
            Goal(text="a parked long-poll", ours="idle.ours.poll", better="lower", least=40, aim=25),
            Goal(text="idle CPU with all of them", ours="idle.ours.cpu", better="lower", least=5.0),
            Goal(text="WebSockets woken by one publish", ours="idle.ours.ws_woken", better="lower", least=1),
            Goal(
                text="long-polls woken by one publish",
                ours="idle.ours.poll_woken",
                better="lower",
                least=1,
            ),
        ],
    )
    taker = Taker(outcome, plan, progress)
    for number, _ in rounds(plan.rounds, ("ours",)):
        progress(f"idle: round {number}/{plan.rounds}")
        taker.take("idle", "ours", partial(_measure, plan))
    return outcome


def _measure(plan: Plan) -> Values:
    with running("ours") as server:
        job = IdleJob(
            port=server.port,
            token=server.token,
            server_pid=server.pid,
            connections=plan.idle_connections,
            seconds=plan.idle_seconds,
        )
        result = msgspec.json.decode(run_client("bench.idle", job, server, 180), type=IdleResult)
    if result.websockets_woken != 1 or result.polls_woken != 1:
        raise RuntimeError(f"one publish woke {result.websockets_woken} WebSockets, {result.polls_woken} long-polls")
    return [
        ("websocket", "KiB", result.websocket_kib),
        ("poll", "KiB", result.poll_kib),
        ("cpu", "% of a core", result.idle_cpu_percent),
        ("ws_woken", "consumers", result.websockets_woken),
        ("poll_woken", "consumers", result.polls_woken),
        ("rss", "MiB", result.rss_mib),
    ]
