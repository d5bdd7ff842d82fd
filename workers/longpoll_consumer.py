"""Takes jobs by long-poll, one at a time: `python -m workers.longpoll_consumer --name poll-1`.

Nothing but HTTP is needed. The broker holds each poll open until there is a message; while a job runs, its lease is
extended, so a slow job is not handed to somebody else.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx

from workers import jobs, wire

WAIT_MS = 20_000


async def consume(client: httpx.AsyncClient, queue: str, name: str, lease_ms: int, stop: wire.Stop) -> None:
    """Work until a stop is asked for."""
    while not stop.asked:
        if delivery := await stop.interrupts(poll(client, queue, lease_ms)):
            await work(client, delivery, name, lease_ms)


async def poll(client: httpx.AsyncClient, queue: str, lease_ms: int) -> wire.Delivery | None:
    params = {"wait_ms": WAIT_MS, "lease_ms": lease_ms}
    message = await wire.call(client, "GET", f"/queues/{queue}/messages/consume", params=params)
    return message and wire.Delivery.from_json(message)


async def work(client: httpx.AsyncClient, delivery: wire.Delivery, name: str, lease_ms: int) -> None:
    """Do one job, leave its result, then settle it: in this order a crash repeats work, and never loses it."""
    extending = asyncio.create_task(extend(client, delivery, lease_ms))
    try:
        verdict: jobs.Verdict = await asyncio.to_thread(jobs.perform, delivery.content, delivery.attempt)
        async with asyncio.timeout(lease_ms / 1000):
            if isinstance(verdict, jobs.Done) and delivery.reply_to:
                try:
                    reply = delivery.reply(verdict.result, name)
                    await wire.call(client, "POST", f"/queues/{delivery.reply_to}/messages", json=reply)
                except wire.RefusedError as error:
                    verdict = jobs.Later(f"the result could not be left: {error}")
            verb, fields = jobs.settlement(verdict)
            await settle(client, delivery, verb, **fields)
        print(f"{name}: {delivery.message_id} attempt {delivery.attempt}: {verdict}", flush=True)
    except (wire.RefusedError, TimeoutError) as error:
        print(f"{name}: {delivery.message_id} not settled, it will come again: {error!r}", flush=True)
    finally:
        extending.cancel()


async def extend(client: httpx.AsyncClient, delivery: wire.Delivery, lease_ms: int) -> None:
    """Keep the lease while the work runs; ends when the message is no longer ours."""
    try:
        while True:
            await asyncio.sleep(lease_ms / 3000)
            await settle(client, delivery, "extend", lease_ms=lease_ms)
    except wire.RefusedError:
        return


async def settle(client: httpx.AsyncClient, delivery: wire.Delivery, verb: str, **fields: Any) -> None:
    await wire.call(client, "POST", f"/messages/{delivery.message_id}/{verb}", json={"lease": delivery.lease, **fields})


async def main() -> None:
    parser = wire.options("Take jobs by long-poll.")
    parser.add_argument("--name", default="poll", help="what this worker calls itself in its results (%(default)s)")
    parser.add_argument(
        "--lease-ms", type=int, default=30_000, help="a silent worker loses its job after (%(default)s)"
    )
    arguments = parser.parse_args()
    account = wire.account(parser, arguments.url)
    stop = wire.Stop()
    async with wire.rest(account) as client:
        try:
            await consume(client, arguments.queue, arguments.name, arguments.lease_ms, stop)
        except wire.RefusedError as error:
            sys.exit(f"{arguments.name}: {error}")


if __name__ == "__main__":
    asyncio.run(main())
