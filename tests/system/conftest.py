"""Fixtures of the black-box tests, and what to do where the machine cannot do what a test needs."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import BrokerProcess

StartBroker = Callable[..., BrokerProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.name != "test_checker.py":
            item.add_marker(pytest.mark.system)


def missing(reason: str, *, possible_here: bool) -> None:
    """Skip for want of a tool; but where CI could have run the test, that is a failure and not a skip."""
    if possible_here and os.environ.get("CI") == "true":
        pytest.fail(f"must not be skipped on CI: {reason}")
    pytest.skip(reason)


@pytest.fixture
def strace() -> str:
    """The path of a strace that may trace here."""
    path = shutil.which("strace")
    if path is None:
        missing("strace is not installed", possible_here=True)
        raise AssertionError
    probe = subprocess.run([path, "-qq", "-o", os.devnull, "true"], capture_output=True, timeout=20, check=False)
    if probe.returncode != 0:
        missing("strace may not trace here", possible_here=False)
    return path


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed for everything random in a test: from SBTEST_SEED, else new; printed with a failure."""
    value = int(os.environ.get("SBTEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    request.node.add_report_section("setup", "seed", f"SBTEST_SEED={value}")
    return value


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[StartBroker]:
    """Start a broker on ``tmp_path/data``, or on another directory; whatever still runs is killed afterwards."""
    started: list[BrokerProcess] = []

    def start(*args: str, data_dir: Path | None = None, env: dict[str, str] | None = None) -> BrokerProcess:
        broker = BrokerProcess(data_dir or tmp_path / "data", *args, env=env)
        started.append(broker)
        return broker.start()

    yield start
    for broker in started:
        if broker.process is not None and broker.process.poll() is None:
            broker.kill()
