"""The example workers outlive the broker: killed and started again, it finds them back at work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.harness import PASSWORD, BrokerProcess

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
JOBS = 40
CONSUMERS = [("ws_consumer",), ("longpoll_consumer", "--lease-ms", "3000")]


def start(broker: BrokerProcess, module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"workers.{module}", "--url", broker.url, "--queue", "jobs", *arguments],
        env={**os.environ, "BROKER_PASSWORD": PASSWORD},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def worker(broker: BrokerProcess, module: str, *arguments: str) -> Iterator[None]:
    """A worker that has to end well when it is told to."""
    process = start(broker, module, *arguments)
    try:
        yield
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output


def produce(broker: BrokerProcess, run: str) -> None:
    process = start(broker, "producer", "--count", str(JOBS), "--run", run, "--reply-to", "results")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert f"published {JOBS} jobs to jobs" in output


def results(broker: BrokerProcess, count: int) -> list[str]:
    """Whose results these are, by correlation id, once there are `count`; they are acknowledged."""
    found: list[str] = []
    with broker.client() as client:
        while len(found) < count:
            request = {"max": count - len(found), "wait_ms": 20_000}
            messages = (
                client.post("/queues/results/messages/consume", json=request).raise_for_status().json()["messages"]
            )
            assert messages, f"only {len(found)} of {count} results came"
            for message in messages:
                settled = client.post(f"/messages/{message['message_id']}/ack", json={"lease": message["lease"]})
                assert settled.status_code == httpx.codes.OK
                found.append(message["correlation_id"])
    return found


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda consumer: consumer[0])
def test_a_worker_comes_back_after_the_broker_was_killed(tmp_path: Path, consumer: tuple[str, ...]) -> None:
    with BrokerProcess(tmp_path / "data") as broker, worker(broker, *consumer):
        produce(broker, "first")
        before = results(broker, 1)
        broker.kill()
        broker.port = urlsplit(broker.url).port or 0
        broker.start()
        produce(broker, "first")
        after = results(broker, JOBS - 1)
        assert sorted(before + after, key=int) == [str(number) for number in range(JOBS)]


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda consumer: consumer[0])
def test_a_worker_with_a_wrong_password_says_so_and_ends(tmp_path: Path, consumer: tuple[str, ...]) -> None:
    with BrokerProcess(tmp_path / "data", env={"STREAMBROKER_ADMIN_PASSWORD": "another password"}) as broker:
        process = start(broker, *consumer)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "unauthenticated" in output
        assert "Traceback" not in output
