"""Publish as fast as it goes, or at --rate, and tell how it went: rates, and how long confirmations took.

Each message carries when it was sent, so that `load_consumer` can tell how long it was under way. A confirmation means
that the message is durable. Ctrl-C ends it and shows the summary of what was done.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from contextlib import AsyncExitStack

from rich.console import Console

from streambroker.client import Client, StreambrokerError
from workers import load, program


class Producer:
    """Publishes; owns the count of those on their way, of which there are at most `in_flight`."""

    def __init__(self, client: Client, arguments: argparse.Namespace, told: load.Load) -> None:
        self.client = client
        self.arguments = arguments
        self.told = told
        self.first_error: StreambrokerError | None = None
        self._numbers = itertools.count()
        self._padding = "x" * max(0, arguments.size - 60)

    def is_over(self, number: int) -> bool:
        limit = self.arguments
        late = limit.duration is not None and self.told.elapsed_s >= limit.duration
        return late or (limit.count is not None and number >= limit.count)

    async def lane(self) -> None:
        """One message after the other, each when its time has come."""
        rate = self.arguments.rate
        while not self.is_over(number := next(self._numbers)):
            if rate and (early := number / rate - self.told.elapsed_s) > 0:
                due = number / rate
                if self.arguments.duration is not None and due >= self.arguments.duration:
                    return  # its time comes after the end
                await asyncio.sleep(early)
            await self.publish(number)

    async def publish(self, number: int) -> None:
        content = {"n": number, "sent": time.time(), "padding": self._padding}
        self.told.in_flight += 1
        began = time.perf_counter()
        try:
            await self.client.publish(self.arguments.queue, content, timeout=30)
        except StreambrokerError as error:
            self.told.failed += 1
            self.first_error = self.first_error or error
            if not getattr(error, "retryable", True):
                raise
        else:
            self.told.add(self.arguments.size, time.perf_counter() - began)
        finally:
            self.told.in_flight -= 1


async def main(arguments: argparse.Namespace, client: Client) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    told = load.Load("confirmed", arguments.count, arguments.duration)
    producer = Producer(client, arguments, told)
    async with AsyncExitStack() as stack:
        stack.callback(load.summary, told, console, "confirmation")
        await stack.enter_async_context(load.shown(told, console, arguments.quiet))
        told.begin()
        lanes = [asyncio.create_task(producer.lane()) for _ in range(arguments.in_flight)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
    if producer.first_error is not None:
        raise program.ProgramError(f"{told.failed} were not confirmed, the first: {producer.first_error}")


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("--queue", default="load", help="(%(default)s)")
    parser.add_argument("--rate", type=float, help="messages per second (as fast as it goes)")
    parser.add_argument("--size", type=int, default=200, help="bytes of content, about, at least 60 (%(default)s)")
    parser.add_argument("--count", type=int, help="end after so many (never)")
    parser.add_argument("--duration", type=float, help="end after so many seconds (never)")
    parser.add_argument("--in-flight", type=int, default=1000, help="sent and not confirmed, at most (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="the summary only")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
