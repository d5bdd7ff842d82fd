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
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar

from streambroker.core.errors import BrokerError, Draining, Internal, Overloaded, StorageFailed
from streambroker.store.contract import Claim, Command, Engine, Publish, Settle
from streambroker.store.figures import Turns

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_WAITING = 100_000
"""Messages that may wait for a commit; one more is refused (503), never accepted and dropped."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_WAITING_SETTLES = 500_000
"""Settles of one message that may wait for a commit, about 100 MB; one more is refused (503) and can be repeated.
Everything else that may wait is one command for each consumer or request, and so bounded by the connections."""
LAZY_S = 0.005
"""How long a command that nobody waits for may wait for company, in seconds."""
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


Told = Callable[[Any], None]
_Item = tuple[Command | _Work, Told, int]  # what to do, whom to tell, its bytes (of a settle: its items)


class GroupCommit:
    """Owned by the event loop that made it; the engine is owned by its thread. Call `close()` to end the thread.

    `on_failure` is called once on the loop when the storage failed: the broker must stop, loud, for what is on the disk
    is no longer known. What still waits is answered with an error: whether it was stored is unknown.
    """

    def __init__(self, engine: WriterEngine, on_failure: Callable[[StorageFailed], None]) -> None:
        self.turns = Turns()
        self._engine = engine
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._gathering: list[_Item] = []
        self._lazy: list[_Item] = []
        self._waiting_publishes = 0
        self._waiting_bytes = 0
        self._waiting_settles = 0
        self._ended: Callable[[], BrokerError] | None = None
        self._groups: queue.SimpleQueue[list[_Item] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def post(self, command: Command, told: Told, lazy: bool = False) -> None:
        """Apply a command with the next commit, then call `told` on the loop with its answer or its `BrokerError`.

        A `lazy` command, which nobody waits for, goes with the next commit that somebody does wait for, or within
        `LAZY_S`. Raises `Overloaded` where it is one publish too many; one settle too many is answered with it.
        """
        if type(command) is Publish:
            size = self._admit(command)
        elif type(command) is Settle:
            size = len(command.items)
            if self._waiting_settles + size > MAX_WAITING_SETTLES:
                self._loop.call_soon(told, _too_much())
                return
            self._waiting_settles += size
        else:
            size = 0
        if lazy and not self._gathering and self._ended is None and len(self._lazy) < MAX_TURN:
            if not self._lazy:
                self._loop.call_later(LAZY_S, self._hand_over_lazy)
            self._lazy.append((command, told, size))
        else:
            self._gather(command, told, size)

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """As `post`, for somebody who awaits: the future raises the command's `BrokerError`."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.post(command, partial(resolve, future))
        return future

    def work(self, function: Callable[[Any], T]) -> Awaitable[T]:
        """Run `function` on the writer's thread in a transaction of its own."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._gather(_Work(function), partial(resolve, future), 0)
        return future

    @property
    def waiting(self) -> tuple[int, int]:
        """Messages, and their bytes, of publishes that wait for a commit. May be asked from any thread."""
        return self._waiting_publishes, self._waiting_bytes

    def _gather(self, item: Command | _Work, told: Told, size: int) -> None:
        if self._ended is not None:
            self._answer([(item, told, size)], [self._ended()])
            return
        if not self._gathering:
            # All that becomes ready in this turn of the loop shares the commit.
            self._loop.call_soon(self._hand_over)
        self._gathering.append((item, told, size))

    def _admit(self, command: Publish) -> int:
        """The bytes that the publish adds to what waits. Raises `Overloaded`."""
        size = command.size
        if self._waiting_publishes >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise _too_much()
        self._waiting_publishes += len(command.drafts)
        self._waiting_bytes += size
        return size

    def _hand_over(self) -> None:
        self._groups.put(self._lazy + self._gathering)
        self._lazy, self._gathering = [], []

    def _hand_over_lazy(self) -> None:
        if self._lazy and not self._gathering:
            self._hand_over()

    def _answer(self, items: Sequence[_Item], answers: Sequence[Any]) -> None:
        for (item, told, size), answer in zip(items, answers, strict=True):
            if type(item) is Publish:
                self._waiting_publishes -= len(item.drafts)
                self._waiting_bytes -= size
            elif type(item) is Settle:
                self._waiting_settles -= size
            try:
                told(answer)
            except Exception:  # the others' answers must come all the same
                log.exception("somebody could not take the answer to %s", type(item).__name__)

    def _fail(self, items: Sequence[_Item], error: StorageFailed) -> None:
        first, self._ended = self._ended is not _unknown, _unknown
        self._answer(items, [_unknown()] * len(items))
        if first:
            self._on_failure(error)

    async def close(self) -> None:
        """Commit what was submitted, then close the engine. What is submitted from now on is refused."""
        self._ended = self._ended or _closed
        await asyncio.sleep(0)  # lets `_hand_over` run for what was gathered in this turn
        self._hand_over_lazy()
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
        if failure is None:  # else nothing is known of what is on the disk: leave it as it is
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
        """Apply a group; what is answered is taken out of it, so that a failure is told only to the others."""
        commands = [item for item in group if not isinstance(item[0], _Work)]
        works = [item for item in group if isinstance(item[0], _Work)]
        try:
            if commands:
                # Engines apply them in this order, so answers come in the order of what they tell of.
                commands.sort(key=_rank)
                began = perf_counter()
                asked: list[Any] = [item[0] for item in commands]
                answers = self._engine.turn(asked)
                self._loop.call_soon_threadsafe(self._answer, commands, answers)
                commands = []
                self.turns.note(asked, perf_counter() - began)
            while works:
                answer = self._worked(works[0][0])
                self._loop.call_soon_threadsafe(self._answer, [works.pop(0)], [answer])
            self._engine.tidy()
        except Exception as error:  # whatever it is: a writer that ends unheard would leave everybody waiting
            failure = error if isinstance(error, StorageFailed) else StorageFailed(f"the writer failed: {error!r}")
            if failure is not error:
                log.exception("the writer failed")
            self._loop.call_soon_threadsafe(self._fail, commands + works, failure)
            return failure
        return None

    def _worked(self, item: Any) -> Any:
        try:
            return self._engine.work(item.function)
        except BrokerError as error:
            return error
        except StorageFailed:
            raise
        except Exception as error:
            log.exception("work on the writer's thread failed")
            return error


_RANKS: dict[type, int] = {Publish: 0, Settle: 1, Claim: 2}


def _rank(item: _Item) -> int:
    return _RANKS.get(type(item[0]), 3)


def resolve(future: asyncio.Future[Any], answer: Any) -> None:
    """Pass an answer on to somebody who awaits it; an error is raised there."""
    if future.done():  # its caller was cancelled
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _too_much() -> BrokerError:
    return Overloaded("more is waiting to be stored than the broker may hold", retry_after_ms=1_000)


def _closed() -> BrokerError:
    return Draining("the broker is stopping; nothing was stored")


def _unknown() -> BrokerError:
    return Internal("the storage failed; whether this was stored is unknown: publish again with the same dedup_id")
