"""Faults between a client and its broker, and what must be true of a history all the same."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from streambroker.client import Client, Message, Reconnecting, RetryPolicy, StreambrokerError
from tests.harness import BrokerProcess

MakeClient = Callable[[str, str], Client]


class FaultProxy:
    """Carries bytes between clients and a port of this machine, and cuts connections when told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers = asyncio.Event()
        self.answers.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut(1.0, random.Random())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, share: float, dice: random.Random) -> None:
        """End some of the connections without a word."""
        for pair in list(self._pairs):
            if dice.random() < share:
                for writer in pair:
                    writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        pair = writer, to_broker
        self._pairs.add(pair)
        pumps = [
            asyncio.create_task(self._pump(reader, to_broker, None)),
            asyncio.create_task(self._pump(from_broker, writer, self.answers)),
        ]
        self._tasks.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pairs.discard(pair)
            for pump in pumps:
                pump.cancel()
                self._tasks.discard(pump)
            for one in pair:
                one.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if gate is not None:
                    await gate.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass


class Event(NamedTuple):
    """Something that a consumer saw: a delivery, or the confirmation of its ack."""

    what: Literal["delivered", "acked"]
    message_id: str
    content: int
    attempt: int


@dataclass(slots=True)
class History:
    """What producers and consumers saw, in the order in which they saw it."""

    published: dict[int, str] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)

    def violations(self) -> list[str]:
        """What the contract (§7) does not allow; empty for a sound history."""
        found: list[str] = []
        ids: dict[int, set[str]] = defaultdict(set)
        for content, message_id in self.published.items():
            ids[content].add(message_id)
        acked: set[str] = set()
        attempts: dict[str, int] = {}
        for event in self.events:
            ids[event.content].add(event.message_id)
            if event.what == "acked":
                if event.message_id in acked:
                    found.append(f"{event.message_id} acked twice")
                acked.add(event.message_id)
                continue
            if event.message_id in acked:
                found.append(f"{event.message_id} delivered after its ack was confirmed")
            if event.attempt <= attempts.get(event.message_id, 0):
                found.append(f"{event.message_id} delivered twice as attempt {event.attempt}")
            attempts[event.message_id] = event.attempt
        found += [f"content {content} stored {len(all_of)} times" for content, all_of in ids.items() if len(all_of) > 1]
        lost = [message_id for message_id in self.published.values() if message_id not in acked]
        found += [f"{message_id} published and never acked" for message_id in lost]
        return found

    @property
    def redelivered(self) -> int:
        """Messages that were delivered more than once."""
        seen = Counter(event.message_id for event in self.events if event.what == "delivered")
        return sum(1 for times in seen.values() if times > 1)


def hasty(url: str, token: str) -> Client:
    """The SDK as it is, with short waits."""
    quick = Reconnecting(RetryPolicy(base_s=0.02, most_s=0.2))
    return Client(url, token=token, reconnecting=quick, environment={})


@dataclass(slots=True)
class Run:
    """A producer and two consumers through a proxy that fails, for some seconds."""

    broker: BrokerProcess
    queue: str
    make: MakeClient
    dice: random.Random
    seconds: float
    kills: int
    history: History = field(default_factory=History)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: int = 0

    async def go(self) -> History:
        """Run it to the end: until the producers are done and nothing is left in the queue."""
        token = self.broker.token()
        with self.broker.client() as api:
            api.post("/queues", json={"name": self.queue, "max_attempts": 0}).raise_for_status()
        port = int(self.broker.url.rpartition(":")[2])
        self.broker.port = port  # it comes back where it was
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(FaultProxy(port))
            clients = [await stack.enter_async_context(self.make(proxy.url, token)) for _ in range(3)]
            consumers = [asyncio.create_task(self._consume(client)) for client in clients[1:]]
            producers = [asyncio.create_task(self._produce(clients[0], lane)) for lane in range(16)]
            await self._disturb(proxy)
            self.stopped.set()
            await asyncio.gather(*producers)
            await self._drained(clients[0])
            for consumer in consumers:
                consumer.cancel()
            await asyncio.gather(*consumers, return_exceptions=True)
        return self.history

    async def _produce(self, client: Client, lane: int) -> None:
        number = lane
        while not self.stopped.is_set():
            number += 16
            try:
                published = await client.publish(self.queue, number, timeout=60)
                self.history.published[number] = published.message_id
            except StreambrokerError:
                self.history.unknown.add(number)
            await asyncio.sleep(0.002)

    async def _consume(self, client: Client) -> None:
        acks: set[asyncio.Task[None]] = set()
        async for message in client.consume(self.queue, credit=40):
            self._note("delivered", message)
            task = asyncio.create_task(self._ack(message))
            acks.add(task)
            task.add_done_callback(acks.discard)

    async def _ack(self, message: Message) -> None:
        await asyncio.sleep(self.dice.random() * 0.01)
        try:
            await message.ack()
        except StreambrokerError:
            return
        self._note("acked", message)

    def _note(self, what: Literal["delivered", "acked"], message: Message) -> None:
        self.history.events.append(Event(what, message.message_id, message.content, message.attempt))

    async def _disturb(self, proxy: FaultProxy) -> None:
        """Cut connections, often when the broker has answered and the answer is still on its way; kill the broker."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.seconds
        kill_at = [ends - self.seconds * (index + 1) / (self.kills + 1) for index in range(self.kills)]
        while loop.time() < ends:
            await asyncio.sleep(self.dice.uniform(0.05, 0.4))
            if kill_at and loop.time() > kill_at[-1]:
                kill_at.pop()
                await asyncio.to_thread(self.broker.kill)
                await asyncio.to_thread(self.broker.start)
                continue
            proxy.answers.clear()
            await asyncio.sleep(self.dice.uniform(0.0, 0.05))
            proxy.cut(self.dice.choice((0.5, 1.0)), self.dice)
            proxy.answers.set()
            self.cuts += 1

    async def _drained(self, client: Client) -> None:
        """Wait until nothing is left. A message that is held for ever would be a lost one."""
        async with asyncio.timeout(60):
            while True:
                counts = (await client.queues.get(self.queue)).counts
                if counts.pending + counts.processing == 0:
                    return
                await asyncio.sleep(0.05)
