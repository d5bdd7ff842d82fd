"""Consumers of the crash tests: sockets with session or fixed leases and long-polls, quick, slow and careless ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from tests.system.history import Delivery, Ended, Outcome, Settle, Verdict, now
from tests.system.stage import Stage, delivery_of
from tests.system.wire import Cut, Json, Refused, Rest, Socket, unknown_or

LEASE_MS = 1500


class Fate(Enum):
    """What a consumer does with a message it got."""

    ACK = auto()
    SLOW = auto()
    REQUEUE = auto()
    REJECT = auto()
    FORGET = auto()
    VANISH = auto()


_WEIGHTS = {Fate.ACK: 880, Fate.SLOW: 50, Fate.REQUEUE: 50, Fate.REJECT: 10, Fate.FORGET: 8, Fate.VANISH: 2}


@dataclass(slots=True)
class Consumer:
    """What both kinds share: choosing fates, settling in the background, knowing every settle's outcome or that it is
    unknown."""

    stage: Stage
    name: str
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def _fate(self) -> Fate:
        if self.stage.draining:
            return Fate.ACK
        return self.stage.rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def _record(self, delivery: Delivery, verdict: Verdict, invoked: float, result: Json | None) -> None:
        if result is None:
            outcome, code = Outcome.INFO, None
        elif result["ok"]:
            outcome, code = Outcome.OK, None
        else:
            outcome, code = Outcome.FAIL, result.get("code", "")
        self.stage.settle(
            Settle(self.name, verdict, delivery.message_id, delivery.lease, invoked, now(), outcome, code)
        )

    async def _settle_by_rest(self, rest: Rest, delivery: Delivery, verdict: Verdict) -> None:
        """One settle by its token; a cut connection leaves it unknown."""
        path = f"/messages/{delivery.message_id}/{'ack' if verdict is Verdict.ACK else 'nack'}"
        body: Json = {"lease": delivery.lease}
        if verdict is Verdict.REQUEUE:
            body |= {"requeue": True, "delay_ms": self.stage.rng.randrange(50)}
        invoked = now()
        result: Json | None = None
        try:
            await rest.post(path, body)
            result = {"ok": True}
        except Refused as refusal:
            if refusal.certain:
                result = {"ok": False, "code": refusal.code}
        except Cut:
            pass
        self._record(delivery, verdict, invoked, result)

    async def _ask_again(self, delivery: Delivery) -> None:
        """Repeat an ack of unknown outcome with the old token, once the broker is up again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.stage.up.wait()
            rest = self.stage.rest()
            await self._settle_by_rest(rest, delivery, Verdict.ACK)
            await rest.close()


