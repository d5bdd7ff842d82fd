"""The disk or the quota is used up: publishes are refused, everything else goes on, and it heals without a restart."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import PASSWORD, BrokerProcess
from tests.system.broken import broken_command
from tests.system.conftest import missing
from tests.system.disk import Disk, loop_devices_possible, small_disk, why_impossible
from tests.system.wire import Refused, Rest, eventually, ids, rest
from tests.system.workload import damage

# By signal: a time-out by thread would end the process without unmounting anything.
pytestmark = pytest.mark.timeout(120, method="signal")

SIZE = 96 << 20
CONTENT = "x" * 200_000
SMALL = 8 << 20
SIZES = (100, 1_000, 20_000)
FLAT_KIB = 48 * 1024
"""What the process may grow by while the disk fills and empties, its page cache included."""


async def refused_as_full(client: Rest, queue: str, confirmed: list[str]) -> bool:
    """Publish once; whether there was no room. What was confirmed is added."""
    try:
        confirmed += await client.publish(queue, CONTENT)
    except Refused as refusal:
        if (refusal.status, refusal.code) != (507, "storage_full"):
            raise
        return True
    return False


@pytest.mark.needs_root
async def test_a_full_disk_refuses_publishes_takes_acks_and_heals(tmp_path: Path) -> None:
    if reason := why_impossible("ext4"):
        missing(reason, possible_here=loop_devices_possible())
    no_wait = {"STREAMBROKER_DRAIN_TIMEOUT_MS": "0"}
    with Disk(tmp_path, "ext4", SIZE) as disk, BrokerProcess(disk.path / "data", env=no_wait) as broker:
        async with rest(broker) as client:
            confirmed: list[str] = []
            while not await refused_as_full(client, "work", confirmed):
                assert len(confirmed) * len(CONTENT) < SIZE
            taken: list[str] = []
            while len(taken) < len(confirmed) // 2:
                messages = await client.collect("work", 5)
                for message in messages:
                    assert (await client.ack(message))["status"] == "processed"
                taken += ids(messages)
            assert taken == confirmed[: len(taken)]

            await client.post("/queues/work/purge", {"status": "processed"})

            async def room_again() -> bool:
                return not await refused_as_full(client, "work", confirmed)

            await eventually(room_again, timeout=60)
        broker.kill()
        broker.start()
        async with rest(broker) as client:
            left = confirmed[len(taken) :]
            assert ids(await client.collect("work", len(left))) == left
        assert broker.terminate() == 0
        assert damage(broker.data_dir) == []


# -- an 8 MiB disk, and a quota of as much -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limit:
    """What is used up, and what the broker says of it."""

    size: int
    says: str


DISK = Limit(SMALL, "the disk is full")
QUOTA = Limit(SMALL // 4, f"the quota of {SMALL // 4} bytes (max_stored_bytes)")


@contextmanager
def limited(tmp_path: Path, limit: Limit) -> Iterator[BrokerProcess]:
    """A broker on a small disk, or with a quota on a large one."""
    env = {"STREAMBROKER_DRAIN_TIMEOUT_MS": "0", "STREAMBROKER_RATE_LIMIT_LOGIN": "off"}
    if limit is QUOTA:
        with BrokerProcess(tmp_path / "data", env={**env, "STREAMBROKER_MAX_STORED_BYTES": str(limit.size)}) as broker:
            yield broker
        return
    with small_disk(tmp_path, SMALL) as disk, BrokerProcess(disk / "data", env=env) as broker:
        yield broker


def resident_kib(broker: BrokerProcess) -> int:
    status = Path(f"/proc/{broker.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


async def publish_until_full(client: Rest, limit: Limit) -> list[str]:
    """Publish contents of several sizes until nothing fits any more; the ids."""
    confirmed: list[str] = []
    refusal: Refused | None = None
    sizes = itertools.cycle(SIZES)
    while refusal is None:
        size = next(sizes)
        try:
            confirmed += await client.publish("work", *["x" * size] * (10 if size < 1_000 else 1))
        except Refused as refused:
            refusal = refused
        assert len(confirmed) < limit.size // min(SIZES)
    assert (refusal.status, refusal.code, limit.says in str(refusal)) == (507, "storage_full", True)
    return confirmed


async def ack_everything(client: Rest, count: int) -> list[str]:
    """Take and ack so many messages, one by one; their ids."""
    acked: list[str] = []
    while len(acked) < count:
        for message in await client.collect("work", min(50, count - len(acked))):
            assert (await client.ack(message))["status"] == "processed"
            acked.append(message["message_id"])
    return acked


async def everything_else(client: Rest) -> None:
    """What is no publish goes on: a login, a nack, an extend, a delete, a new queue."""
    await client.post("/login", {"username": "admin", "password": PASSWORD})
    first, second = await client.collect("work", 2)
    for message in (first, second):
        extended = {"lease": message["lease"], "lease_ms": 60_000}
        assert (await client.post(f"/messages/{message['message_id']}/extend", extended))["status"] == "processing"
        nacked = {"lease": message["lease"], "requeue": True, "delay_ms": 0}
        assert (await client.post(f"/messages/{message['message_id']}/nack", nacked))["status"] == "pending"
    await client.post("/queues", {"name": "made-while-full"})
    await client.call("DELETE", "/queues/made-while-full")
    assert (await client.counts("work"))["pending"] > 0


@pytest.mark.parametrize(
    "limit", [pytest.param(DISK, marks=pytest.mark.needs_root), pytest.param(QUOTA)], ids=["disk", "quota"]
)
async def test_at_the_limit_every_ack_succeeds_and_publishes_come_back_by_themselves(
    tmp_path: Path, limit: Limit
) -> None:
    if limit is DISK and os.geteuid() != 0:
        missing("mounting a tmpfs needs root", possible_here=False)
    with limited(tmp_path, limit) as broker:
        async with rest(broker) as client:
            await client.post("/queues", {"name": "work", "max_attempts": 0})

            async def room_again() -> bool:
                return not await refused_as_full(client, "again", [])

            before = 0
            for _ in range(3):
                confirmed = await publish_until_full(client, limit)
                before = before or resident_kib(broker)
                assert len(confirmed) > 100
                await everything_else(client)
                assert sorted(await ack_everything(client, len(confirmed))) == sorted(confirmed)
                await eventually(room_again, timeout=60)
                await client.post("/queues/again/purge", {"status": "all"})
            assert resident_kib(broker) - before < FLAT_KIB
        assert broker.terminate() == 0
        assert damage(broker.data_dir) == []


async def test_a_broker_without_the_quota_would_be_caught(tmp_path: Path) -> None:
    env = {"STREAMBROKER_MAX_STORED_BYTES": str(QUOTA.size)}
    with BrokerProcess(tmp_path / "data", env=env, command=broken_command("quota-ignored")) as broker:
        async with rest(broker) as client:
            for _ in range(20):
                await client.publish("work", CONTENT)
