"""Clients that hang, and what they cost those that do not."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import httpx
import msgspec

from bench.figures import Goal, Outcome
from bench.hung import BACKLOG_QUEUE, HungJob
from bench.jobs import RoundError
from bench.plan import Plan
from bench.rest import wrk
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import REPOSITORY, Server, running

_BACKLOG, _SIZE, _BATCH = 2_000, 10_000, 100


def hung(plan: Plan, progress: Progress) -> Outcome:
    """REST publishes with and without hundreds of hung clients."""
    outcome = Outcome(
        name="hung",
        title=f"REST publish beside {plan.hung_sockets} hung sockets and {plan.hung_websockets} WebSockets never read",
        method=prose(f"""
            wrk, one thread, {plan.rest_connections} keep-alive connections, {plan.hung_seconds:.0f} s a round, on a
            server of its own each time. Hung: {plan.hung_sockets} sockets that are silent or stop in a head or a body,
            each opened anew when the server closes it, and {plan.hung_websockets} WebSockets that subscribe with
            credit 1,000 to a backlog of {_BACKLOG:,} messages of {_SIZE:,} bytes and read nothing. Their client runs
            on the same machine; what it takes counts against us.
        """),
        goals=[
            Goal(text="REST publish beside hung clients ÷ without them", ours="hung.hung.rate",
                 reference="hung.calm.rate", better="higher", least=0.9),
        ],
    )  # fmt: skip
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, ("calm", "hung")):
        progress(f"hung: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("hung", side, partial(_measure, side, plan))
    return outcome


def _measure(side: str, plan: Plan) -> Values:
    with running("ours", {"STREAMBROKER_MAX_CONNECTIONS_PER_ADDRESS": "0"}) as server:
        _fill(server)
        wrk(server, connections=plan.rest_connections, seconds=1, size=plan.payload_bytes)
        with _hanging(server, plan) if side == "hung" else contextlib.nullcontext():
            cpu, before = server.cpu_seconds(), server.rss()
            result = wrk(server, connections=plan.rest_connections, seconds=plan.hung_seconds, size=plan.payload_bytes)
            cpu, grown = server.cpu_seconds() - cpu, server.rss() - before
    if result.status or result.socket:
        raise RoundError(f"{result.status} answers of 4xx/5xx, {result.socket} socket errors\n{server.log_tail()}")
    return [
        ("rate", "req/s", result.rate),
        ("p50", "ms", result.p50_us / 1e3),
        ("p99", "ms", result.p99_us / 1e3),
        ("server_cpu", "ms/1,000", cpu * 1e6 / result.requests),
        ("grown", "MiB", grown / 2**20),
    ]


def _fill(server: Server) -> None:
    """The backlog that is not read."""
    body = msgspec.json.encode({"messages": [{"content": "x" * _SIZE}] * _BATCH})
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30) as client:
        for _ in range(_BACKLOG // _BATCH):
            client.post(f"/queues/{BACKLOG_QUEUE}/messages/batch", content=body).raise_for_status()


@contextlib.contextmanager
def _hanging(server: Server, plan: Plan) -> Iterator[None]:
    """The hung clients, in a process of their own."""
    job = HungJob(port=server.port, token=server.token, sockets=plan.hung_sockets, websockets=plan.hung_websockets)
    argv = [sys.executable, "-m", "bench.hung", msgspec.json.encode(job).decode()]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"up\n":
                raise RoundError(f"the hung clients did not come up\n{server.log_tail()}")
            yield
            if process.poll() is not None:
                raise RoundError("the hung clients did not stay")
        finally:
            process.stdin.close()
            process.terminate()
