"""``streambroker bench``: a small load, and honest figures of what this machine does with it."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streambroker.cli.connection import Caller, calls_broker
from streambroker.cli.exits import Exit, fail
from streambroker.cli.output import Output

if TYPE_CHECKING:
    from streambroker.client.client import Client

BATCH = 100
START_S = 30.0
STOP_S = 15.0
DRAW_S = 0.25
URL_VARIABLE = "STREAMBROKER_URL"

app = typer.Typer()

Done = Callable[[int], None]
_LISTENING = re.compile(r"listening on (https?://\S+)")


@dataclass(frozen=True, slots=True)
class Figure:
    """What one run did, and how long one message (or batch) took."""

    what: str
    messages: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


@app.command()
@calls_broker
async def bench(
    caller: Caller,
    messages: Annotated[int, typer.Option(min=100, max=10_000_000, help="Messages of each run.")] = 10_000,
    message_size: Annotated[int, typer.Option("--size", min=1, max=1_000_000, help="Bytes of a content.")] = 256,
    in_flight: Annotated[int, typer.Option(min=1, max=10_000, help="Publishes that wait for their answer.")] = 64,
    own: Annotated[bool, typer.Option("--own", help="Start a broker for this, also where a URL is set.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the own broker's data goes, deleted afterwards: the disk to measure.")
    ] = None,
) -> int | None:
    """Publish, and publish-consume-ack, as fast as this client can, and print the rates and times.

    Without --url (and STREAMBROKER_URL) a broker is started for it, with its data in a temporary directory: client and
    broker share the machine then, and take from each other. A broker that is given gets a queue of its own, which is
    deleted afterwards. This is one client in Python, and no measure of what a broker can do at most.
    """
    if own or not (caller.url or os.environ.get(URL_VARIABLE)):
        async with _own_broker(data_dir) as (url, password):
            await _measure(caller, messages, message_size, in_flight, url, username="admin", password=password)
        return None
    await _measure(caller, messages, message_size, in_flight, None, **caller.credentials())
    return None


async def _measure(
    caller: Caller, messages: int, message_size: int, in_flight: int, own: str | None, **credentials: str
) -> None:
    from streambroker.client.client import Client

    out, url = caller.out, own or caller.url
    where = "a broker of its own on this machine" if own else "the broker that was given"
    out.say(f"{messages:,} messages of {message_size} bytes each run, {in_flight} in flight, against {where}")
    async with Client(url, timeout=caller.timeout, verify=caller.trust(), **credentials) as client:  # type: ignore[arg-type]
        queue = f"bench-{secrets.token_hex(4)}"
        await client.queues.create(queue)
        try:
            figures = [run async for run in _runs(client, queue, messages, message_size, in_flight, out)]
        finally:
            await client.queues.delete(queue)
    _told(out, figures, own is not None)


async def _runs(
    client: Client, queue: str, messages: int, message_size: int, in_flight: int, out: Output
) -> AsyncIterator[Figure]:
    content = "x" * max(message_size - 2, 1)  # with its quotes
    for what, run in (
        ("publish, one by one", _publishing),
        (f"publish, batches of {BATCH}", _batches),
        ("publish, consume, ack", _flow),
    ):
        await client.queues.purge(queue, "all")
        async with _bar(out, what, messages) as done:
            figure = await run(client, queue, content, messages, in_flight, what, done)
        yield figure


async def _publishing(
    client: Client, queue: str, content: str, messages: int, in_flight: int, what: str, done: Done
) -> Figure:
    took: list[float] = []

    async def publish() -> None:
        began = time.perf_counter()
        await client.publish(queue, content, timeout=None)
        took.append(time.perf_counter() - began)
        done(1)

    began = time.perf_counter()
    await _many(publish, messages, in_flight)
    return _figure(what, messages, time.perf_counter() - began, took)


async def _batches(
    client: Client, queue: str, content: str, messages: int, in_flight: int, what: str, done: Done
) -> Figure:
    from streambroker.client.models import Draft

    batch = [Draft(content=content)] * BATCH
    took: list[float] = []

    async def publish() -> None:
        began = time.perf_counter()
        await client.publish_many(queue, batch, timeout=None)
        took.append(time.perf_counter() - began)
        done(BATCH)

    count = -(-messages // BATCH)
    began = time.perf_counter()
    await _many(publish, count, max(in_flight // 16, 1))
    return _figure(what, count * BATCH, time.perf_counter() - began, took)


async def _flow(
    client: Client, queue: str, content: str, messages: int, in_flight: int, what: str, done: Done
) -> Figure:
    """The time of a message is from before its publish until it is here; its ack is waited for at the end."""
    sent: dict[str, float] = {}
    arrived: dict[str, float] = {}

    async def publish() -> None:
        began = time.perf_counter()
        sent[(await client.publish(queue, content, timeout=None)).message_id] = began

    async def consume() -> None:
        acks = []
        async with aclosing(client.consume(queue, credit=min(4 * in_flight, 10_000))) as delivered:
            async for message in delivered:
                arrived[message.message_id] = time.perf_counter()
                acks.append(message.ack())
                done(1)
                if len(acks) == messages:
                    break
            await asyncio.gather(*acks)

    began = time.perf_counter()
    consuming = asyncio.create_task(consume())
    await _many(publish, messages, in_flight)
    await consuming
    seconds = time.perf_counter() - began
    return _figure(what, messages, seconds, [at - sent[message_id] for message_id, at in arrived.items()])


@asynccontextmanager
async def _bar(out: Output, what: str, messages: int) -> AsyncIterator[Done]:
    """A bar where somebody looks. It is drawn now and then: the messages themselves are only counted."""
    count = 0

    def done(more: int) -> None:
        nonlocal count
        count += more

    if not (out.for_people and sys.stderr.isatty()):
        yield done
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as bars:
        task = bars.add_task(what, total=messages)

        async def draw() -> None:
            while True:
                bars.update(task, completed=count, refresh=True)
                await asyncio.sleep(DRAW_S)

        drawing = asyncio.create_task(draw())
        try:
            yield done
        finally:
            drawing.cancel()


async def _many(one: Callable[[], Awaitable[None]], count: int, at_a_time: int) -> None:
    """Do something so many times, so many at a time."""
    numbers = iter(range(count))

    async def go_on() -> None:
        for _ in numbers:
            await one()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_a_time, count)):
            group.create_task(go_on())


def _figure(what: str, messages: int, seconds: float, took: Sequence[float]) -> Figure:
    ordered = sorted(took)
    return Figure(what, messages, seconds, 1_000 * _at(ordered, 0.5), 1_000 * _at(ordered, 0.99))


def _at(ordered: Sequence[float], part: float) -> float:
    """The value that this part of all is not above (nearest rank)."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def machine() -> dict[str, Any]:
    """What the figures are of."""
    return {"cores": os.cpu_count() or 0, "python": platform.python_version(), "system": platform.platform(terse=True)}


