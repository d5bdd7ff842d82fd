"""The disk fails, or the broker dies at one chosen system call: what was confirmed is there after the next start."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.system.checker import check, summary
from tests.system.history import Crash, now
from tests.system.script import Script
from tests.system.wire import rest
from tests.system.workload import damage

pytestmark = pytest.mark.needs_strace

ROUNDS = 12
IO_ERROR = 74
SOON = 30.0


UnderStrace = Callable[[Path, str], BrokerProcess]


@pytest.fixture
def under_strace(strace: str) -> Iterator[UnderStrace]:
    """Make a broker with a fault injected into its system calls; it is killed at the end, whatever became of it."""
    made: list[BrokerProcess] = []

    def make(data_dir: Path, injection: str) -> BrokerProcess:
        made.append(traced(strace, data_dir, injection))
        return made[-1]

    yield make
    for broker in made:
        if broker.process is not None:
            broker.kill()


def traced(strace: str, data_dir: Path, injection: str) -> BrokerProcess:
    """The tracer is the broker's child (-D), so that pid and exit status are the broker's own."""
    calls = injection.split(":", 1)[0]
    tracer = (strace, "-D", "-f", "-qqq", "-o", "/dev/null")
    inject = ("-e", f"trace={calls}", "-e", f"inject={injection}")
    return BrokerProcess(data_dir, command=(*tracer, *inject, sys.executable, "-m", "streambroker", "serve"))


@pytest.fixture(scope="module")
def used_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the queue in it, so that the count of system calls does not start with the migrations."""
    directory = tmp_path_factory.mktemp("used") / "data"
    with BrokerProcess(directory) as broker:
        with broker.client() as client:
            client.post("/queues", json={"name": "work", "max_attempts": 0}).raise_for_status()
        assert broker.terminate() == 0
    return directory


async def play(broker: BrokerProcess, script: Script, rounds: int) -> bool:
    """Play the script until the broker stops answering or the script ends; whether the broker did."""
    stopped = True
    try:
        await asyncio.to_thread(broker.start)
        async with rest(broker, timeout=20) as client:
            stopped = not await script.run(client, rounds)
    except (RuntimeError, httpx.HTTPError):
        pass  # it died while it started, or at the login
    assert broker.process is not None
    script.history.crashes.append(Crash(now()))
    return stopped


async def survived(data_dir: Path, script: Script) -> str:
    """Start a sound broker on what is left, take out everything; the checker's findings."""
    with BrokerProcess(data_dir, env={"STREAMBROKER_DRAIN_TIMEOUT_MS": "0"}) as broker:
        async with rest(broker) as client:
            await script.drain(client)
        assert broker.terminate() == 0
    assert damage(data_dir) == []
    return summary(check(script.history))


@pytest.mark.parametrize("nth", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
async def test_death_at_the_nth_write_loses_nothing(
    under_strace: UnderStrace, tmp_path: Path, used_directory: Path, nth: int
) -> None:
    data_dir = Path(shutil.copytree(used_directory, tmp_path / "data"))
    script = Script()
    broker = under_strace(data_dir, f"pwrite64:signal=KILL:when={nth}")
    assert await play(broker, script, ROUNDS), "it was never called so often"
    broker.kill()
    assert await survived(data_dir, script) == ""


@pytest.mark.parametrize("nth", [1, 2, 3, 5, 8, 13, 21, 34])
async def test_death_at_the_nth_sync_loses_nothing(
    under_strace: UnderStrace, tmp_path: Path, used_directory: Path, nth: int
) -> None:
    data_dir = Path(shutil.copytree(used_directory, tmp_path / "data"))
    script = Script()
    broker = under_strace(data_dir, f"fdatasync,fsync:signal=KILL:when={nth}")
    assert await play(broker, script, ROUNDS), "it was never called so often"
    broker.kill()
    assert await survived(data_dir, script) == ""


@pytest.mark.parametrize("nth", [1, 2, 4, 8, 16, 32])
async def test_death_during_the_first_start_leaves_a_directory_that_starts(
    under_strace: UnderStrace, tmp_path: Path, nth: int
) -> None:
    script = Script()
    broker = under_strace(tmp_path / "data", f"pwrite64,fdatasync,fsync,ftruncate:signal=KILL:when={nth}")
    await play(broker, script, 1)
    broker.kill()
    script.history.crashes.append(Crash(now()))
    with BrokerProcess(tmp_path / "data") as sound:
        async with rest(sound) as client:
            assert await script.run(client, 1)
    assert await survived(tmp_path / "data", script) == ""


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
async def test_a_failed_sync_stops_the_broker_loudly_and_loses_nothing(
    under_strace: UnderStrace, tmp_path: Path, used_directory: Path, error: str
) -> None:
    data_dir = Path(shutil.copytree(used_directory, tmp_path / "data"))
    script = Script()
    broker = under_strace(data_dir, f"fdatasync,fsync:error={error}:when=25+")
    await play(broker, script, 10_000)
    assert broker.process is not None
    stopping = time.monotonic()
    status = await asyncio.to_thread(broker.process.wait, SOON)
    assert time.monotonic() - stopping < SOON
    broker.kill()
    assert status == IO_ERROR, "\n".join(broker.output)
    assert "sync" in "\n".join(broker.output).lower() or "i/o" in "\n".join(broker.output).lower()
    assert len(script.history.publishes) > 2
    assert await survived(data_dir, script) == ""
