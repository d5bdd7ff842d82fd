"""A writer that fails in an unforeseen way is heard of: nobody waits for ever, and the broker is told to stop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streambroker.core.errors import Internal, StorageFailed
from streambroker.store.contract import Sweep
from streambroker.store.groupcommit import GroupCommit
from streambroker.store.memory import MemoryEngine


class Untidy(MemoryEngine):
    """An engine whose housekeeping meets a disk that does not answer."""

    closed = False

    def work(self, function: Any) -> Any:
        return function(self)

    def tidy(self) -> None:
        raise OSError("statvfs: input/output error")

    def close(self) -> None:
        self.closed = True


async def test_housekeeping_that_fails_stops_the_broker_and_leaves_the_file_alone() -> None:
    failed: asyncio.Future[StorageFailed] = asyncio.get_running_loop().create_future()
    engine = Untidy()
    commits = GroupCommit(engine, failed.set_result)
    await commits.submit(Sweep(0, 1))
    async with asyncio.timeout(60):
        assert "statvfs" in str(await failed)
        with pytest.raises(Internal):
            await commits.submit(Sweep(0, 1))
        await commits.close()
    assert not engine.closed
