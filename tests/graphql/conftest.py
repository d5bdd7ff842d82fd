"""One broker for the whole folder; every test uses queues of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from tests.graphql.asking import Graph
from tests.graphql.talking import Talk, talk
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue
from tests.wire.people import Person, somebody

PURE = {"test_verbatim.py", "test_documents.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.name not in PURE:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("graphql") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture(scope="package")
def api(broker: BrokerProcess) -> Iterator[httpx.Client]:
    """Logged in as the admin."""
    with broker.client() as client:
        yield client


@pytest.fixture
def graph(api: httpx.Client) -> Graph:
    return Graph(api)


@pytest.fixture
def queue(api: httpx.Client) -> Queue:
    """A queue of this test alone."""
    made = Queue(api)
    assert api.post("/queues", json={"name": made.name}).status_code == 201
    return made


class Member(Protocol):
    """Makes users that are gone after the test."""

    def __call__(self, *grants: dict[str, Any]) -> Person: ...


@pytest.fixture
def member(api: httpx.Client) -> Iterator[Member]:
    with ExitStack() as stack:

        def make(*grants: dict[str, Any]) -> Person:
            return stack.enter_context(somebody(api, role="member", grants=list(grants)))

        yield make


class Call(Protocol):
    """Opens WebSockets that are closed after the test; begun as the admin unless told otherwise."""

    def __call__(self, token: str | None = None, begin: bool = True, **options: Any) -> Talk: ...


@pytest.fixture
def call(broker: BrokerProcess) -> Iterator[Call]:
    with ExitStack() as stack:

        def open_(token: str | None = None, begin: bool = True, **options: Any) -> Talk:
            opened = stack.enter_context(talk(broker.ws_url, **options))
            if begin:
                opened.begin(token or broker.token())
            return opened

        yield open_
