"""What was begun is brought to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_CLOSE_DEADLINE_S = 5

T = TypeVar("T")


class Commitments:
    """Runs work to its end, also when its caller is cancelled, so that memory follows what the store did."""

    def __init__(self) -> None:
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def keep(self, work: Coroutine[Any, Any, T]) -> T:
        """The answer of `work`; it goes on when the caller stops waiting."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait, a few seconds at most, for what callers have left behind."""
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=_CLOSE_DEADLINE_S)
