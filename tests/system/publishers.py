"""Publishers of the crash tests: by REST and by WebSocket, one at a time and in batches, some with a dedup_id.

A publish with a dedup_id is repeated until its outcome is known; one without is never repeated.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.system.history import Item, Outcome, Publish, now
from tests.system.stage import LIMITED, ORDERED, WORK, Stage, draft_of
from tests.system.wire import Cut, Refused, Rest, Socket

RETRY_FOR = 60
"""Seconds after which a publish that is always answered with a 5xx is an error of the test and no longer bad luck."""


@dataclass(slots=True)
class Publisher:
    """One client process that publishes batches of at most ``most`` until the stage says stop."""

    stage: Stage
    name: str
    most: int
    dedup: bool
    _count: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self) -> None:
        while self.stage.publishing:
            await self.stage.room()
            try:
                await self._connect()
                while self.stage.publishing:
                    await self.stage.room()
                    await self._publish_until_known(self._batch())
            except Cut:
                await asyncio.sleep(0.01)
            finally:
                await self._disconnect()

    def _batch(self) -> tuple[Item, ...]:
        rng = self.stage.rng
        queue = rng.choice((WORK, WORK, LIMITED, ORDERED))
        values = [f"{self.name}-{next(self._count)}" for _ in range(rng.randint(1, self.most))]
        return tuple(
            Item(value, queue, rng.choice((0, 0, 5, 9)), f"dedup-{value}" if self.dedup else None) for value in values
        )

    async def _publish_until_known(self, items: tuple[Item, ...]) -> None:
        deadline = now() + RETRY_FOR
        while True:
            invoked = now()
            try:
                ids = await self._send(items)
                self._record(items, invoked, Outcome.OK, ids)
                return
            except Refused as refusal:
                self._record(items, invoked, Outcome.FAIL if refusal.certain else Outcome.INFO)
                if refusal.certain or now() > deadline:
                    raise
            except Cut:
                self._record(items, invoked, Outcome.INFO)
            if not self.dedup:
                raise Cut("outcome unknown")
            await self._reconnect()

    def _record(self, items: tuple[Item, ...], invoked: float, outcome: Outcome, ids: Sequence[str] = ()) -> None:
        self.stage.published(Publish(self.name, items, invoked, now(), outcome, tuple(ids)))

    async def _reconnect(self) -> None:
        await self._disconnect()
        while True:
            await self.stage.up.wait()
            with suppress(Cut):
                await self._connect()
                return
            await asyncio.sleep(0.01)

    async def _connect(self) -> None:
        raise NotImplementedError

    async def _disconnect(self) -> None:
        raise NotImplementedError

    async def _send(self, items: tuple[Item, ...]) -> list[str]:
        raise NotImplementedError


@dataclass(slots=True)
class RestPublisher(Publisher):
    _rest: Rest | None = None

    async def _connect(self) -> None:
        await self._disconnect()
        self._rest = self.stage.rest()

    async def _disconnect(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None:
            await rest.close()

    async def _send(self, items: tuple[Item, ...]) -> list[str]:
        assert self._rest is not None
        path = f"/queues/{items[0].queue}/messages"
        if self.most == 1:
            reply = await self._rest.post(path, draft_of(items[0]))
            return [reply["message_id"]]
        reply = await self._rest.post(f"{path}/batch", {"messages": [draft_of(item) for item in items]})
        return list(reply["message_ids"])


@dataclass(slots=True)
class SocketPublisher(Publisher):
    _socket: Socket | None = None

    async def _connect(self) -> None:
        await self._disconnect()
        self._socket = await self.stage.socket()

    async def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _send(self, items: tuple[Item, ...]) -> list[str]:
        assert self._socket is not None
        reply = await self._socket.call("publish", queue=items[0].queue, messages=[draft_of(item) for item in items])
        return list(reply["message_ids"])
