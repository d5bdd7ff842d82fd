"""A worker for the demo's jobs: takes them over a WebSocket, or with `--door long-poll` over REST.

It does a job (`workers.jobs`), leaves its result in the queue that the message says as reply_to, then acks: in this
order a crash repeats work and never loses it, and the dedup id keeps a result that was left twice from counting twice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from streambroker.client import Client, LeaseLost, Message, Reject, Retry, StreambrokerError, worker
from workers import jobs, program

POLL_MS = 20_000
LEASE_MS = 30_000
AGAIN_MS = 1_000


class Jobber:
    """Does jobs under a name, which its results carry."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    async def work(self, message: Message) -> None:
        """Raises `Retry` and `Reject` as the job comes out."""
        # In a thread, so that the connection goes on answering pings: they are what keeps the lease.
        verdict: jobs.Verdict = await asyncio.to_thread(jobs.perform, message.content, message.attempt)
        print(f"{self.name}: {message.message_id} attempt {message.attempt}: {verdict}", flush=True)
        match verdict:
            case jobs.Done(result) if message.reply_to:
                await self.client.publish(
                    message.reply_to,
                    result,
                    correlation_id=message.correlation_id,
                    dedup_id=f"result/{message.message_id}",
                    headers={"worker": self.name, "attempt": message.attempt},
                )
            case jobs.Later(reason):
                raise Retry(reason)
            case jobs.Never(reason):
                raise Reject(reason)

    async def poll(self, queue: str, lease_ms: int) -> None:
        """The same by hand, a message at a time over REST, for networks that let no WebSocket through."""
        while True:
            try:
                message = await self.client.receive(queue, wait_ms=POLL_MS, lease_ms=lease_ms)
                if message is not None:
                    await self.settle(message)
            except LeaseLost:
                print(f"{self.name}: it took longer than its lease; it will come again", flush=True)
            except StreambrokerError as error:
                if not error.retryable:
                    raise
                # The SDK has tried for a second or two; a broker's restart may take longer, and a worker has the time.
                print(f"{self.name}: {error}", flush=True)
                await asyncio.sleep((error.retry_after_ms or AGAIN_MS) / 1_000)

    async def settle(self, message: Message) -> None:
        """Work, and tell the broker how it came out. Raises `LeaseLost` where it took too long."""
        try:
            await self.work(message)
        except Retry as later:
            await message.nack(reason=later.detail)
        except Reject as never:
            await message.nack(requeue=False, reason=never.detail)
        else:
            await message.ack()


async def main(arguments: argparse.Namespace, client: Client) -> None:
    jobber = Jobber(client, arguments.name)
    if arguments.door == "long-poll":
        await jobber.poll(arguments.queue, arguments.lease_ms)
    async with program.at_work(client, worker(arguments.queue, concurrency=arguments.concurrency)(jobber.work)):
        await program.until_told()


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("--queue", default="jobs", help="(%(default)s)")
    parser.add_argument("--name", default="worker", help="what its results say they are by (%(default)s)")
    parser.add_argument("--door", choices=("websocket", "long-poll"), default="websocket", help="(%(default)s)")
    parser.add_argument("--concurrency", type=int, default=4, help="jobs at a time over a WebSocket (%(default)s)")
    parser.add_argument("--lease-ms", type=int, default=LEASE_MS, help="of a job taken over REST (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
