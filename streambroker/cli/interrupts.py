"""Ctrl-C and SIGTERM as an event, so that a command can end in order; and reading that they can interrupt."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from streambroker.cli.exits import Exit

T = TypeVar("T")

READ_AHEAD = 1_024


@asynccontextmanager
async def interrupts(stopped: asyncio.Event, hurry: Callable[[], None] = lambda: None) -> AsyncIterator[asyncio.Event]:
    """The first Ctrl-C or SIGTERM sets `stopped`; the second hurries what is under way, and ends the process."""
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stopped.is_set():
            hurry()
            os._exit(Exit.INTERRUPTED)
        stopped.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, asked)
    try:
        yield stopped
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def read_ahead(source: Iterator[T], stopped: asyncio.Event) -> AsyncIterator[T]:
    """What an iterator that blocks gives, read by a thread at most `READ_AHEAD` ahead; ends early once `stopped`.

    A thread that is stuck in a read does not keep the process alive. Raises what the iterator raises.
    """
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    items: deque[T] = deque()
    room = threading.Semaphore(READ_AHEAD)
    ended: list[BaseException | None] = []

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in source:
                room.acquire()
                items.append(item)
                loop.call_soon_threadsafe(there.set)
        except BaseException as caught:
            error = caught
        ended.append(error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(there.set)

    threading.Thread(target=read, daemon=True).start()
    while not stopped.is_set():
        there.clear()
        if items:
            room.release()
            yield items.popleft()
        elif ended:
            if (error := ended[0]) is not None:
                raise error
            return
        else:
            await either(there, stopped)


async def either(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


async def until(when: float, stopped: asyncio.Event) -> None:
    """Wait until the loop's clock says `when`, or until `stopped`."""
    try:
        async with asyncio.timeout_at(when):
            await stopped.wait()
    except TimeoutError:
        pass
