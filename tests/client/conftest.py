"""One real broker process for the session (per xdist worker); every test uses queues of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest

from streambroker.client import Client
from tests.client.scripted import Waits
from tests.harness import BrokerProcess

NO_LIMITS = {f"STREAMBROKER_RATE_LIMIT_{kind}": "off" for kind in ("DEFAULT", "LOGIN", "MESSAGES")}
_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("client") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture
async def client(broker: BrokerProcess) -> AsyncIterator[Client]:
    """Logged in as the admin."""
    async with Client(broker.url, token=broker.token(), environment={}) as connected:
        yield connected


@pytest.fixture
def queue() -> str:
    """A name that no other test uses."""
    return f"sdk-{next(_numbers)}"


@pytest.fixture
def waits() -> Waits:
    return Waits()
