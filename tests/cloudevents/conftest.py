"""A real broker, and queues on it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Messages, Queue


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("events") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def api(broker: BrokerProcess) -> Iterator[httpx.Client]:
    """Logged in as the admin."""
    with broker.client() as client:
        yield client


@pytest.fixture
def queue(api: httpx.Client) -> Queue:
    """A queue of this test alone."""
    return Queue(api, lease_ms=30_000)


@pytest.fixture
def messages(api: httpx.Client) -> Messages:
    return Messages(api)
