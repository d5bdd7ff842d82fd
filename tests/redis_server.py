"""A real Redis for tests: started on a free loopback port, stopped by its own pid."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from tests.system.conftest import missing


class RedisServer:
    """A Redis on a loopback port, with nothing on disk that would outlive it."""

    def __init__(self, directory: Path) -> None:
        command = shutil.which("redis-server")
        if command is None:
            missing("redis-server is not installed", possible_here=True)
            raise AssertionError
        self._command = command
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self._directory))
        self._process = subprocess.Popen([self._command, *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "eady to accept connections" in line:
                return
        pytest.fail("redis-server did not start:\n" + "".join(said))

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def scripts_run(self) -> int:
        """How often a broker has asked or taken."""
        with redis.Redis(port=self.port) as client:
            counted = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0, "failed_calls": 0})
            # The first use of a script fails, and the client then loads it.
            return int(counted["calls"]) - int(counted["failed_calls"])
