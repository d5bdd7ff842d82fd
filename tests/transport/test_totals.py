"""Totals outlive a restart, and cost the disk little."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from streambroker.core.errors import BrokerError, StorageFull
from streambroker.store.sql.totals import Totals
from streambroker.transport.resource import Counters
from streambroker.transport.totals import SAVE_S, TotalsKeeper
from tests.broker.virtual import in_virtual_time
from tests.transport.auth_world import opened, transact

T = TypeVar("T")


class Disk:
    """Where totals are kept: SQLite in memory. `full` makes it refuse."""

    def __init__(self) -> None:
        self.connection = opened()
        self.transactions = 0
        self.full: BrokerError | None = None

    def run(self, work: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]:
        return self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.full is not None:
            raise self.full
        self.transactions += 1
        return transact(self.connection, work)

    async def start(self) -> tuple[Counters, TotalsKeeper]:
        """What a broker that starts makes of it."""
        counters = Counters()
        keeper = TotalsKeeper(Totals(self.run), counters)
        await keeper.load()
        return counters, keeper


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_a_total_goes_on_where_it_was(disk: Disk) -> None:
    counters, keeper = await disk.start()
    assert counters.total == 0
    counters.earlier += 5
    await keeper.save()
    counters, keeper = await disk.start()
    assert counters.total == 5
    counters.earlier += 2
    await keeper.save()
    assert (await disk.start())[0].total == 7


async def test_while_nothing_is_counted_nothing_is_written(disk: Disk) -> None:
    counters, keeper = await disk.start()
    counters.earlier += 1
    await keeper.save()
    written = disk.transactions
    await keeper.save()
    assert disk.transactions == written


async def test_a_disk_that_is_full_gets_it_later(disk: Disk) -> None:
    counters, keeper = await disk.start()
    counters.earlier += 1
    disk.full = StorageFull("the disk has no room")
    await keeper.save()
    disk.full = None
    await keeper.save()
    assert (await disk.start())[0].total == 1


def test_a_crash_loses_ten_seconds_at_most(disk: Disk) -> None:
    @in_virtual_time
    async def scenario() -> None:
        counters, keeper = await disk.start()
        keeping = asyncio.create_task(keeper.run())
        for _ in range(100):
            counters.earlier += 1
            await asyncio.sleep(1)
            kept = (await Totals(disk.run).load()).get("requests", 0)
            assert counters.total - kept <= SAVE_S + 1
        keeping.cancel()
        assert disk.transactions - 101 <= 100 / SAVE_S + 1

    scenario()
