"""REST publish: 32 connections against a bare route, one at a time against the disk."""

from __future__ import annotations

import shutil
from functools import partial

import msgspec

from bench.figures import Goal, Outcome
from bench.jobs import RoundError, run_client
from bench.plan import Plan
from bench.rest import SingleJob, SingleResult, floor, wrk
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import Server, running, scratch


def rest(plan: Plan, progress: Progress) -> Outcome:
    """REST publishes of many connections, as a share of a route that answers the same and stores nothing."""
    outcome = Outcome(
        name="rest",
        title="REST publish, 32 connections",
        method=prose(f"""
            wrk, one thread, {plan.rest_connections} keep-alive connections, {plan.rest_seconds:.0f} s a round, JWT,
            {plan.payload_bytes}-byte content. Bare: Starlette on uvicorn, reads the body, answers the same 201.
        """),
        goals=[
            Goal(text="REST publish, 32 connections ÷ bare Starlette route", ours="rest.ours.rate",
                 reference="rest.bare.rate", better="higher", least=0.5, aim=0.65),
        ],
    )  # fmt: skip
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, ("ours", "bare")):
        progress(f"rest: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("rest", side, partial(_wrk, side, plan))
    return outcome


def _wrk(side: str, plan: Plan) -> Values:
    with running(side) as server:
        wrk(server, connections=plan.rest_connections, seconds=1, size=plan.payload_bytes)
        cpu = server.cpu_seconds()
        result = wrk(server, connections=plan.rest_connections, seconds=plan.rest_seconds, size=plan.payload_bytes)
        cpu = server.cpu_seconds() - cpu
        if result.status or result.socket:
            raise RoundError(f"{result.status} answers of 4xx/5xx, {result.socket} socket errors\n{server.log_tail()}")
    return [
        ("rate", "req/s", result.rate),
        ("p50", "ms", result.p50_us / 1e3),
        ("p99", "ms", result.p99_us / 1e3),
        ("server_cpu", "ms/1,000", cpu * 1e6 / result.requests),
    ]


def rest_single(plan: Plan, progress: Progress) -> Outcome:
    """The p50 of one publish at a time, against one append and fdatasync on the same disk."""
    outcome = Outcome(
        name="rest-single",
        title="REST publish, one at a time",
        method=prose(f"""
            A blocking keep-alive socket in Python that sends prepared bytes (no HTTP library),
            {plan.rest_single_requests} requests a round; p50 without the first 5 %. Disk: 4 KiB append + fdatasync, as
            many. `bare` is the same client against the bare route: what HTTP and the client cost without a disk.
        """),
        goals=[
            Goal(text="REST publish, one at a time: p50 ÷ p50 of 4 KiB append + fdatasync", ours="single.ours.p50",
                 reference="single.disk.p50", better="lower", least=3.0, aim=2.0),
        ],
    )  # fmt: skip
    taker = Taker(outcome, plan, progress)
    for number, sides in rounds(plan.rounds, ("ours", "disk", "bare")):
        progress(f"rest-single: round {number}/{plan.rounds}")
        for side in sides:
            taker.take("single", side, partial(_single, side, plan))
    return outcome


def _single(side: str, plan: Plan) -> Values:
    if side == "disk":
        directory = scratch()
        try:
            disk = floor("append", plan.rest_single_requests, 0, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return [("p50", "ms", disk["p50_ms"]), ("p99", "ms", disk["p99_ms"])]
    with running(side) as server:
        result = _one_at_a_time(server, plan)
    return [("p50", "ms", result.p50_ms), ("p99", "ms", result.p99_ms)]


def _one_at_a_time(server: Server, plan: Plan) -> SingleResult:
    token = server.token or "x" * 320
    job = SingleJob(port=server.port, token=token, count=plan.rest_single_requests, payload_bytes=plan.payload_bytes)
    return msgspec.json.decode(run_client("bench.rest", job, server, 300), type=SingleResult)
