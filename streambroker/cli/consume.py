"""``streambroker consume``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streambroker.cli.connection import Caller, calls_broker
from streambroker.cli.exits import Exit, fail
from streambroker.cli.interrupts import interrupts, read_ahead
from streambroker.cli.settling import Asked, Executed, Printed, Work
from streambroker.cli.taking import Counted, Source, Subscribed
from streambroker.cli.values import QueueName, duration

if TYPE_CHECKING:
    from streambroker.client import Client, Message

app = typer.Typer()

CREDIT = 100
_DURATION: dict[str, Any] = {"parser": duration, "metavar": "DURATION"}


@app.command()
@calls_broker
async def consume(
    caller: Caller,
    queue: QueueName,
    ack: Annotated[
        Literal["auto", "manual"],
        typer.Option(
            help="auto: once it is printed. manual: a line of stdin for each, a(ck), n(ack), r(eject), q(uit)."
        ),
    ] = "auto",
    command: Annotated[
        str | None,
        typer.Option("--exec", metavar="CMD", help="Run for each message; exit 0 acks it, any other has it retried."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1_000, help="Commands of --exec at a time.")] = 1,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many messages.")] = None,
    wait_ms: Annotated[
        int | None, typer.Option("--wait", help="End when none has come for so long; 0: what is there.", **_DURATION)
    ] = None,
    credit: Annotated[int | None, typer.Option(min=1, max=10_000, help="Most messages in hand at a time.")] = None,
    retry_delay: Annotated[
        int | None, typer.Option("--retry-delay", help="The wait after a nack, not the queue's.", **_DURATION)
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The contents byte for byte, without ends of lines.")] = False,
) -> int:
    """Consume a queue: print each message on a line, or run a command for it.

    Goes on until --count, --wait, Ctrl-C or SIGTERM; what is in hand then and not settled is given back. A command gets
    the content on stdin, and MESSAGE_ID, MESSAGE_ATTEMPT, MESSAGE_KEY, MESSAGE_HEADERS, ... in its environment.
    """
    if command is not None and ack == "manual":
        fail(Exit.USAGE, "--exec and --ack manual exclude each other: the command's exit status decides")
    stopped = asyncio.Event()
    if command is not None:
        work: Work = Executed(command, caller.out, retry_delay)
    elif ack == "manual":
        work = Asked(caller.out, raw, retry_delay, read_ahead(_lines(), stopped))
    else:
        work = Printed(caller.out, raw)
    takers = concurrency if command is not None else 1
    async with caller.client() as client, interrupts(stopped, work.hurry):
        if isinstance(work, Printed):
            sources = [_to_print(client, queue, credit or CREDIT, count)]
        else:
            sources = _to_work(client, queue, credit or takers, count, takers)
        run = _Run(work, count, None if wait_ms is None else wait_ms / 1_000, stopped)
        try:
            await run.all([sources[number % len(sources)] for number in range(takers)])
        finally:
            await work.finish()
            await asyncio.gather(*(source.close() for source in sources))
    failed = f", {work.failed:,} of them nacked" if work.failed else ""
    lost = f", {work.lost:,} of them lost before they were settled" if work.lost else ""
    caller.out.say(f"{run.done:,} message{'' if run.done == 1 else 's'} of {queue}{failed}{lost}")
    return 0


def _to_print(client: Client, queue: str, credit: int, count: int | None) -> Source:
    """A subscription, or several one after the other where they are counted."""
    return Subscribed(client, queue, credit) if count is None else Counted(client, queue, credit, count)


def _to_work(client: Client, queue: str, credit: int, count: int | None, takers: int) -> list[Source]:
    """Subscriptions, whose leases live as long as we do: one for all, or of credit 1 for each where they are counted.

    One that has a single message in hand fetches no other before that is settled, and so can be told in time that it
    was the last.
    """
    if count is None:
        return [Subscribed(client, queue, credit)]
    return [Subscribed(client, queue, 1) for _ in range(min(takers, count))]


def _lines() -> Iterator[str]:
    with open(0, encoding="utf-8", errors="replace", closefd=False) as stdin:  # as in `contents`
        yield from stdin


class _Run:
    """One run of the command: takes messages for as long as they are wanted. `done` counts them."""

    def __init__(self, work: Work, count: int | None, wait_s: float | None, stopped: asyncio.Event) -> None:
        self.done = 0
        self._work = work
        self._left = count
        self._wait_s = wait_s
        self._stopped = stopped

    async def all(self, sources: Sequence[Source]) -> None:
        """Work with a message of each at a time, to the end. Raises the first error."""
        tasks = [asyncio.create_task(self._taker(source)) for source in sources]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _taker(self, source: Source) -> None:
        wanted = self._wanted()

        async def worked() -> None:
            nonlocal wanted
            wanted = self._wanted()
            if not wanted:
                await source.enough()

        while wanted and not self._stopped.is_set():
            message = await self._next(source)
            if message is None or not await self._work.do(message, worked):
                self._stopped.set()
                return
            self.done += 1

    def _wanted(self) -> bool:
        """Whether to take one more; then it counts."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    async def _next(self, source: Source) -> Message | None:
        """The next message; None where the end has come."""
        taking = asyncio.ensure_future(source.take(self._wait_s))
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((taking, stopping), return_when=asyncio.FIRST_COMPLETED)
            return taking.result() if taking.done() else None
        finally:
            taking.cancel()
            stopping.cancel()
