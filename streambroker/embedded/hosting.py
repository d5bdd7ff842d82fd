"""Where a broker runs: on the loop of whoever calls it, or on one of its own in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Host(Protocol):
    """The loop that a broker lives on, seen from a caller's."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` answers, run on the broker's loop. Cancelled, it cancels the work."""
        ...

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """As `run`, begun whether anybody awaits it or not; what it raises is nobody's then."""
        ...

    def soon(self, callback: Callable[[], None]) -> None:
        """Call it on the broker's loop."""
        ...


class SameLoop:
    """The broker lives on the caller's own loop. See `Host`."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """See `Host`."""
        return await work

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """See `Host`."""
        return _unwatched(asyncio.ensure_future(work))

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Host`: at once."""
        callback()


class LoopThread:
    """A loop in a thread of its own, for callers on other loops and on none. See `Host`. End it with `stop()`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="streambroker", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """See `Host`."""
        return await asyncio.wrap_future(self._submit(work))

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """See `Host`."""
        return _unwatched(asyncio.wrap_future(self._submit(work)))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the broker was closed, and its thread has ended")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """As `run`, for a caller without a loop: blocks until it is done. An interrupt (Ctrl-C) cancels the work."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, callback: Callable[[], None]) -> None:
        """See `Host`."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)

    @property
    def running(self) -> bool:
        """Whether it has not been stopped."""
        return not self._loop.is_closed()

    def stop(self) -> None:
        """End the loop and its thread; whatever still runs there is cancelled."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _unwatched(future: asyncio.Future[T]) -> asyncio.Future[T]:
    """The future, which does not complain where nobody asked how it ended."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
