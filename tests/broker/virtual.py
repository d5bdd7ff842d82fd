"""An event loop whose time does not pass by itself: it leaps to the next timer when there is nothing left to do.

So tests of waits take no time, always take the same turns, and a wait that nobody would ever end is an error at once.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from tests.store.subjects import START

P = ParamSpec("P")


class Stuck(AssertionError):
    """Everybody waits, and no timer runs: a wake-up was lost."""


class _Leaping(selectors.DefaultSelector):
    """Leaps instead of waiting."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stuck("everybody waits, and nothing will ever happen")
        if not ready and timeout and timeout > 0:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """For one thread and no real I/O. `now` is in seconds since the loop began."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Leaping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def clock() -> int:
    """Milliseconds since 1970 in the time of the running loop, which begins at `START`."""
    return START + round(asyncio.get_running_loop().time() * 1_000)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def turns(count: int = 20) -> None:
    """Let everybody go on who can, without letting time pass."""
    for _ in range(count):
        await asyncio.sleep(0)
