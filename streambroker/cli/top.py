"""``streambroker top``: the broker and its queues, live."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streambroker.cli.connection import uses_rest
from streambroker.cli.db import size
from streambroker.cli.diagnosis import taken_from
from streambroker.cli.exits import Exit, fail
from streambroker.cli.interrupts import either, interrupts
from streambroker.cli.output import Output, plain, span

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streambroker.client.models import Queue, Stats
    from streambroker.client.rest import Rest

app = typer.Typer()

_COLUMNS = ("QUEUE", "READY", "DELAYED", "IN FLIGHT", "FAILED", "IN/S", "OUT/S", "OLDEST", "CONS")
_AROUND = 8
"""Lines of the screen that are not queues."""
_KEYS = "q quit   s sort   r reverse   space pause   ↑↓ scroll"
_METRIC = re.compile(
    r"^(streambroker_store_(?:free|wal)_bytes|streambroker_draining|streambroker_store_full\{[^}]*\}) (\S+)$", re.M
)
_NOTICES = {
    "streambroker_draining": "draining: it is about to stop",
    'streambroker_store_full{reason="disk"}': "the disk is full: publishes are refused",
    'streambroker_store_full{reason="quota"}': "max_stored_bytes is used up: publishes are refused",
}
"""What is said while one of these metrics is not 0."""


def _ready(queue: Queue) -> int:
    return queue.counts.pending - queue.counts.delayed


Order = Callable[["Queue"], Any]
ORDERS: Sequence[tuple[str, Order, bool]] = (
    ("ready", _ready, True),
    ("in/s", lambda queue: queue.rates.published, True),
    ("out/s", lambda queue: queue.rates.delivered, True),
    ("oldest", lambda queue: queue.oldest_pending_age_ms or 0, True),
    ("failed", lambda queue: queue.counts.failed, True),
    ("consumers", lambda queue: queue.consumers, True),
    ("name", lambda queue: queue.name, False),
)
"""What queues can be sorted by, and whether the largest comes first."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen at one moment. `free_bytes` and `log_bytes` are None where one may not know them.

    `notices` are sentences about what keeps the broker from taking messages; empty as a rule.
    """

    stats: Stats
    queues: Sequence[Queue]
    free_bytes: int | None = None
    log_bytes: int | None = None
    notices: Sequence[str] = ()


@dataclass(slots=True)
class View:
    """How somebody looks at it; owned by the one task that shows it."""

    order: int = 0
    reverse: bool = False
    paused: bool = False
    scrolled: int = 0
    snapshot: Snapshot | None = None
    trouble: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def sorted_queues(self) -> list[Queue]:
        """The queues in the order that was asked for; those alike by name."""
        if self.snapshot is None:
            return []
        _, order, largest_first = ORDERS[self.order]
        by_name = sorted(self.snapshot.queues, key=lambda queue: queue.name)
        return sorted(by_name, key=order, reverse=largest_first is not self.reverse)

    def pressed(self, key: str) -> None:
        """A key was pressed."""
        match key:
            case "q" | "Q" | "\x03" | "\x04":
                self.ended.set()
            case "s":
                self.order = (self.order + 1) % len(ORDERS)
            case "r":
                self.reverse = not self.reverse
            case " ":
                self.paused = not self.paused
            case "j" | "\x1b[B":
                self.scrolled += 1
            case "k" | "\x1b[A":
                self.scrolled = max(self.scrolled - 1, 0)
        self.changed.set()


@app.command()
@uses_rest
async def top(
    client: Rest,
    out: Output,
    interval: Annotated[float, typer.Option("--interval", "-n", min=0.5, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end, for scripts.")] = False,
    sort: Annotated[str, typer.Option(help=f"One of: {', '.join(name for name, _, _ in ORDERS)}.")] = "ready",
) -> int | None:
    """Show queues, their rates, depth and age, and the broker, live. Rates are per second over a minute."""
    names = [name for name, _, _ in ORDERS]
    if sort not in names:
        raise typer.BadParameter(f"--sort is one of {', '.join(names)}")
    view = View(order=names.index(sort))
    if once or out.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        if not (once or out.json):
            fail(Exit.USAGE, "top needs a terminal; --once or --json look once")
        view.snapshot = await look(client)
        _print_once(view, out)
        return None
    await _live(client, view, interval)
    return None


async def look(client: Rest) -> Snapshot:
    """The broker as it is now."""
    from streambroker.client.errors import Forbidden

    queues = [queue async for queue in client.queues.list()]
    stats = await client.stats()
    try:
        text: bytes = await client.http.call("GET", "/metrics", bytes)
    except Forbidden:
        return Snapshot(stats, queues)
    metrics = {name: float(value) for name, value in _METRIC.findall(text.decode())}
    free, log = (metrics.get(f"streambroker_store_{name}_bytes") for name in ("free", "wal"))
    notices = [text for name, text in _NOTICES.items() if metrics.get(name)]
    return Snapshot(stats, queues, None if free is None else int(free), None if log is None else int(log), notices)


def _print_once(view: View, out: Output) -> None:
    assert view.snapshot is not None
    if out.json:
        snapshot = view.snapshot
        out.document(
            {
                "stats": snapshot.stats, "queues": view.sorted_queues(), "free_bytes": snapshot.free_bytes,
                "log_bytes": snapshot.log_bytes, "notices": snapshot.notices,
            }
        )  # fmt: skip
        return
    for line in (*head(view.snapshot, ""), *view.snapshot.notices):
        out.say(line)
    out.table(_COLUMNS, [_cells(queue) for queue in view.sorted_queues()], right=_COLUMNS[1:])


async def _live(client: Rest, view: View, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with _keys(view), Live(console=console, screen=True, auto_refresh=False) as live:
        async with interrupts(view.ended):
            looking = asyncio.create_task(_keep_looking(client, view, interval))
            try:
                while not (view.ended.is_set() or looking.done()):
                    view.changed.clear()
                    live.update(screen(view, client.http.url, *shutil.get_terminal_size()), refresh=True)
                    await either(view.changed, view.ended)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
    if looking.done() and not looking.cancelled() and (error := looking.exception()) is not None:
        raise error


async def _keep_looking(client: Rest, view: View, interval: float) -> None:
    """Look again and again. What passes is shown and tried again; that one may not is raised."""
    from streambroker.client.errors import StreambrokerError

    try:
        while True:
            if not view.paused:
                try:
                    view.snapshot, view.trouble = await look(client), ""
                except StreambrokerError as error:
                    if not (error.retryable or error.status >= 500):
                        raise
                    view.trouble = error.detail
            view.changed.set()
            await asyncio.sleep(interval)
    finally:
        view.changed.set()


@contextmanager
def _keys(view: View) -> Iterator[None]:
    """Keys as they are pressed, without Enter and without an echo; the terminal is put back afterwards."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        pressed = os.read(descriptor, 64).decode(errors="replace")
        for key in re.findall(r"\x1b\[[A-D]|.", pressed, re.S) or ["q"]:  # nothing at all: the terminal is gone
            view.pressed(key)

    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


