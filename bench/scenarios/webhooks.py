"""Messages pushed to one receiver that answers at once."""

from __future__ import annotations

from functools import partial

import msgspec

from bench.figures import Outcome
from bench.jobs import RoundError, run_client
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import running
from bench.webhooks import WebhooksJob, WebhooksResult

_CONCURRENCY = (1, 10, 50)


def webhooks(plan: Plan, progress: Progress) -> Outcome:
    """How many messages a second one webhook pushes, by its `concurrency`."""
    outcome = Outcome(
        name="webhooks",
        title="Webhooks to one receiver",
        method=prose(f"""
            {plan.webhook_messages:,} messages of {plan.payload_bytes} bytes wait in a queue; then a webhook is made
            whose receiver, a bare asyncio protocol in a process of its own, answers 204 at once over plain HTTP.
            Measured from the making until the last message is settled: leased, signed, sent, answered, acked and
            fsynced. `concurrency` 1 keeps the order, 10 is the default, 50 the most.
        """),
        goals=[],
    )
    taker = Taker(outcome, plan, progress)
    sides = [str(concurrency) for concurrency in _CONCURRENCY]
    for number, turns in rounds(plan.rounds, sides):
        progress(f"webhooks: round {number}/{plan.rounds}")
        for side in turns:
            taker.take("webhooks", side, partial(_measure, int(side), plan))
    return outcome


def _measure(concurrency: int, plan: Plan) -> Values:
    with running("ours", {"STREAMBROKER_WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8"}) as server:
        job = WebhooksJob(
            port=server.port,
            token=server.token,
            server_pid=server.pid,
            total=plan.webhook_messages,
            payload_bytes=plan.payload_bytes,
            concurrency=concurrency,
        )
        result = msgspec.json.decode(run_client("bench.webhooks", job, server, 400), type=WebhooksResult)
        if result.repeated:
            raise RoundError(f"{result.repeated} messages came more than once\n{server.log_tail()}")
    return [
        ("rate", "msg/s", result.rate),
        ("server_cpu", "ms/1,000", result.cpu_ms_per_thousand),
        ("client_busy", "% of a core", result.client_percent),
        ("connections", "", result.connections),
    ]