def _told(out: Output, figures: Sequence[Figure], own: bool) -> None:
    about = machine()
    if out.json:
        runs = [
            {
                "run": one.what, "messages": one.messages, "seconds": round(one.seconds, 3),
                "per_second": round(one.rate), "p50_ms": round(one.p50_ms, 3), "p99_ms": round(one.p99_ms, 3),
            }
            for one in figures
        ]  # fmt: skip
        out.document({"machine": about, "shared_with_broker": own or None, "runs": runs})
        return
    columns = ("RUN", "MESSAGES/S", "P50 MS", "P99 MS")
    rows = [[one.what, f"{one.rate:,.0f}", f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}"] for one in figures]
    out.table(columns, rows, right=columns[1:])
    shared = " Client and broker shared it." if own else ""
    out.say(f"{about['cores']} cores, Python {about['python']}, {about['system']}.{shared}")
    out.say("One client, durable publishes; the time of a batch is that of all its messages.")


@asynccontextmanager
async def _own_broker(directory: Path | None) -> AsyncIterator[tuple[str, str]]:
    """A broker process for this, its URL, and the password of its admin. It and its data are gone afterwards."""
    password = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="streambroker-bench-", dir=directory) as place:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMBROKER_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streambroker", "serve", "--port", "0", "--data-dir", str(Path(place) / "data"),
            "--rate-limit-messages", "off", "--rate-limit-default", "off", "--log-dir", "off",
            env={**inherited, "STREAMBROKER_ADMIN_PASSWORD": password, "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            yield await _address(process), password
        finally:
            await _stop(process)


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    found = None
    try:
        async with asyncio.timeout(START_S):
            while found is None and (line := await process.stdout.readline()):
                found = _LISTENING.search(line.decode())
    except TimeoutError:
        pass
    if found is None:
        fail(Exit.UNAVAILABLE, "the broker for this did not start; does `streambroker serve --port 0` say why?")
    return found[1]


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