@dataclass(slots=True)
class SocketConsumer(Consumer):
    """A socket with one subscription for each queue; after every cut it comes back."""

    queues: tuple[str, ...] = ()
    credit: int = 50
    session: bool = True
    sole: bool = False
    _connections: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self) -> None:
        while not self.stage.over:
            await self.stage.up.wait()
            try:
                socket = await self.stage.socket()
            except Cut:
                await asyncio.sleep(0.01)
                continue
            connection = f"{self.name}/{next(self._connections)}"
            with suppress(Cut):
                await self._consume(socket, connection)
            if self.session or not socket.closed.done():
                self.stage.history.endings.append(Ended(connection, now()))
            await socket.close()
        await self._finish()

    async def _consume(self, socket: Socket, connection: str) -> None:
        not_before = now()
        for queue in self.queues:
            fixed: Json = {} if self.session else {"lease_mode": "fixed", "lease_ms": LEASE_MS}
            await socket.call("subscribe", sub=queue, queue=queue, credit=self.credit, **fixed)
        while not self.stage.over:
            next_one = asyncio.ensure_future(socket.deliveries.get())
            either: set[asyncio.Future[Any]] = {next_one, socket.closed}
            await asyncio.wait(either, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
            if not next_one.done():
                next_one.cancel()
                if socket.closed.done():
                    return
                continue
            got = [next_one.result(), *socket.received()]
            if not await self._take(socket, connection, not_before, got):
                return

    async def _take(self, socket: Socket, connection: str, not_before: float, got: Sequence[Json]) -> bool:
        """Record what came and give each message its fate; False when the consumer vanishes."""
        fates: dict[Fate, list[Delivery]] = {fate: [] for fate in Fate}
        for message in got:
            delivery = delivery_of(message, self.name, connection, not_before, session=self.session, sole=self.sole)
            self.stage.delivered(delivery)
            fates[self._fate()].append(delivery)
        if self.sole:
            # What is claimed for a vanished connection is released unseen, and comes to the next one out of turn but
            # still as a first attempt: who judges the order must not vanish.
            fates[Fate.ACK] += fates[Fate.VANISH]
        elif fates[Fate.VANISH]:
            self.stage.history.endings.append(Ended(connection, now()))
            await (socket.abort() if self.stage.rng.random() < 0.7 else socket.close())
            return False
        # A session lease lasts as long as the connection: who forgets such a message never lets go of it.
        careless = fates[Fate.ACK] + (fates[Fate.FORGET] if self.session else [])
        for deliveries, verdict in (
            (careless, Verdict.ACK),
            (fates[Fate.REQUEUE], Verdict.REQUEUE),
            (fates[Fate.REJECT], Verdict.REJECT),
        ):
            if deliveries:
                self._spawn(self._settle(socket, deliveries, verdict))
        for delivery in fates[Fate.SLOW]:
            self._spawn(self._settle_later(socket, delivery))
        return True

    async def _settle_later(self, socket: Socket, delivery: Delivery) -> None:
        await asyncio.sleep(self.stage.rng.uniform(0, 1.2 * LEASE_MS / 1000))
        if socket.newest[delivery.message_id] == delivery.lease:
            await self._settle(socket, [delivery], Verdict.ACK)

    async def _settle(self, socket: Socket, deliveries: list[Delivery], verdict: Verdict) -> None:
        fields: Json = {"ids": [delivery.message_id for delivery in deliveries]}
        if verdict is Verdict.REQUEUE:
            fields |= {"requeue": True, "delay_ms": self.stage.rng.randrange(50)}
        op = "ack" if verdict is Verdict.ACK else "nack"
        invoked = now()
        results: dict[str, Json] = {}
        leases: dict[str, str] = {}
        try:
            if self.stage.rng.random() < 0.05:
                await socket.send(op, **fields)
            else:
                reply = await socket.call(op, **fields)
                results = {result["message_id"]: result for result in reply["results"]}
                leases = reply["leases"]
        except (Refused, Cut) as error:
            if isinstance(error, Refused) and error.certain:
                raise
        for delivery in deliveries:
            result = results.get(delivery.message_id)
            settled = delivery
            if verdict is Verdict.ACK and result and result["ok"]:
                # It is the newest attempt's, which may have come while the ack was on its way; none comes after it.
                settled = replace(delivery, lease=leases[delivery.message_id])
            self._record(settled, verdict, invoked, result)
        if not results and verdict is Verdict.ACK and socket.closed.done():
            for delivery in deliveries[:5]:
                await self._ask_again(delivery)


@dataclass(slots=True)
class PollConsumer(Consumer):
    """A long-poll client: GET for one message, POST for up to ``most``, over several queues when there are several."""

    queues: tuple[str, ...] = ()
    most: int = 1
    _polls: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self) -> None:
        async with AsyncExitStack() as clients:
            while not self.stage.over:
                await self.stage.up.wait()
                # Settles that are still under way use the client of before the cut: each is closed at the end only.
                rest = await clients.enter_async_context(self.stage.rest())
                with suppress(Cut):
                    while not self.stage.over:
                        await self._poll(rest)
                await asyncio.sleep(0.02)
            await self._finish()

    async def _poll(self, rest: Rest) -> None:
        not_before = now()
        impatient = not self.stage.draining and self.stage.rng.random() < 0.03
        try:
            async with asyncio.timeout(self.stage.rng.uniform(0, 0.2) if impatient else 30):
                messages = await self._request(rest)
        except TimeoutError:
            return
        connection = f"{self.name}/{next(self._polls)}"
        due: list[Delivery] = []
        for message in messages:
            delivery = delivery_of(message, self.name, connection, not_before)
            self.stage.delivered(delivery)
            fate = self._fate()
            if fate is Fate.ACK:
                due.append(delivery)
            elif fate is Fate.SLOW:
                self._spawn(self._settle_later(rest, delivery))
            elif fate in (Fate.REQUEUE, Fate.REJECT):
                verdict = Verdict.REQUEUE if fate is Fate.REQUEUE else Verdict.REJECT
                self._spawn(self._settle_by_rest(rest, delivery, verdict))
        if due:
            await self._ack(rest, due)

    async def _request(self, rest: Rest) -> list[Json]:
        wait_ms = 500 if self.stage.draining else 1000
        try:
            if len(self.queues) > 1:
                body = {"queues": list(self.queues), "max": self.most, "wait_ms": wait_ms, "lease_ms": LEASE_MS}
                return list((await rest.post("/consume", body))["messages"])
            if self.most > 1:
                return await rest.consume(self.queues[0], self.most, wait_ms, lease_ms=LEASE_MS)
            path = f"/queues/{self.queues[0]}/messages/consume"
            message = await rest.get(path, wait_ms=wait_ms, lease_ms=LEASE_MS)
            return [] if message is None else [message]
        except Refused as refusal:
            raise unknown_or(refusal) from refusal

    async def _settle_later(self, rest: Rest, delivery: Delivery) -> None:
        await asyncio.sleep(self.stage.rng.uniform(0, 1.2 * LEASE_MS / 1000))
        await self._settle_by_rest(rest, delivery, Verdict.ACK)

    async def _ack(self, rest: Rest, deliveries: list[Delivery]) -> None:
        if len(deliveries) == 1:
            await self._settle_by_rest(rest, deliveries[0], Verdict.ACK)
            return
        invoked = now()
        results: dict[str, Json] = {}
        items = [{"message_id": d.message_id, "lease": d.lease} for d in deliveries]
        try:
            reply = await rest.post("/messages/ack", {"items": items})
            results = {result["message_id"]: result for result in reply["results"]}
        except (Refused, Cut) as error:
            if isinstance(error, Refused) and error.certain:
                raise
        for delivery in deliveries:
            self._record(delivery, Verdict.ACK, invoked, results.get(delivery.message_id))
        if not results:
            for delivery in deliveries[:5]:
                await self._ask_again(delivery)
