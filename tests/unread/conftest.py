"""One broker for the whole folder, and clients that ask it for much and read nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import httpx
import pytest
import uvloop

from tests.harness import BrokerProcess
from tests.unread.clients import Unread
from tests.wire.conftest import NO_LIMITS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the broker runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("unread") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture(scope="package")
def api(broker: BrokerProcess) -> Iterator[httpx.Client]:
    """Logged in as the admin."""
    with broker.client() as client:
        yield client


@pytest.fixture(scope="package")
def queue(api: httpx.Client) -> str:
    """The name of a queue with 8 MB in 8 messages."""
    assert api.post("/queues", json={"name": "large"}).status_code == 201
    for _ in range(8):
        api.post("/queues/large/messages", json={"content": "x" * 1_000_000}).raise_for_status()
    return "large"


class Ask(Protocol):
    """Opens a connection on which something is asked for, and nothing is read; closed after the test."""

    def __call__(self, request: bytes) -> Unread: ...


@pytest.fixture
def ask(broker: BrokerProcess) -> Iterator[Ask]:
    host, port = broker.url.removeprefix("http://").split(":")
    with ExitStack() as stack:

        def opened(request: bytes) -> Unread:
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # before it connects: then it is kept
            sock.settimeout(60)
            sock.connect((host, int(port)))
            sock.sendall(request)
            return Unread(sock)

        yield opened
