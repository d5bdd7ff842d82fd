"""One real broker process for the whole session (per xdist worker); every test uses queues of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire import conformance
from tests.wire.doors import Messages, Queue
from tests.wire.sockets import Socket, open_socket

# Thousands of requests in a few seconds from one user are what this suite is.
NO_LIMITS = {f"STREAMBROKER_RATE_LIMIT_{kind}": "off" for kind in ("DEFAULT", "LOGIN", "MESSAGES")}


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("wire") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture
def token(broker: BrokerProcess) -> str:
    """The admin's; not one for the session, which may last longer than a token."""
    return broker.token()


@pytest.fixture(scope="session")
def api(broker: BrokerProcess) -> Iterator[httpx.Client]:
    """Logged in as the admin."""
    with broker.client() as client:
        yield client


@pytest.fixture(scope="session")
def stranger(broker: BrokerProcess) -> Iterator[httpx.Client]:
    """Nobody: no Authorization header."""
    with httpx.Client(base_url=broker.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def description(tmp_path_factory: pytest.TempPathFactory) -> conformance.Description:
    """What a broker says of itself; one that no test asks anything else, for some count what they are asked."""
    with BrokerProcess(tmp_path_factory.mktemp("described") / "data") as running:
        openapi, asyncapi = (httpx.get(f"{running.url}/{name}.json").json() for name in ("openapi", "asyncapi"))
    return conformance.Description(openapi, asyncapi)


@pytest.fixture(autouse=True)
def _described(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything that a test here gets to see is as described. Other folders that use these fixtures are not asked."""
    if Path(__file__).parent not in request.path.parents:
        yield
        return
    with conformance.watching(request.getfixturevalue("description")):
        yield


@pytest.fixture
def queue(api: httpx.Client) -> Queue:
    """A queue name of this test alone; the first use creates the queue with the defaults."""
    return Queue(api)


@pytest.fixture
def messages(api: httpx.Client) -> Messages:
    return Messages(api)


@pytest.fixture
def connect(broker: BrokerProcess, token: str) -> Iterator[Callable[..., Socket]]:
    """Opens WebSockets that are logged in by header and welcomed; closes them after the test."""
    with ExitStack() as stack:

        def open_(path: str = "/ws", **options: Any) -> Socket:
            opened = stack.enter_context(open_socket(broker.ws_url + path, token=token, **options))
            opened.op("welcome")
            return opened

        yield open_


@pytest.fixture
def ws(connect: Callable[..., Socket]) -> Socket:
    return connect()
