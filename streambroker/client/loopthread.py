"""An event loop in a thread of its own, for programs without one."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from streambroker.client.errors import ConnectionLost, StreambrokerError

log = logging.getLogger("streambroker.client")

T = TypeVar("T")

EXIT_S = 5.0
"""How long the end of the process waits for a client that was not closed."""
_ending: set[threading.Thread] = set()
"""Of loops that nobody refers to any more."""


class LoopThread:
    """An event loop in a daemon thread. It belongs to the process that started it: after a fork it is not there.

    One that nobody refers to any more ends by itself, after what `when_dropped` was given.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_live, args=(self._loop,), name="streambroker client", daemon=True)
        self._thread.start()

    def when_dropped(self, close: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """What to run, on the loop, when nobody refers to this any more; `close` itself must not."""
        weakref.finalize(self, _dropped, self._pid, self._loop, self._thread, close).atexit = False

    @property
    def is_here(self) -> bool:
        """Whether it runs in this process."""
        return self._pid == os.getpid() and not self._loop.is_closed()

    @property
    def is_mine(self) -> bool:
        """Whether whoever asks runs in it."""
        return threading.current_thread() is self._thread

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine to its end; interrupted, it is cancelled. Raises `StreambrokerError` after a fork.

        A Ctrl-C may come between any two steps of this, so nothing here takes a lock that it would leave taken, as
        `asyncio.run_coroutine_threadsafe` and `concurrent.futures.Future` do, and nothing is begun that would go on.
        """
        if not self.is_here or self.is_mine:
            coroutine.close()
            raise StreambrokerError(
                "this SyncClient is closed, was made before a fork, or is used in its own event loop; make another one"
            )
        begun: list[asyncio.Task[T]] = []
        ended: SimpleQueue[asyncio.Task[T]] = SimpleQueue()

        def begin() -> None:
            begun.append(self._loop.create_task(coroutine))
            begun[0].add_done_callback(over)

        def over(task: asyncio.Task[T]) -> None:
            if not task.cancelled():
                task.exception()  # it is looked at, whether or not somebody still waits
            ended.put(task)

        def break_off() -> None:
            if begun:
                begun[0].cancel()
            else:
                coroutine.close()

        try:
            self._loop.call_soon_threadsafe(begin)
            task = ended.get(timeout=timeout)
        except BaseException as error:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(break_off)
            if isinstance(error, Empty):
                raise TimeoutError from None
            raise
        if task.cancelled():
            raise ConnectionLost("the client was closed meanwhile")
        return task.result()

    def leave(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Have a coroutine run, and do not wait for it; nothing where the loop is not here any more."""
        if self.is_here:
            asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        else:
            coroutine.close()

    def stop(self) -> None:
        """End what still runs, whose callers hear `ConnectionLost`, the loop and the thread."""
        if not self.is_here:
            return
        asyncio.run_coroutine_threadsafe(_end_all(), self._loop)
        self._thread.join(EXIT_S)


def _live(loop: asyncio.AbstractEventLoop) -> None:
    """The life of the thread. It knows the loop alone, so that it keeps nobody's `LoopThread` from being dropped."""
    try:
        loop.run_forever()
    finally:
        loop.close()
        _ending.discard(threading.current_thread())


async def _end_all() -> None:
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    loop.stop()


def _dropped(
    pid: int,
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    close: Callable[[], Coroutine[Any, Any, object]],
) -> None:
    """Close what nobody closed. Whichever thread collects garbage comes here, the loop's own too: it must not wait."""
    if pid == os.getpid() and not loop.is_closed():
        _ending.add(thread)
        asyncio.run_coroutine_threadsafe(_close_and_end(close), loop)


async def _close_and_end(close: Callable[[], Coroutine[Any, Any, object]]) -> None:
    try:
        async with asyncio.timeout(EXIT_S):
            await close()
    except Exception:  # there is nobody to hear of it, and the loop ends all the same
        log.debug("a client that was dropped could not be closed", exc_info=True)
    finally:
        await _end_all()


@atexit.register
def _wait_for_the_dropped() -> None:
    for thread in list(_ending):
        thread.join(EXIT_S)
