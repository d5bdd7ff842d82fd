"""``streambroker bench``: a load that leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streambroker import SyncBroker
from tests.cli.ops import Command

RUNS = ["publish, one by one", "publish, batches of 100", "publish, consume, ack"]


def test_a_broker_that_is_given_is_measured_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = Command(monkeypatch, capfd)
    with SyncBroker() as broker, broker.serve() as served:
        broker.publish("mine", 1)
        ended = command("bench", "--messages", "200", "--url", served.url, "--token", served.token, "--json")
        assert ended.code == 0, ended.err
        assert [run["run"] for run in ended.document["runs"]] == RUNS
        for run in ended.document["runs"]:
            assert run["messages"] == 200 and run["per_second"] > 0
            assert 0 < run["p50_ms"] <= run["p99_ms"] <= 1_000 * run["seconds"] + 1
        assert [queue.name for queue in broker.queues.list()] == ["mine"]
        assert broker.queues.get("mine").counts.pending == 1


@pytest.mark.system
def test_without_a_broker_it_starts_its_own_and_takes_it_away_again(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMBROKER_")}
    argv = [sys.executable, "-m", "streambroker", "bench", "--messages", "200", "--data-dir", str(tmp_path)]
    done = subprocess.run([*argv, "--json"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["shared_with_broker"] is True
    assert told["machine"]["cores"] == os.cpu_count()
    assert list(tmp_path.iterdir()) == []
    people = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert "Client and broker shared it" in people.stderr
    assert "MESSAGES/S" in people.stdout
