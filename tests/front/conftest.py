"""One real broker for the tests that should not harm it, and a look at it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import BrokerProcess

NO_LIMITS = {f"STREAMBROKER_RATE_LIMIT_{kind}": "off" for kind in ("DEFAULT", "LOGIN", "MESSAGES")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker without rate limits, so that it is the front that has to hold."""
    # What tests have leased and left is not worth waiting for.
    env = {**NO_LIMITS, "STREAMBROKER_DRAIN_TIMEOUT_MS": "200"}
    with BrokerProcess(tmp_path_factory.mktemp("front") / "data", env=env) as running:
        yield running
        assert running.terminate() == 0
        assert complaints(running) == []


@pytest.fixture
def unharmed(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """The same, and after the test it still serves and has printed no traceback."""
    yield broker
    assert broker.process is not None
    assert broker.process.poll() is None, "the broker has died:\n" + "\n".join(broker.output)
    with broker.client() as client:
        assert client.post("/queues/unharmed/messages", json={"content": 1}).status_code == 201
        message = client.get("/queues/unharmed/messages/consume").json()
        assert client.post(f"/messages/{message['message_id']}/ack").status_code == 200
    assert complaints(broker) == []


def complaints(broker: BrokerProcess) -> list[str]:
    """Lines that speak of a fault of the broker's own."""
    words = ("Traceback", "never retrieved", "exception", "Exception", "[error", '"error"', "[critical", '"critical"')
    return [line for line in broker.output if any(word in line for word in words)]


def resident_kib(broker: BrokerProcess) -> int:
    """The memory of the process."""
    status = Path(f"/proc/{broker.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
