"""Publishes jobs by REST, in batches, and safely: `python -m workers.producer --count 100`.

Each job has a `dedup_id`, so a batch whose answer was lost on the way is published again without doing the work twice.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from itertools import islice

import httpx

from workers import jobs, wire

BATCH = 100


async def publish(
    client: httpx.AsyncClient, queue: str, work: Iterable[jobs.Job], *, run: str, reply_to: str | None = None
) -> list[str]:
    """Publish every job, in order; returns the messages' ids. The same `run` again publishes nothing twice."""
    drafts = (
        {"content": job, "dedup_id": f"{run}-{number}", "correlation_id": str(number), "reply_to": reply_to}
        for number, job in enumerate(work)
    )
    message_ids: list[str] = []
    while batch := list(islice(drafts, BATCH)):
        answer = await wire.call(client, "POST", f"/queues/{queue}/messages/batch", json={"messages": batch})
        message_ids += answer["message_ids"]
    return message_ids


async def main() -> None:
    parser = wire.options("Publish generated jobs by REST.")
    parser.add_argument("--count", type=int, default=100, help="how many jobs (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which jobs are generated (%(default)s)")
    parser.add_argument("--run", default=uuid.uuid4().hex, help="the name of this run; the same one publishes once")
    parser.add_argument("--reply-to", help="the queue in which the workers leave their results")
    parser.add_argument("--patience", type=float, default=60, help="seconds to go on while the broker is away")
    arguments = parser.parse_args()
    account = wire.account(parser, arguments.url)
    work = jobs.generate(arguments.count, arguments.seed)
    async with wire.rest(account) as client, asyncio.timeout(arguments.patience):
        message_ids = await publish(client, arguments.queue, work, run=arguments.run, reply_to=arguments.reply_to)
    print(f"published {len(message_ids)} jobs to {arguments.queue} (run {arguments.run})")


if __name__ == "__main__":
    asyncio.run(main())
