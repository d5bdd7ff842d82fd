"""Where a broker runs: on the loop of whoever calls it, or on one of its own in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from streambroker.client import loopthread
from streambroker.client.errors import StreambrokerError

T = TypeVar("T")


class Host(Protocol):
    """The loop that a broker lives on, seen from a caller's."""

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` answers, run on the broker's loop. Cancelled, it cancels the work."""
        ...

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """As `call`, begun whether anybody awaits it or not; what it raises is nobody's then."""
        ...

    def soon(self, callback: Callable[[], None]) -> None:
        """Call it on the broker's loop."""
        ...


class SameLoop:
    """The broker lives on the caller's own loop. See `Host`."""

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """See `Host`."""
        return await work

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """See `Host`."""
        return _unwatched(asyncio.ensure_future(work))

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Host`: at once."""
        callback()


class LoopThread(loopthread.LoopThread):
    """A loop in a thread of its own, for callers on other loops (see `Host`) and, by `run`, on none."""

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """See `Host`."""
        return await asyncio.wrap_future(self._submit(work))

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """See `Host`."""
        return _unwatched(asyncio.wrap_future(self._submit(work)))

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Host`."""
        if self.is_here:
            self._loop.call_soon_threadsafe(callback)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine to its end; interrupted, it is cancelled. Raises `StreambrokerError` once it was stopped."""
        self._check(coroutine)
        return super().run(coroutine, timeout)

    def stop(self) -> None:
        """End the loop and the thread; whatever still runs there is cancelled."""
        if self.is_here:
            self.run(_end_others())
        super().stop()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        self._check(work)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _check(self, work: Coroutine[Any, Any, Any]) -> None:
        if not self.is_here:
            work.close()
            raise StreambrokerError("the broker was closed, or is used in a child after a fork")


def _unwatched(future: asyncio.Future[T]) -> asyncio.Future[T]:
    """The future, which does not complain where nobody asked how it ended."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
