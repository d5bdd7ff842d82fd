"""What the load producer and the load consumer share: latencies, a line that tells how it goes, when to stop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

STEPS = 200  # buckets for a factor of ten: a percentile is right to 1.2 %
QUANTILES = (0.5, 0.9, 0.99, 0.999)


class Latencies:
    """Seconds, counted in buckets of one width on a logarithmic scale, so that hours of load take little memory."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0.0
        self._buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        self.count += 1
        self.most = max(self.most, seconds)
        bucket = math.ceil(math.log10(max(seconds, 1e-6)) * STEPS)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def quantile(self, share: float) -> float:
        """The time within which that share came, rounded up; 0 where none did."""
        left = math.ceil(self.count * share)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(self.most, 10 ** (bucket / STEPS))
        return 0.0


class Load:
    """How much was done; owned by the program, read by its display."""

    def __init__(self, done: str, count: int | None, duration_s: float | None) -> None:
        self.done = done
        self.count = count
        self.duration_s = duration_s
        self.total = 0
        self.bytes = 0
        self.in_flight = 0
        self.failed = 0
        self.latencies = Latencies()
        self.began = time.monotonic()
        self.notes: dict[str, str] = {}

    def begin(self) -> None:
        """Time runs from now."""
        self.began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def share(self) -> float | None:
        """How much of what was asked for; None where it has no end."""
        shares = [self.total / self.count] if self.count else []
        shares += [self.elapsed_s / self.duration_s] if self.duration_s else []
        return min(1.0, max(shares)) if shares else None

    def add(self, size: int, seconds: float) -> None:
        self.total += 1
        self.bytes += size
        self.latencies.add(seconds)


@asynccontextmanager
async def shown(load: Load, console: Console, quiet: bool) -> AsyncIterator[None]:
    """A line with rates while the block runs, on a terminal; a line every 5 seconds elsewhere."""
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task(load.done, total=None)

        async def tell() -> None:
            every, last, turn = 0.25, (load.elapsed_s, load.total), 0
            while True:
                await asyncio.sleep(every)
                turn += 1
                now = load.elapsed_s, load.total
                rate = (now[1] - last[1]) / max(1e-3, now[0] - last[0])
                text = f"{load.total:,} {load.done}, {rate:,.0f}/s, {load.in_flight:,} in flight"
                share = load.share
                progress.update(bar, description=text, total=None if share is None else 1, completed=share or 0)
                if not quiet and not console.is_terminal and turn % 20 == 0:
                    print(text, flush=True)
                if turn % 4 == 0 or console.is_terminal is False:
                    last = now

        task = asyncio.create_task(tell())
        try:
            yield
        finally:
            task.cancel()


def summary(load: Load, console: Console, latency: str) -> None:
    """What came of it; times in milliseconds."""
    seconds = max(1e-9, load.elapsed_s)
    table = Table(show_header=False, title=f"{load.total:,} {load.done} in {seconds:.1f} s", title_justify="left")
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_row("rate", f"{load.total / seconds:,.0f}/s")
    table.add_row("content", f"{load.bytes / seconds / 1e6:,.2f} MB/s")
    for share in QUANTILES:
        table.add_row(f"{latency}, p{100 * share:g}", f"{1000 * load.latencies.quantile(share):,.1f} ms")
    table.add_row(f"{latency}, longest", f"{1000 * load.latencies.most:,.1f} ms")
    if load.failed:
        table.add_row("failed", f"{load.failed:,}", style="red")
    for name, value in load.notes.items():
        table.add_row(name, value)
    console.print(table)