# -- what it looks like ------------------------------------------------------------------------------------------------


def head(snapshot: Snapshot, url: str) -> Iterator[str]:
    """Lines about the broker as a whole."""
    stats = snapshot.stats
    where = f"streambroker at {url}   " if url else ""
    yield (
        f"{where}up {span(stats.uptime_seconds * 1_000)}   cpu {stats.process_cpu_percent:.0f} %   "
        f"memory {stats.process_memory_mb:.0f} MB"
    )
    yield f"{stats.pending:,} pending   {stats.processing:,} in flight   {stats.failed:,} failed"
    connections = stats.connections
    yield (
        f"{connections.websocket} websockets   {connections.long_poll} polls   {connections.sse} streams   "
        f"{connections.graphql} graphql"
    )
    rates = [queue.rates for queue in snapshot.queues]
    storage = "" if snapshot.free_bytes is None else f"   {size(snapshot.free_bytes)} free"
    log = "" if snapshot.log_bytes is None else f"   log {size(snapshot.log_bytes)}"
    yield (
        f"in {sum(rate.published for rate in rates):,.1f}/s   out {sum(rate.delivered for rate in rates):,.1f}/s   "
        f"settled {sum(rate.settled for rate in rates):,.1f}/s{storage}{log}"
    )


def screen(view: View, url: str, width: int, height: int) -> RenderableType:
    """The whole screen: no more than `height` lines, each no wider than `width`."""
    from rich.console import Group
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        shown = Text(plain(text), style=style, no_wrap=True, overflow="ellipsis")
        shown.truncate(width, overflow="ellipsis")
        return shown

    if view.snapshot is None:
        return Group(line(f"streambroker at {url}", "bold"), line(view.trouble or "looking …", "yellow"))
    first, *rest = head(view.snapshot, url)
    queues = view.sorted_queues()
    notices = view.snapshot.notices
    room = max(height - _AROUND - bool(view.trouble) - len(notices), 1)
    view.scrolled = min(view.scrolled, max(len(queues) - room, 0))
    shown = queues[view.scrolled : view.scrolled + room]
    parts: list[RenderableType] = [line(first, "bold"), *(line(text) for text in rest)]
    parts += [line(text, "bold red") for text in notices]
    if view.trouble:
        parts.append(line(f"not reachable, trying again: {view.trouble}", "bold red"))
    parts += [Text(), _table(shown, width)]
    name, _, _ = ORDERS[view.order]
    state = f"sorted by {name}{' (reversed)' if view.reverse else ''}{'   PAUSED' if view.paused else ''}"
    seen = f"{view.scrolled + 1}–{view.scrolled + len(shown)} of {len(queues)}" if queues else "no queues"
    parts += [line(f"{seen}   {state}", "dim"), line(_KEYS, "dim")]
    return Group(*parts)


def _table(queues: Sequence[Queue], width: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, width=width, header_style="reverse")
    table.add_column(_COLUMNS[0], no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    for column in _COLUMNS[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    for queue in queues:
        style = "yellow" if queue.paused else "red" if _ready(queue) and not taken_from(queue) else ""
        table.add_row(*(Text(plain(cell), style=style) for cell in _cells(queue)))
    return table


def _cells(queue: Queue) -> list[str]:
    counts, rates = queue.counts, queue.rates
    return [
        f"{queue.name} (paused)" if queue.paused else queue.name,
        *(short(number) for number in (_ready(queue), counts.delayed, counts.processing, counts.failed)),
        f"{rates.published:.1f}",
        f"{rates.delivered:.1f}",
        span(queue.oldest_pending_age_ms),
        str(queue.consumers),
    ]


def short(number: int) -> str:
    """A count in at most five characters: ``99999``, ``123k``, ``4.6M``."""
    if number < 100_000:
        return str(number)
    return f"{number / 1_000:.0f}k" if number < 1_000_000 else f"{number / 1_000_000:.3g}M"
