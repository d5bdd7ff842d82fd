"""`GET /stats`, beside the cheapest answer that there is."""

from __future__ import annotations

from functools import partial

import httpx

from bench.figures import Goal, Outcome
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import Server, running

_QUEUES = (1, 1_000)
_WARM_UP = 50


def stats(plan: Plan, progress: Progress) -> Outcome:
    """What it costs with one queue, and with a thousand."""
    outcome = Outcome(
        name="stats",
        title="GET /stats",
        method=prose(f"""
            {plan.rest_single_requests} requests, one after another over one connection, of an admin, and as many of
            `/healthz`, with {_QUEUES[0]} and with {_QUEUES[1]:,} queues. CPU is the server's, of a whole request.
        """),
        goals=[
            Goal(text=f"GET /stats, {count:,} queues", ours=f"stats.{count}.cpu", better="lower", least=1.0)
            for count in _QUEUES
        ],
    )
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, [str(count) for count in _QUEUES]):
        progress(f"stats: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("stats", side, partial(_measure, int(side), plan.rest_single_requests))
    return outcome


def _measure(queues: int, requests: int) -> Values:
    with running("ours") as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30) as http:
            for number in range(queues):
                http.post("/queues", json={"name": f"queue-{number}"}).raise_for_status()
            return [
                ("cpu", "ms", _each(server, http, "/stats", requests)),
                ("floor", "ms", _each(server, http, "/healthz", requests)),
            ]


def _each(server: Server, http: httpx.Client, path: str, requests: int) -> float:
    for _ in range(_WARM_UP):
        http.get(path).raise_for_status()
    before = server.cpu_seconds()
    for _ in range(requests):
        http.get(path).raise_for_status()
    return (server.cpu_seconds() - before) * 1_000 / requests
