"""The disk fails, or the broker dies at one chosen system call: what was confirmed is there after the next start."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.system.broken import broken_command
from tests.system.checker import check, summary
from tests.system.faults import injected
from tests.system.history import Crash, now
from tests.system.script import Script
from tests.system.wire import Cut, Refused, Rest, eventually, rest
from tests.system.workload import damage

pytestmark = pytest.mark.needs_strace

ROUNDS = 12
IO_ERROR = 74
SOON = 60.0
STOPPED_WITHIN = 20.0
"""Promised is a second, and on an idle machine it is a fifth of one; the rest is for a busy one."""


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
        async with rest(broker, timeout=60) as client:
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


# -- the table: which call, on which file, which error, the how-many-th ------------------------------------------------

WAL, FILE = "streambroker.db-wal", "streambroker.db"
LARGE = ["x" * 500_000] * 2
"""Ten of these make the broker move its log into the file."""


@pytest.fixture
async def broker(used_directory: Path, tmp_path: Path) -> AsyncIterator[BrokerProcess]:
    """A broker on a used directory, that does not wait for leases when it is stopped."""
    data_dir = Path(shutil.copytree(used_directory, tmp_path / "data"))
    with BrokerProcess(data_dir, env={"STREAMBROKER_DRAIN_TIMEOUT_MS": "0"}) as broker:
        yield broker


async def play_on(client: Rest, script: Script, rounds: int) -> tuple[bool, list[Refused]]:
    """Play rounds, and large publishes between them so that checkpoints come. Whether the broker answers still, and
    what it refused."""
    refusals: list[Refused] = []
    for number in range(rounds):
        try:
            if not await script.run(client, 1):
                return False, refusals
            if number % 2:
                await client.publish("large", *LARGE)
        except Refused as refusal:
            refusals.append(refusal)
        except Cut:
            return False, refusals
    return True, refusals


@pytest.mark.parametrize(
    ("call", "file", "nth"),
    [
        ("pwrite64", WAL, 1),
        ("pwrite64", WAL, 7),
        ("pwrite64", WAL, 100),
        ("fdatasync", WAL, 1),
        ("fdatasync", WAL, 6),
        ("pwrite64", FILE, 1),
        ("pwrite64", FILE, 40),
        ("fdatasync", FILE, 1),
    ],
)
async def test_an_error_of_the_disk_stops_the_broker_at_once_and_loses_nothing(
    strace: str, broker: BrokerProcess, tmp_path: Path, call: str, file: str, nth: int
) -> None:
    script = Script()
    async with rest(broker, timeout=60) as client:
        assert await script.run(client, 2)
        rule = f"{call},fsync:error=EIO:when={nth}" if call == "fdatasync" else f"{call}:error=EIO:when={nth}"
        with injected(strace, broker, tmp_path / "trace", rule, file) as injection:
            answers, _ = await play_on(client, script, 60)
            assert not answers, "the fault never came"
            assert broker.process is not None
            status = await asyncio.to_thread(broker.process.wait, SOON)
            ended = time.time()
    (at, *_) = injection.times()
    assert status == IO_ERROR, "\n".join(broker.output)
    assert ended - at < STOPPED_WITHIN
    script.history.crashes.append(Crash(now()))
    assert await survived(broker.data_dir, script) == ""


async def test_a_disk_without_room_refuses_and_goes_on_whichever_write_it_is(
    strace: str, broker: BrokerProcess, tmp_path: Path
) -> None:
    script = Script()
    async with rest(broker, timeout=60) as client:
        for file, nth in [(WAL, "1"), (WAL, "2"), (WAL, "6"), (WAL, "23"), (WAL, "1..9"), (FILE, "1"), (FILE, "20+")]:
            with injected(strace, broker, tmp_path / "trace", f"pwrite64:error=ENOSPC:when={nth}", file) as injection:
                rounds = 3 if file is WAL else 24
                answers, refusals = await play_on(client, script, rounds)
                assert answers, "\n".join(broker.output)
                assert injection.times(), "the fault never came"
                assert {(refusal.status, refusal.code) for refusal in refusals} <= {(507, "storage_full")}

            async def goes_on() -> bool:
                answers, refusals = await play_on(client, script, 1)
                assert answers
                return not refusals

            await eventually(goes_on)
        broker.kill()
        script.history.crashes.append(Crash(now()))
    assert await survived(broker.data_dir, script) == ""


@pytest.mark.parametrize("when", ["1", "1+"])
async def test_a_used_up_quota_of_the_file_system_is_a_full_disk_or_the_end_and_loses_nothing(
    strace: str, broker: BrokerProcess, tmp_path: Path, when: str
) -> None:
    script = Script()
    async with rest(broker, timeout=60) as client:
        assert await script.run(client, 2)
        with injected(strace, broker, tmp_path / "trace", f"pwrite64:error=EDQUOT:when={when}", WAL) as injection:
            answers, refusals = await play_on(client, script, 3)
        assert injection.times()
        assert {refusal.status for refusal in refusals} <= {507}
        if not answers:
            assert broker.process is not None
            assert await asyncio.to_thread(broker.process.wait, SOON) == IO_ERROR
        broker.kill()
        script.history.crashes.append(Crash(now()))
    assert await survived(broker.data_dir, script) == ""


async def test_a_read_that_cannot_open_the_file_fails_alone(strace: str, broker: BrokerProcess, tmp_path: Path) -> None:
    script = Script()
    async with rest(broker, timeout=60) as client:
        assert await script.run(client, 2)
        with injected(strace, broker, tmp_path / "trace", "openat:error=EIO:when=1+", FILE) as injection:
            looks = await asyncio.gather(*[client.browse("work") for _ in range(8)], return_exceptions=True)
            failed = [look for look in looks if isinstance(look, BaseException)]
            assert injection.times()
            assert all(isinstance(look, Refused) and (look.status, look.code) == (500, "internal") for look in failed)
            assert failed
            assert await script.run(client, 2)
        assert await client.browse("work")
        assert broker.terminate() == 0
    script.history.crashes.append(Crash(now()))
    assert await survived(broker.data_dir, script) == ""


CANNOT_BE_USED = 73


@pytest.mark.parametrize(
    ("call", "file", "error"),
    [
        ("openat", FILE, "EIO"),
        ("openat", WAL, "ENOSPC"),
        ("openat", "streambroker.lock", "EDQUOT"),
        ("ftruncate", "streambroker.db-shm", "EIO"),
        ("ftruncate", "streambroker.db-shm", "ENOSPC"),
    ],
)
async def test_a_start_that_the_disk_fails_says_so_and_changes_nothing(
    strace: str, used_directory: Path, tmp_path: Path, call: str, file: str, error: str
) -> None:
    data_dir = Path(shutil.copytree(used_directory, tmp_path / "data"))
    before = (data_dir / FILE).read_bytes()
    tracer = (strace, "-D", "-f", "-qqq", "-o", "/dev/null", "-P", str(data_dir / file))
    inject = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when=1")
    broker = BrokerProcess(data_dir, command=(*tracer, *inject, sys.executable, "-m", "streambroker", "serve"))
    with pytest.raises(RuntimeError, match=str(data_dir)):
        await asyncio.to_thread(broker.start)
    assert broker.process is not None
    assert broker.process.returncode == CANNOT_BE_USED
    assert "Traceback" not in "\n".join(broker.output)
    assert (data_dir / FILE).read_bytes() == before
    assert await survived(data_dir, Script()) == ""


async def test_a_broker_that_ignored_a_failed_sync_would_be_caught(
    strace: str, used_directory: Path, tmp_path: Path
) -> None:
    data_dir = Path(shutil.copytree(used_directory, tmp_path / "data"))
    env = {"STREAMBROKER_DRAIN_TIMEOUT_MS": "0"}
    with BrokerProcess(data_dir, env=env, command=broken_command("failures-ignored")) as broker:
        async with rest(broker, timeout=60) as client:
            with injected(strace, broker, tmp_path / "trace", "fdatasync:error=EIO:when=1", WAL) as injection:
                await play_on(client, Script(), 2)
                assert injection.times()
            assert broker.process is not None
            assert broker.process.poll() is None  # what the table above takes for a failure
