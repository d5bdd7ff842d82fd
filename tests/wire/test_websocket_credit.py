"""Credit is never exceeded and no message is lost, whatever the consumers do (contract §5, §7.9).

A random walk over subscribe, ack, nack, extend, pause, unsubscribe, close and crash, with the count that the client can
keep by itself: what was delivered less what it has sent a verdict on. The broker hands out a credit only after the
verdict has arrived, so the client's own count never shows more than the credit.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.wire.doors import Queue, eventually
from tests.wire.sockets import Socket

Connect = Callable[..., Socket]


@dataclass
class Subscription:
    credit: int
    held: dict[str, str] = field(default_factory=dict)  # message id → lease
    paused: bool = False
    leaving: bool = False


class Consumer:
    """One connection with its subscriptions; it checks every frame that it is sent."""

    def __init__(self, connect: Connect, queue: Queue, acked: set[str], rng: random.Random) -> None:
        self.socket = connect()
        self.queue = queue
        self.acked = acked
        self.rng = rng
        self.subs: dict[str, Subscription] = {}

    def subscribe(self, sub: str, credit: int) -> None:
        self.subs[sub] = Subscription(credit)
        self.socket.ok("subscribe", sub=sub, queue=self.queue.name, credit=credit)

    def read(self) -> None:
        """Take in what came, up to a round trip."""
        self.socket.settle_down()
        self.take_in()

    def take_in(self) -> None:
        frames, self.socket.inbox = self.socket.inbox, []
        for frame in frames:
            assert frame["op"] == "deliver", frame
            sub = self.subs.get(frame["sub"])
            assert sub is not None, f"a delivery after the unsubscribe was answered: {frame}"
            if sub.leaving:
                continue  # on its way already when the broker heard of the unsubscribe
            for message in frame["messages"]:
                message_id = message["message_id"]
                assert message_id not in self.acked, f"delivered after a confirmed ack: {message_id}"
                assert all(message_id not in other.held for other in self.subs.values()), "delivered while held"
                sub.held[message_id] = message["lease"]
            assert len(sub.held) <= sub.credit, f"{len(sub.held)} unsettled with a credit of {sub.credit}"

    def some(self, sub: Subscription) -> list[str]:
        return self.rng.sample(sorted(sub.held), self.rng.randint(1, len(sub.held)))

    def step(self) -> None:
        self.read()
        name = self.rng.choice(sorted(self.subs))
        sub = self.subs[name]
        match self.rng.choice(["ack", "ack", "ack", "nack", "extend", "pause", "unsubscribe", "read"]):
            case "ack" if sub.held:
                self.ack(sub, self.some(sub))
            case "nack" if sub.held:
                ids = self.some(sub)
                for message_id in ids:
                    del sub.held[message_id]
                delay = self.rng.choice([0, 0, 5])
                self.socket.send({"op": "nack", "ids": ids, "requeue": True, "delay_ms": delay})
            case "extend" if sub.held:
                self.socket.send({"op": "extend", "ids": self.some(sub), "lease_ms": 60_000})
            case "pause":
                sub.paused = not sub.paused
                self.socket.ok("pause" if sub.paused else "resume", sub=name)
            case "unsubscribe":
                sub.leaving = True
                sub.held.clear()
                self.socket.ok("unsubscribe", sub=name)
                self.take_in()
                del self.subs[name]
                self.subscribe(name, self.rng.randint(1, 12))

    def ack(self, sub: Subscription, ids: list[str]) -> None:
        for message_id in ids:
            del sub.held[message_id]
        if self.rng.random() < 0.5:
            results: list[dict[str, Any]] = self.socket.ok("ack", ids=ids)["results"]
            assert all(result["ok"] for result in results), results
            self.acked.update(ids)
        else:
            self.socket.send({"op": "ack", "ids": ids})

    def end(self) -> None:
        self.rng.choice([self.socket.close, self.socket.drop])()


@pytest.mark.parametrize("seed", range(6))
def test_credit_is_never_exceeded_whatever_consumers_do(connect: Connect, api: Any, seed: int) -> None:
    rng = random.Random(seed)
    queue = Queue(api, max_attempts=0)
    acked: set[str] = set()

    def consumer() -> Consumer:
        made = Consumer(connect, queue, acked, rng)
        for name in ("a", "b")[: rng.randint(1, 2)]:
            made.subscribe(name, rng.randint(1, 12))
        return made

    consumers = [consumer() for _ in range(3)]
    published = set(queue.publish_many(*range(60)))
    for step in range(80):
        rng.choice(consumers).step()
        if step % 10 == 5:
            published.update(queue.publish_many(*range(rng.randint(1, 30))))
        if step % 20 == 15:
            victim = consumers.pop(rng.randrange(len(consumers)))
            victim.end()
            consumers.append(consumer())
    for each in consumers:
        each.read()
        each.socket.close()

    # Nothing is lost: what was never confirmed comes again or is processed.
    eventually(queue.counts, lambda counts: counts["processing"] == counts["delayed"] == 0)
    counts = queue.counts()
    assert counts["failed"] == 0
    assert counts["pending"] + counts["processed"] == len(published)
    rest = queue.take_many(1000)
    left = {message["message_id"] for message in rest}
    assert left <= published
    assert not left & acked
    assert len(left) == counts["pending"]


@pytest.mark.parametrize("credit", [1, 2, 7])
def test_a_backlog_flows_through_a_small_credit(connect: Connect, queue: Queue, credit: int) -> None:
    published = queue.publish_many(*range(40))
    socket = connect()
    socket.ok("subscribe", queue=queue.name, credit=credit)
    seen: list[str] = []
    held: list[str] = []
    while len(seen) < len(published):
        if not held or socket.inbox:
            ids = [message["message_id"] for message in socket.op("deliver")["messages"]]
            held += ids
            seen += ids
            assert len(held) <= credit
        else:
            socket.send({"op": "ack", "ids": [held.pop(0)]})
    assert seen == published


def test_an_extend_gives_no_credit_back(connect: Connect, queue: Queue) -> None:
    queue.publish_many(1, 2)
    socket = connect()
    socket.ok("subscribe", queue=queue.name, credit=1)
    [message] = socket.deliveries(1)
    socket.ok("extend", ids=[message["message_id"]], lease_ms=60_000)
    socket.settle_down()
    assert "deliver" not in socket.ops()


def test_a_verdict_that_failed_gives_no_credit_back(connect: Connect, queue: Queue) -> None:
    queue.publish_many(1, 2, 3)
    socket = connect()
    socket.ok("subscribe", queue=queue.name, credit=1)
    [message] = socket.deliveries(1)
    for _ in range(3):
        socket.ok("ack", ids=["no-such-message", "neither-this"])
    socket.settle_down()
    assert "deliver" not in socket.ops()
    socket.send({"op": "ack", "ids": [message["message_id"], message["message_id"]]})
    socket.deliveries(1)
    socket.settle_down()
    assert "deliver" not in socket.ops(), "one message acked twice gave two credits back"
