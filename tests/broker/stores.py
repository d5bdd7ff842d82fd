"""A store over the executable specification, and an engine that refuses what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from streambroker.core.errors import BrokerError, StorageFull
from streambroker.core.message import Message, Status
from streambroker.core.timeline import Record
from streambroker.store.contract import Command, Depth, Queue
from streambroker.store.memory import MemoryEngine

COMMIT_S = 0.001
"""How long a commit takes: what is asked for meanwhile goes into the next one."""


class Refusing:
    """An engine that refuses the next commands of a kind, as a full disk makes the real one do, and does the rest."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.seen: list[Command] = []
        self._rules: list[tuple[type, BrokerError]] = []

    def refuse(self, kind: type, count: int = 1, error: BrokerError | None = None) -> None:
        """Refuse the next `count` commands of that kind."""
        self._rules += [(kind, error or StorageFull("the disk has no room"))] * count

    @property
    def refusals_left(self) -> int:
        return len(self._rules)

    def turn(self, commands: Sequence[Command]) -> list[Any]:
        self.seen += commands
        refused = {index: error for index, c in enumerate(commands) if (error := self._refusal(c)) is not None}
        rest = [command for index, command in enumerate(commands) if index not in refused]
        answers = iter(self.engine.turn(rest) if rest else ())
        return [refused[index] if index in refused else next(answers) for index in range(len(commands))]

    def _refusal(self, command: Command) -> BrokerError | None:
        for index, (kind, error) in enumerate(self._rules):
            if isinstance(command, kind):
                del self._rules[index]
                return error
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


class MemoryStore:
    """A `contract.Store`: what is posted in one turn of the loop is one transaction, answered in order after it."""

    def __init__(self) -> None:
        self.engine = Refusing(MemoryEngine())
        self._gathered: list[tuple[Command, Callable[[Any], None]]] = []

    def post(self, command: Command, told: Callable[[Any], None], lazy: bool = False) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._turn)
        self._gathered.append((command, told))

    def submit(self, command: Command) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.post(command, partial(_resolve, future))
        return future

    def _turn(self) -> None:
        group, self._gathered = self._gathered, []
        answers = self.engine.turn([command for command, _ in group])
        asyncio.get_running_loop().call_later(COMMIT_S, self._answer, group, answers)

    @staticmethod
    def _answer(group: list[tuple[Command, Callable[[Any], None]]], answers: list[Any]) -> None:
        for (_, told), answer in zip(group, answers, strict=True):
            told(answer)

    async def get(self, message_id: int) -> Message | None:
        return self.engine.get(message_id)

    async def timeline(self, message_id: int) -> tuple[Message, list[Record]] | None:
        return self.engine.timeline(message_id)

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        return self.engine.browse(queue, status, key, contains, limit, cursor)

    async def queues(self) -> list[Queue]:
        return self.engine.queues()

    async def depth(self, queue: str) -> Depth:
        return self.engine.depth(queue)

    async def leases(self) -> list[tuple[str, str, int]]:
        return self.engine.leases()

    async def oldest_ready(self, queue: str) -> int | None:
        return self.engine.oldest_ready(queue)

    async def close(self) -> None:
        pass


def _resolve(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
