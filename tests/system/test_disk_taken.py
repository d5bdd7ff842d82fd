"""Other programs take the last byte of the disk, the ballast's room too: an admin still gets in and makes room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.harness import PASSWORD, BrokerProcess
from tests.system.conftest import missing
from tests.system.disk import small_disk
from tests.system.wire import Refused, Rest, ids, rest
from tests.system.workload import damage

pytestmark = [pytest.mark.timeout(120, method="signal"), pytest.mark.needs_root]

SIZE = 40 << 20
CONTENT = "x" * 900_000


@contextmanager
def broker_on(disk: Path) -> Iterator[BrokerProcess]:
    env = {"STREAMBROKER_DRAIN_TIMEOUT_MS": "0", "STREAMBROKER_RATE_LIMIT_LOGIN": "off"}
    with BrokerProcess(disk / "data", env=env) as broker:
        yield broker


def take_the_rest(disk: Path) -> None:
    """Be the other program: write until not a single page is left."""
    with (disk / "others").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\xff" * 65_536)
    with (disk / "others").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\xff" * 512)
    assert os.statvfs(disk).f_bavail == 0


async def fill(client: Rest) -> list[str]:
    """Publish until it is refused; the ids."""
    confirmed: list[str] = []
    while len(confirmed) * len(CONTENT) < SIZE:
        try:
            confirmed += await client.publish("work", CONTENT)
        except Refused as refusal:
            if "the disk is full" in str(refusal):
                return confirmed
            raise
    raise AssertionError("it was never full")


async def log_in(client: Rest) -> None:
    await client.post("/login", {"username": "admin", "password": PASSWORD})


@pytest.mark.parametrize("who_was_first", ["broker", "others"])
async def test_an_admin_logs_in_and_makes_room_where_not_a_byte_is_left(tmp_path: Path, who_was_first: str) -> None:
    if os.geteuid() != 0:
        missing("mounting a tmpfs needs root", possible_here=False)
    with small_disk(tmp_path, SIZE) as disk, broker_on(disk) as broker:
        async with rest(broker) as client:
            if who_was_first == "broker":
                confirmed = await fill(client)
            else:
                confirmed = await client.publish("work", *["x" * 90_000] * 200)
            taken = ids(await client.collect("work", 5))
            for _ in range(20):  # whatever the broker gives up is taken at once
                take_the_rest(disk)
                with suppress(Refused):
                    await client.publish("work", CONTENT)
            take_the_rest(disk)
            broker.kill()
            broker.start()
        async with rest(broker) as client:
            for _ in range(20):
                take_the_rest(disk)
                await log_in(client)
            take_the_rest(disk)
            purged = await client.post("/queues/work/purge", {"status": "pending"})
            assert purged["purged"] >= len(confirmed) - len(taken)  # more where leases were over by then
            again = await client.publish("again", CONTENT)
            (message,) = await client.collect("again", 1)
            assert ids([message]) == again
            take_the_rest(disk)
            assert (await client.ack(message))["status"] == "processed"
        assert broker.terminate() == 0
        assert damage(broker.data_dir) == []
