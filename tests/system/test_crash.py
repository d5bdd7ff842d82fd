"""The broker is killed at random moments under load, again and again; no promise is broken by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import BrokerProcess
from tests.system.broken import broken_command
from tests.system.checker import Property
from tests.system.workload import crash, stop_gracefully, survive

KILLS = int(os.environ.get("SBTEST_KILLS", "25"))
MESSAGES = int(os.environ.get("SBTEST_MESSAGES", "20000"))
STOPS = int(os.environ.get("SBTEST_STOPS", "5"))
TWIN_KILLS = 4
TWIN_LIVES = 12
"""How many brokers with the fault in them may get away with their kills, each of which hits the gap by chance."""
LIMIT = 300 + 10 * KILLS + MESSAGES // 100
"""Seconds; a generous upper limit against hanging, not a claim about speed."""


@pytest.mark.timeout(LIMIT)
async def test_kill_9_at_random_moments_loses_nothing_and_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        findings = await survive(broker, tmp_path, seed, KILLS, MESSAGES, crash)
    assert findings == ""


@pytest.mark.timeout(LIMIT)
async def test_sigterm_at_random_moments_loses_nothing_and_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    with BrokerProcess(tmp_path / "data", env={"STREAMBROKER_DRAIN_TIMEOUT_MS": "1000"}) as broker:
        findings = await survive(broker, tmp_path, seed, STOPS, 0, stop_gracefully)
    assert findings == ""


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("ack-before-commit", Property.DELIVERED_AFTER_ACK),
        ("publish-before-commit", Property.LOST),
    ],
)
async def test_a_build_that_answers_before_the_commit_is_found_out(
    tmp_path: Path, seed: int, fault: str, broken: Property
) -> None:
    findings: list[str] = []
    while len(findings) < TWIN_LIVES and not any(f"x {broken}" in found for found in findings):
        life = tmp_path / str(len(findings))
        life.mkdir()
        with BrokerProcess(life / "data", command=broken_command(fault)) as broker:
            findings.append(await survive(broker, life, seed + len(findings), TWIN_KILLS, 0, crash))
    assert f"x {broken}" in findings[-1]
