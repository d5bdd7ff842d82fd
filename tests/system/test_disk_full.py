"""The disk is full: publishes are refused, everything else goes on, and it heals without a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import BrokerProcess
from tests.system.conftest import missing
from tests.system.disk import Disk, loop_devices_possible, why_impossible
from tests.system.wire import Refused, Rest, eventually, ids, rest
from tests.system.workload import damage

# By signal: a time-out by thread would end the process without unmounting anything.
pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(120, method="signal")]

SIZE = 96 << 20
CONTENT = "x" * 200_000


async def refused_as_full(client: Rest, queue: str, confirmed: list[str]) -> bool:
    """Publish once; whether there was no room. What was confirmed is added."""
    try:
        confirmed += await client.publish(queue, CONTENT)
    except Refused as refusal:
        if (refusal.status, refusal.code) != (507, "storage_full"):
            raise
        return True
    return False


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
