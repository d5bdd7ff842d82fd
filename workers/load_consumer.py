"""Consume as fast as it goes and tell how it went: rates, and how long messages of `load_producer` were under way.

That time is from the producer's clock to this one's: on two machines it is as good as their clocks agree, and messages
that waited in the queue count their wait. Ctrl-C ends it; what was not settled goes back to the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from contextlib import AsyncExitStack

from rich.console import Console

from streambroker.client import Client, Message
from workers import load, program


class Consumer:
    """Takes and acks; owns the acks that are not confirmed."""

    def __init__(self, client: Client, arguments: argparse.Namespace, told: load.Load) -> None:
        self.client = client
        self.arguments = arguments
        self.told = told
        self.again = 0
        self._acks: set[asyncio.Future[None]] = set()

    async def consume(self) -> None:
        """Until `count` messages came, or for ever. Raises what ends the consuming for good."""
        count = self.arguments.count
        taken = 0
        credit = min(self.arguments.credit, count or self.arguments.credit)
        async with contextlib.aclosing(self.client.consume(self.arguments.queue, credit=credit)) as messages:
            async for message in messages:
                taken += 1
                self.take(message)
                if self.arguments.work_ms:
                    await asyncio.sleep(self.arguments.work_ms / 1000)
                if taken == count:
                    break
            while self._acks:
                await asyncio.wait(self._acks)

    def take(self, message: Message) -> None:
        content = message.content
        sent = content.get("sent") if isinstance(content, dict) else None
        seconds = time.time() - sent if isinstance(sent, float) else 0.0
        self.again += message.attempt > 1
        self.told.in_flight += 1
        ack = message.ack()
        self._acks.add(ack)
        ack.add_done_callback(lambda ack: self.confirmed(ack, len(message.body), seconds))

    def confirmed(self, ack: asyncio.Future[None], size: int, seconds: float) -> None:
        self._acks.discard(ack)
        self.told.in_flight -= 1
        if ack.cancelled() or ack.exception() is not None:
            self.told.failed += 1
        else:
            self.told.add(size, max(0.0, seconds))


async def main(arguments: argparse.Namespace, client: Client) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    told = load.Load("acked", arguments.count, arguments.duration)
    consumer = Consumer(client, arguments, told)
    async with AsyncExitStack() as stack:
        stack.callback(load.summary, told, console, "under way")
        stack.callback(lambda: told.notes.update({"delivered again": f"{consumer.again:,}"}))
        await stack.enter_async_context(load.shown(told, console, arguments.quiet))
        told.begin()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(arguments.duration):
                await consumer.consume()
    if told.failed:
        raise program.ProgramError(f"{told.failed} acks were refused")


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("--queue", default="load", help="(%(default)s)")
    parser.add_argument("--credit", type=int, default=1000, help="messages in hand and not settled (%(default)s)")
    parser.add_argument("--count", type=int, help="end after so many (never)")
    parser.add_argument("--duration", type=float, help="end after so many seconds (never)")
    parser.add_argument("--work-ms", type=float, default=0, help="pretend that each takes so long (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="the summary only")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
