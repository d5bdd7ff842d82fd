"""Group commit: what is waiting goes into one transaction, and everybody is answered after its one fsync.

The loop collects; a thread that owns the engine applies. While it commits, the next group collects by itself, so the
group grows with the load and a lone command does not wait for company (as in PostgreSQL's and InnoDB's group commit).
A caller that is cancelled does not undo its command: it only stops waiting for the answer.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from streambroker.core.errors import BrokerError, Internal, Overloaded, StorageFailed
from streambroker.store.contract import Command, Engine, Publish

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_WAITING = 20_000
"""Publish commands that may wait for a commit; one more is refused (503), never accepted and dropped."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_TURN = 4_096
"""Commands in one transaction: bounds how long the first of them waits for the last."""


class WriterEngine(Engine, Protocol):
    """An engine that lives on the writer's thread."""

    def work(self, function: Callable[[Any], T]) -> T:
        """Run a function on the engine's connection in a transaction of its own."""
        ...

    def tidy(self) -> None:
        """Housekeeping between turns."""
        ...

    def close(self) -> None:
        """Let go of the data."""
        ...


class _Work:
    """A function to run in its own transaction."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function


_Item = tuple[Command | _Work, "asyncio.Future[Any]"]


class GroupCommit:
    """Owned by the event loop that made it; the engine is owned by its thread. Call `close()` to end the thread.

    `on_failure` is called once on the loop when the storage failed: the broker must stop, loud, for what is on the disk
    is no longer known. What still waits is answered with an error: whether it was stored is unknown.
    """

    def __init__(self, engine: WriterEngine, on_failure: Callable[[StorageFailed], None]) -> None:
        self._engine = engine
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._gathering: list[_Item] = []
        self._waiting_publishes = 0
        self._waiting_bytes = 0
        self._failed = False
        self._groups: queue.SimpleQueue[list[_Item] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """Apply a command with the next commit. The future raises the command's `BrokerError`."""
        if type(command) is Publish:
            self._admit(command)
        return self._gather(command)

    def work(self, function: Callable[[Any], T]) -> Awaitable[T]:
        """Run `function` on the writer's thread in a transaction of its own."""
        return self._gather(_Work(function))

    def _gather(self, item: Command | _Work) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        if self._failed:
            future.set_exception(_unknown())
            return future
        if not self._gathering:
            # All that becomes ready in this turn of the loop shares the commit.
            self._loop.call_soon(self._hand_over)
        self._gathering.append((item, future))
        return future

    def _admit(self, command: Publish) -> None:
        size = sum([len(draft.content) for draft in command.drafts])
        if self._waiting_publishes >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise Overloaded("more is waiting to be stored than the broker may hold", retry_after_ms=1_000)
        self._waiting_publishes += 1
        self._waiting_bytes += size

    def _hand_over(self) -> None:
        self._groups.put(self._gathering)
        self._gathering = []

    def _answer(self, items: Sequence[_Item], answers: Sequence[Any]) -> None:
        for (item, future), answer in zip(items, answers, strict=True):
            if type(item) is Publish:
                self._waiting_publishes -= 1
                self._waiting_bytes -= sum([len(draft.content) for draft in item.drafts])
            if future.done():  # its caller was cancelled
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _fail(self, items: Sequence[_Item], error: StorageFailed) -> None:
        first, self._failed = not self._failed, True
        self._answer(items, [_unknown()] * len(items))
        if first:
            self._on_failure(error)

    async def close(self) -> None:
        """Commit what was submitted, then close the engine."""
        await asyncio.sleep(0)  # lets `_hand_over` run for what was gathered in this turn
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- on the writer's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: StorageFailed | None = None
        while (group := self._groups.get()) is not None:
            last = self._take_more(group)
            if failure is None:
                failure = self._turn(group)
            else:
                self._loop.call_soon_threadsafe(self._fail, group, failure)
            if last:
                break
        self._engine.close()

    def _take_more(self, group: list[_Item]) -> bool:
        """Add to the group what else is waiting; whether the end of all groups was among it."""
        while len(group) < MAX_TURN:
            try:
                more = self._groups.get_nowait()
            except queue.Empty:
                return False
            if more is None:
                return True
            group.extend(more)
        return False

    def _turn(self, group: list[_Item]) -> StorageFailed | None:
        commands = [item for item in group if not isinstance(item[0], _Work)]
        try:
            if commands:
                answers = self._engine.turn([command for command, _ in commands])  # type: ignore[misc]
                self._loop.call_soon_threadsafe(self._answer, commands, answers)
            for item in group:
                if isinstance(item[0], _Work):
                    self._loop.call_soon_threadsafe(self._answer, [item], [self._worked(item[0])])
            self._engine.tidy()
        except StorageFailed as error:
            # What was answered already is skipped there: its futures are done by then.
            self._loop.call_soon_threadsafe(self._fail, group, error)
            return error
        return None

    def _worked(self, item: _Work) -> Any:
        try:
            return self._engine.work(item.function)
        except BrokerError as error:
            return error
        except StorageFailed:
            raise
        except Exception as error:
            log.exception("work on the writer's thread failed")
            return error


def _unknown() -> BrokerError:
    return Internal("the storage failed; whether this was stored is unknown: publish again with the same dedup_id")
