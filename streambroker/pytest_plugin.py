"""A broker for tests, as a pytest fixture: the real one, in memory, whose time moves only by `broker.advance(seconds)`.

pytest finds it by itself where streambroker is installed. It needs no other plugin; a test that is a coroutine needs
whatever runs it (pytest-asyncio, anyio).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from streambroker.embedded import Broker, SyncBroker


class BrokerOfTest(NamedTuple):
    """One broker, for tests without a loop and for those on one."""

    blocking: SyncBroker
    awaited: Broker


@pytest.fixture
def broker_settings() -> Mapping[str, Any]:
    """Settings of the test's broker, as in the configuration file; override it to have others than the defaults."""
    return {}


@pytest.fixture
def streambroker_of_test(broker_settings: Mapping[str, Any]) -> Iterator[BrokerOfTest]:
    """What the fixtures below show two sides of."""
    try:  # not before a test wants it: this module is always loaded
        from streambroker.embedded.testing import on_a_thread
    except ModuleNotFoundError as missing:
        if missing.name != "httpx":
            raise
        pytest.fail("streambroker's fixtures need the extra pytest: pip install 'streambroker[pytest]'", pytrace=False)

    with on_a_thread(broker_settings) as (blocking, awaited):
        yield BrokerOfTest(blocking, awaited)


@pytest.fixture
def broker(request: pytest.FixtureRequest, streambroker_of_test: BrokerOfTest) -> Broker | SyncBroker:
    """A fresh broker in memory with a manual clock: a `Broker` for a test that is a coroutine, else a `SyncBroker`."""
    awaited = inspect.iscoroutinefunction(getattr(request, "function", None))
    return streambroker_of_test.awaited if awaited else streambroker_of_test.blocking


@pytest.fixture
def sync_broker(streambroker_of_test: BrokerOfTest) -> SyncBroker:
    """The same broker, blocking, whatever the test is; for fixtures of your own."""
    return streambroker_of_test.blocking


@pytest.fixture
def async_broker(streambroker_of_test: BrokerOfTest) -> Broker:
    """The same broker, to be awaited, whatever the test is; for fixtures of your own."""
    return streambroker_of_test.awaited
