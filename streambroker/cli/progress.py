"""A bar on stderr where somebody looks, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from streambroker.cli.output import Output


class Progress(Protocol):
    """Something that goes on."""

    def advance(self) -> None:
        """One more is done."""
        ...


class _Nothing:
    def advance(self) -> None:
        """See `Progress`."""


class _Bar:
    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def advance(self) -> None:
        """See `Progress`."""
        self._step()


@contextmanager
def progress(out: Output, what: str, total: int | None) -> Iterator[Progress]:
    """A bar while the block runs; `total` None is a count without an end. None for one thing, for JSON, for pipes."""
    if total == 1 or not (out.for_people and sys.stderr.isatty()):
        yield _Nothing()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield _Bar(partial(bars.advance, task))
