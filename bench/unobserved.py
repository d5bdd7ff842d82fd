"""The broker without what it counts: ``python -m bench.unobserved serve …``, beside which `observe` sets the real one.

No setting takes the counters out, so this reaches in by name; a name that is gone ends it, so that it never measures
the same thing twice. What remains are the additions to plain integers that stand in the middle of other work.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from streambroker.cli import main

COUNTERS = {
    "streambroker.core.histogram.Histogram": ("add", "add_all"),
    "streambroker.transport.resource.Counters": ("answered",),
    "streambroker.store.figures.Turns": ("note",),
    "streambroker.broker.rates.Meter": ("ended", "overdue"),
}
TASKS = {
    "streambroker.observe.access.AccessLog": ("run",),
    "streambroker.observe.lag.LoopLag": ("run",),
    "streambroker.transport.dashboard.feed.Feed": ("run",),
    "streambroker.transport.totals.TotalsKeeper": ("run",),
}


def _count_nothing(*_: Any) -> None:
    pass


async def _rest(_: Any) -> None:
    await asyncio.Event().wait()


def take_out() -> None:
    """Make every counter count nothing, and every task that looks at them sleep."""
    for names, instead in ((COUNTERS, _count_nothing), (TASKS, _rest)):
        for name, methods in names.items():
            module, _, owner = name.rpartition(".")
            kind = getattr(importlib.import_module(module), owner)
            for method in methods:
                if not callable(getattr(kind, method, None)):
                    raise SystemExit(f"{name} has no {method}: tell bench/unobserved.py what counts now")
                setattr(kind, method, instead)


if __name__ == "__main__":
    take_out()
    main()
