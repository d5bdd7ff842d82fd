"""Four publishers and eight consumers against one broker that keeps dying; then a drain, and the last look around."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from tests.harness import RENEWED_AFTER_S, BrokerProcess
from tests.system.checker import check, summary
from tests.system.consumers import PollConsumer, SocketConsumer
from tests.system.history import Crash, History, Resting, Stop, now
from tests.system.publishers import Publisher, RestPublisher, SocketPublisher
from tests.system.stage import DEAD, LIMITED, ORDERED, WORK, Stage, value_of
from tests.system.wire import Rest, eventually

DRAIN_TIMEOUT = 180
"""Seconds until the queues must be empty when nobody publishes and every consumer acks at once."""

Interrupt = Callable[[BrokerProcess, History], Awaitable[None]]


async def crash(broker: BrokerProcess, history: History) -> None:
    """SIGKILL in the middle of whatever it is doing."""
    assert broker.process is not None
    history.crashes.append(Crash(now()))
    broker.process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(broker.kill)
    history.crashes.append(Crash(now()))


async def stop_gracefully(broker: BrokerProcess, history: History) -> None:
    """SIGTERM; the exit status must say that it stopped as asked."""
    history.stops.append(Stop(now()))
    status = await asyncio.to_thread(broker.terminate)
    history.stops.append(Stop(now()))
    assert status == 0, "\n".join(broker.output)


class Workload:
    """Owns the stage and the clients' tasks; the broker process belongs to the caller."""

    def __init__(self, broker: BrokerProcess, seed: int) -> None:
        self.broker = broker
        self.rng = random.Random(seed)
        self.history = History(dead_letters={LIMITED: DEAD}, limited=frozenset({LIMITED}))
        self.stage = Stage(self.rng, self.history)
        self._token_at = -RENEWED_AFTER_S

    async def run(self, interruptions: int, messages: int, interrupt: Interrupt) -> History:
        """Interrupt the broker at least so often, and until so many messages are confirmed; then drain and look."""
        await self._start()
        await self._declare_queues()
        async with asyncio.TaskGroup() as clients:
            publishers = [clients.create_task(publisher.run()) for publisher in self._publishers()]
            for consumer in self._consumers():
                clients.create_task(consumer.run())
            interrupted = 0
            while interrupted < interruptions or self.stage.confirmed < messages:
                await asyncio.sleep(self.rng.uniform(0.05, 2))
                self.stage.up.clear()
                await interrupt(self.broker, self.history)
                interrupted += 1
                await self._start()
            self.stage.stop_publishing()
            await asyncio.gather(*publishers)
            self.stage.draining = True
            clients.create_task(PollConsumer(self.stage, "poll-dead", queues=(DEAD,), most=100).run())
            await self._drained()
            self.stage.over = True
        await self._look_around()
        return self.history

    def tally(self) -> str:
        """How much happened, in words."""
        history = self.history
        return (
            f"{self.stage.confirmed} confirmed, {len(history.deliveries)} deliveries, {len(history.settles)} settles, "
            f"{len(history.crashes) // 2} crashes, {len(history.stops) // 2} stops"
        )

    async def _start(self) -> None:
        if self.broker.process is None or self.broker.process.poll() is not None:
            await asyncio.to_thread(self.broker.start)
        if now() - self._token_at > RENEWED_AFTER_S:  # not at each start: logins are limited
            self.stage.token, self._token_at = await asyncio.to_thread(self.broker.token), now()
        self.stage.url, self.stage.ws_url = self.broker.url, self.broker.ws_url
        self.stage.up.set()

    async def _declare_queues(self) -> None:
        async with self.stage.rest() as rest:
            for queue in (WORK, ORDERED, DEAD):
                await rest.post("/queues", {"name": queue, "max_attempts": 0})
            await rest.post("/queues", {"name": LIMITED, "max_attempts": 3, "dead_letter_queue": DEAD})

    def _publishers(self) -> list[Publisher]:
        stage = self.stage
        return [
            RestPublisher(stage, "rest-single", most=1, dedup=True),
            RestPublisher(stage, "rest-batch", most=60, dedup=False),
            SocketPublisher(stage, "socket-single", most=1, dedup=False),
            SocketPublisher(stage, "socket-batch", most=60, dedup=True),
        ]

    def _consumers(self) -> list[SocketConsumer | PollConsumer]:
        stage = self.stage
        return [
            SocketConsumer(stage, "session-ordered", queues=(ORDERED,), credit=100, sole=True),
            SocketConsumer(stage, "session-both", queues=(WORK, LIMITED), credit=30),
            SocketConsumer(stage, "fixed-work", queues=(WORK,), session=False),
            SocketConsumer(stage, "fixed-limited", queues=(LIMITED,), session=False),
            PollConsumer(stage, "poll-work", queues=(WORK,)),
            PollConsumer(stage, "poll-limited", queues=(LIMITED,)),
            PollConsumer(stage, "poll-batch", queues=(WORK,), most=20),
            PollConsumer(stage, "poll-both", queues=(WORK, LIMITED), most=20),
        ]

    async def _drained(self) -> None:
        """Wait until nothing is pending or processing in any queue."""
        async with self.stage.rest() as rest:
            await eventually(lambda: _all_settled(rest), DRAIN_TIMEOUT)

    async def _look_around(self) -> None:
        async with self.stage.rest() as rest:
            for queue in (await rest.get("/stats"))["queues"]:
                for message in await rest.browse(queue):
                    self.history.resting.append(
                        Resting(message["message_id"], value_of(message["content"]), queue, message["status"])
                    )


async def _all_settled(rest: Rest) -> bool:
    queues: dict[str, dict[str, int]] = (await rest.get("/stats"))["queues"]
    return not any(queue["pending"] + queue["processing"] for queue in queues.values())


def damage(data_dir: Path) -> list[str]:
    """What SQLite's own check finds wrong in every database of a data directory."""
    findings: list[str] = []
    for path in sorted(data_dir.rglob("*")):
        if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
            with closing(sqlite3.connect(path)) as database:
                rows = [row[0] for row in database.execute("PRAGMA integrity_check")]
            findings += [f"{path.name}: {row}" for row in rows if row != "ok"]
    return findings


async def survive(broker: BrokerProcess, tmp_path: Path, seed: int, times: int, messages: int, how: Interrupt) -> str:
    """Run the workload; the checker's findings in words, empty when there are none."""
    workload = Workload(broker, seed)
    try:
        history = await workload.run(times, messages, how)
        findings = summary(check(history))
        assert broker.terminate() == 0, "\n".join(broker.output)
    finally:
        workload.history.save(tmp_path / "history.jsonl")
        print(f"seed {seed}, {workload.tally()}, history in {tmp_path / 'history.jsonl'}", file=sys.stderr)
        print("\n".join([*broker.output][-20:]), file=sys.stderr)
    assert damage(broker.data_dir) == []
    return findings
