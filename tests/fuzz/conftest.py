"""One real broker process for the whole session (per xdist worker), and what must hold of it after every test."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.harness import BrokerProcess

# Thousands of requests in a few seconds from one user are what this suite is.
NO_LIMITS = {f"STREAMBROKER_RATE_LIMIT_{kind}": "off" for kind in ("DEFAULT", "LOGIN", "MESSAGES")}
LOUD = {"error", "critical"}


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("fuzz") / "data", "--log-format", "json", env=NO_LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def token(broker: BrokerProcess) -> str:
    return broker.token()


@pytest.fixture(autouse=True)
def the_broker_is_unharmed(broker: BrokerProcess) -> Iterator[None]:
    """After each test it serves on, and its log holds nothing at error level."""
    yield
    assert httpx.get(f"{broker.url}/readyz", timeout=60, trust_env=False).status_code == 200
    assert [line for line in broker.output if level_of(line) in LOUD] == []


def level_of(line: str) -> str:
    """The level of a line of the log; what is no line of the log has none."""
    try:
        return str(json.loads(line)["level"])
    except (ValueError, TypeError, KeyError):
        return "error" if line.startswith("Traceback") else ""
