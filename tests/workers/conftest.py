"""One broker for the example programs, each of which has queues of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streambroker.client import SyncClient
from tests.harness import BrokerProcess


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker")) as process:
        yield process


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[SyncClient]:
    with SyncClient(broker.url, token=broker.token()) as connected:
        yield connected
