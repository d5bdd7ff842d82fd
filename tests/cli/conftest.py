"""One real broker process for the session (per xdist worker) for commands that call one; queues are each test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import httpx
import pytest

from tests.cli.ops import Command, Started
from tests.harness import PASSWORD, BrokerProcess

NO_LIMITS = {f"STREAMBROKER_RATE_LIMIT_{kind}": "off" for kind in ("DEFAULT", "LOGIN", "MESSAGES")}
_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    env = {**NO_LIMITS, "STREAMBROKER_WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8"}
    with BrokerProcess(tmp_path_factory.mktemp("cli") / "data", env=env) as running:
        yield running


@pytest.fixture(scope="session")
def key(server: BrokerProcess) -> str:
    """An admin's API key."""
    with server.client() as api:
        made: str = api.post("/api-keys", json={"name": "cli"}).json()["key"]
    return made


@pytest.fixture
def nobody(server: BrokerProcess, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command, with the broker's URL in the environment and nothing else."""
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"STREAMBROKER_{name}", raising=False)
    monkeypatch.setenv("STREAMBROKER_URL", server.url)
    return Command(monkeypatch, capfd)


@pytest.fixture
def run(nobody: Command, key: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command with an admin's API key."""
    monkeypatch.setenv("STREAMBROKER_TOKEN", key)
    return nobody


@pytest.fixture
def admin(nobody: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command with an admin's name and password."""
    monkeypatch.setenv("STREAMBROKER_USERNAME", "admin")
    monkeypatch.setenv("STREAMBROKER_PASSWORD", PASSWORD)
    return nobody


@pytest.fixture
def api(server: BrokerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def queue() -> str:
    """A name that no other test uses."""
    return f"cli-{next(_numbers)}"


@pytest.fixture
def start(server: BrokerProcess, key: str) -> Iterator[Started]:
    """Starts the command as a process of its own, with pipes; kills what is left of it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: object) -> subprocess.Popen[bytes]:
        env = {**os.environ, "STREAMBROKER_URL": server.url, "STREAMBROKER_TOKEN": key}
        argv = [sys.executable, "-m", "streambroker", *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
