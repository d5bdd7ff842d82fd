"""The power is cut under load: what was confirmed is on the disk, and not only on its way there."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.harness import BrokerProcess
from tests.system.broken import broken_command
from tests.system.checker import Property
from tests.system.conftest import missing
from tests.system.disk import Disk, Kind, loop_devices_possible, why_impossible
from tests.system.history import Crash, History, now
from tests.system.wire import eventually
from tests.system.workload import Interrupt, survive

CUTS = int(os.environ.get("SBTEST_CUTS", "5"))
TWIN_CUTS = 2
TWIN_LIVES = 5
"""How many brokers with the fault in them may get away with their cuts: right after a checkpoint nothing is lost."""
LIMIT = 300 + 20 * CUTS

# By signal: a time-out by thread would end the process without unmounting anything.
pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(LIMIT, method="signal")]


@pytest.fixture(params=["ext4", "xfs"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    if reason := why_impossible(found):
        missing(reason, possible_here=loop_devices_possible())
    return found


def cutting(disk: Disk) -> Interrupt:
    """A power cut: process and disk stop at the same moment.

    The process is frozen first. A sync that is under way in the kernel while the file system shuts down may return
    success for what is not on the disk; with a real cut nobody would be left to tell a client so.
    """

    async def cut(broker: BrokerProcess, history: History) -> None:
        assert broker.process is not None
        history.crashes.append(Crash(now()))
        broker.process.send_signal(signal.SIGSTOP)
        await eventually(lambda: asyncio.to_thread(frozen, broker.pid))
        disk.cut_power()
        await asyncio.to_thread(broker.kill)
        history.crashes.append(Crash(now()))
        await asyncio.to_thread(disk.power_on)

    return cut


def frozen(pid: int) -> bool:
    """Whether no thread of the process runs: each is stopped, or in a system call that it will not return from."""
    states = {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()}
    return states <= {"T", "D", "Z", "X"}


async def test_a_power_cut_loses_nothing_and_breaks_no_promise(tmp_path: Path, seed: int, kind: Kind) -> None:
    with Disk(tmp_path, kind) as disk, BrokerProcess(disk.path / "data") as broker:
        findings = await survive(broker, tmp_path, seed, CUTS, 0, cutting(disk))
    assert findings == ""


@pytest.mark.parametrize("kind", ["ext4"], indirect=True)
async def test_a_build_that_does_not_sync_each_commit_is_found_out(tmp_path: Path, seed: int, kind: Kind) -> None:
    command = broken_command("synchronous-normal")
    findings: list[str] = []
    while len(findings) < TWIN_LIVES and not any(f"x {Property.LOST}" in found for found in findings):
        life = tmp_path / str(len(findings))
        life.mkdir()
        with Disk(life, kind) as disk, BrokerProcess(disk.path / "data", command=command) as broker:
            findings.append(await survive(broker, life, seed + len(findings), TWIN_CUTS, 0, cutting(disk)))
    assert f"x {Property.LOST}" in findings[-1]
