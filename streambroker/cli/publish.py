"""``streambroker publish``."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streambroker.cli.connection import Caller, calls_broker, nothing_more
from streambroker.cli.contents import Content, Kind, contents
from streambroker.cli.exits import Exit, fail
from streambroker.cli.interrupts import interrupts, read_ahead, until
from streambroker.cli.output import Output
from streambroker.cli.progress import Progress, progress
from streambroker.cli.values import QueueName, complete_queue, duration, headers, rate
from streambroker.cli.values import time as moment

if TYPE_CHECKING:
    from streambroker.client import Client, Published

app = typer.Typer()

IN_FLIGHT = 256
"""Most publishes that wait for their answers at a time."""
FINISH_S = 5.0
"""How long an interrupted command waits for the answers that are due."""


@app.command()
@calls_broker
async def publish(
    caller: Caller,
    queue: QueueName,
    content: Annotated[
        list[str] | None, typer.Argument(metavar="[CONTENT]...", help="A message each; - for the lines of stdin.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="A file that is a message; repeatable, - is stdin.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of the files is a message.")] = False,
    kind: Annotated[Kind, typer.Option("--as", help="auto: JSON where it is JSON, else text, else bytes.")] = "auto",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Publish it all so many times.")] = 1,
    per_second: Annotated[
        float | None, typer.Option("--rate", parser=rate, metavar="RATE", help="No faster than 100/s, 30/m, ….")
    ] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="0 to 9; higher goes first.")] = None,
    delay_ms: Annotated[
        int | None,
        typer.Option("--delay", parser=duration, metavar="DURATION", help="Not delivered before: 30s, 5m, 2h, ….")
    ] = None,
    available_at: Annotated[
        datetime | None,
        typer.Option("--at", parser=moment, metavar="TIME", help="Not delivered before: 2026-11-22T10:00:00Z."),
    ] = None,
    ttl_ms: Annotated[
        int | None, typer.Option("--ttl", parser=duration, metavar="DURATION", help="Its life, if nobody takes it.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="A label, to find it by.")] = None,
    dedup_id: Annotated[str | None, typer.Option(help="Names this publish; of one message only.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="Carried along; repeatable.")
    ] = None,
    content_type: Annotated[str | None, typer.Option(help="Media type of the content.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Carried along.")] = None,
    reply_to: Annotated[
        str | None, typer.Option(help="Where an answer is wanted.", autocompletion=complete_queue)
    ] = None,
    max_attempts: Annotated[int | None, typer.Option(min=0, help="In place of the queue's.")] = None,
    traceparent: Annotated[str | None, typer.Option(help="Trace context (W3C).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no ids.")] = False,
) -> int:  # fmt: skip
    """Publish messages, and print their ids once they are durable.

    Contents are arguments, files, or the lines of stdin. It stops at the first that is refused; what was published
    before stays, and the last line says how many that were.
    """
    options: dict[str, Any] = {
        "priority": priority, "delay_ms": delay_ms, "available_at": available_at, "ttl_ms": ttl_ms, "key": key,
        "dedup_id": dedup_id, "headers": headers(header or []), "correlation_id": correlation_id,
        "reply_to": reply_to, "max_attempts": max_attempts, "traceparent": traceparent,
    }  # fmt: skip
    source, total = _source(content or [], file or [], lines, kind, count)
    if dedup_id is not None and total != 1:
        fail(Exit.USAGE, "a --dedup-id names one message; with it goes one CONTENT or --file, and no --count")
    async with caller.client() as client:
        with progress(caller.out, "published", total) as bar:
            run = _Run(client, queue, options, content_type, caller.timeout, _Teller(caller.out, quiet, bar, total))
            return await run.all(source, per_second)


def _source(
    arguments: list[str], files: list[Path], lines: bool, kind: Kind, count: int
) -> tuple[Iterator[Content], int | None]:
    """What to publish, and how many that are where it is known without reading it all."""
    endless = lines or "-" in arguments or (not arguments and not files)
    total = None if endless else (len(arguments) + len(files)) * count
    if count == 1:
        return contents(arguments, files, lines, kind), total
    known = list(contents(arguments, files, lines, kind))
    return itertools.chain.from_iterable(itertools.repeat(known, count)), len(known) * count


class _Teller:
    """Tells of what was published: ids on stdout, or a bar where somebody looks at many; counts it."""

    def __init__(self, out: Output, quiet: bool, bar: Progress, total: int | None) -> None:
        self.published = 0
        self.duplicates = 0
        self._out = out
        self._bar = bar
        self._ids = not quiet and (not out.for_people or total == 1)

    def told(self, published: Published) -> None:
        self.published += 1
        self.duplicates += published.duplicate
        self._bar.advance()
        if self._out.json:
            self._out.document(published)
        elif self._ids:
            self._out.line(published.message_id)

    def summary(self, queue: str, seconds: float) -> None:
        again = f", {self.duplicates} of them duplicates" if self.duplicates else ""
        speed = f", {self.published / seconds:,.0f} a second" if self.published > 1 and seconds > 0 else ""
        what = "1 message" if self.published == 1 else f"{self.published:,} messages"
        self._out.say(f"{what} published to {queue}{again} in {seconds:.2f} s{speed}")


class _Run:
    """One run of the command: at most `IN_FLIGHT` publishes at a time, which the client gathers into batches."""

    def __init__(
        self, client: Client, queue: str, options: dict[str, Any], content_type: str | None, timeout: float,
        teller: _Teller,
    ) -> None:  # fmt: skip
        self._client = client
        self._queue = queue
        self._options = options
        self._content_type = content_type
        self._timeout = timeout
        self._teller = teller
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._error: Exception | None = None

    async def all(self, source: Iterator[Content], per_second: float | None) -> int:
        """Publish it all; the exit code. Raises the first error, after the answers that are due have come."""
        begun = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        async with interrupts(asyncio.Event()) as stopped:
            async for content in _paced(source, per_second, stopped):
                await self._places.acquire()
                if self._error is not None:
                    break
                task = asyncio.create_task(self._one(content))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if tasks:
                await asyncio.wait(tasks, timeout=FINISH_S if stopped.is_set() else None)
            interrupted = stopped.is_set()
        self._teller.summary(self._queue, time.monotonic() - begun)
        if isinstance(self._error, BrokenPipeError):
            nothing_more()
            interrupted = True  # not all of it was published, and the exit code says so
        elif self._error is not None:
            raise self._error
        return Exit.INTERRUPTED if interrupted else 0

    async def _one(self, content: Content) -> None:
        try:
            published = await self._client.publish(
                self._queue,
                content.value,
                content_type=self._content_type or content.content_type,
                timeout=self._timeout,
                **self._options,
            )
            self._teller.told(published)
        except Exception as error:
            self._error = self._error or error
        finally:
            self._places.release()


async def _paced(source: Iterator[Content], per_second: float | None, stopped: asyncio.Event) -> AsyncIterator[Content]:
    """What is to be published, when it is its turn."""
    begun, number = asyncio.get_running_loop().time(), 0
    async for content in read_ahead(source, stopped):
        if per_second is not None:
            await until(begun + number / per_second, stopped)
        if stopped.is_set():
            return
        number += 1
        yield content
