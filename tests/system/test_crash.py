"""The broker is killed at random moments under load, again and again; no promise is broken by it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.harness import BrokerProcess
from tests.system.broken import broken_command
from tests.system.checker import Property, check, summary
from tests.system.workload import ENVIRONMENT, Interrupt, Workload, crash, damage, stop_gracefully

KILLS = int(os.environ.get("STREAMBROKER_TEST_KILLS", "25"))
MESSAGES = int(os.environ.get("STREAMBROKER_TEST_MESSAGES", "20000"))
STOPS = int(os.environ.get("STREAMBROKER_TEST_STOPS", "5"))
TWIN_KILLS = 4
LIMIT = 300 + 10 * KILLS + MESSAGES // 100
"""Seconds; a generous upper limit against hanging, not a claim about speed."""


async def survive(broker: BrokerProcess, tmp_path: Path, seed: int, times: int, messages: int, how: Interrupt) -> str:
    """Run the workload; the checker's findings in words, empty when there are none."""
    workload = Workload(broker, seed)
    try:
        history = await workload.run(times, messages, how)
        findings = summary(check(history))
        assert broker.terminate() == 0, "\n".join(broker.output)
    finally:
        workload.history.save(tmp_path / "history.jsonl")
        print(f"seed {seed}, {workload}, history in {tmp_path / 'history.jsonl'}", file=sys.stderr)
        print("\n".join(broker.output), file=sys.stderr)
    assert damage(broker.data_dir) == []
    return findings


@pytest.mark.timeout(LIMIT)
async def test_kill_9_at_random_moments_loses_nothing_and_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    with BrokerProcess(tmp_path / "data", env=ENVIRONMENT) as broker:
        findings = await survive(broker, tmp_path, seed, KILLS, MESSAGES, crash)
    assert findings == ""


@pytest.mark.timeout(LIMIT)
async def test_sigterm_at_random_moments_loses_nothing_and_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    with BrokerProcess(tmp_path / "data", env={**ENVIRONMENT, "STREAMBROKER_DRAIN_TIMEOUT_MS": "1000"}) as broker:
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
    with BrokerProcess(tmp_path / "data", env=ENVIRONMENT, command=broken_command(fault)) as broker:
        findings = await survive(broker, tmp_path, seed, TWIN_KILLS, 0, crash)
    assert f"x {broken}" in findings
