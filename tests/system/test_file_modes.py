"""Nobody else on the machine can read what a broker keeps."""

from __future__ import annotations

import os

from tests.harness import BrokerProcess
from tests.system.conftest import StartBroker
from tests.system.wire import rest

OTHERS = 0o077


def open_to_others(broker: BrokerProcess) -> dict[str, str]:
    """Whatever in the data directory others could read, write or list, with its mode."""
    found = [broker.data_dir, *broker.data_dir.rglob("*")]
    modes = {path.name: path.stat().st_mode & 0o777 for path in found}
    return {name: f"{mode:03o}" for name, mode in modes.items() if mode & OTHERS}


async def test_everything_in_the_data_directory_of_a_running_broker_is_private(start_broker: StartBroker) -> None:
    before = os.umask(0)  # what the broker inherits: as open as can be
    try:
        broker = start_broker()
    finally:
        os.umask(before)
    async with rest(broker) as client:
        await client.publish("work", "x" * 100_000)
        await client.browse("work")
    names = {path.name for path in broker.data_dir.iterdir()}
    expected = {f"streambroker.{end}" for end in ("db", "db-wal", "db-shm", "lock")} | {"ballast", "reserve", "jwt.key"}
    assert names >= expected
    assert open_to_others(broker) == {}
    assert broker.terminate() == 0
    assert open_to_others(broker) == {}
