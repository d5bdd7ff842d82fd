"""A real broker process for tests: started on a free loopback port, stopped by its own pid.

Everything a test learns about the broker through this class it learns over the public wire.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import httpx

PASSWORD = "correct-horse-battery-staple"
RENEWED_AFTER_S = 600.0
"""Tokens are good for 15 minutes, and brokers that many tests share may live longer than that."""
_LISTENING = re.compile(r"listening on (https?://\S+)")


class BrokerProcess:
    """One ``streambroker serve`` process.

    ``start()`` returns once the broker has printed where it listens. The same object can be started again on the same
    data directory after ``kill()`` or ``terminate()``; each start takes a new free port unless ``port`` is given.
    ``output`` keeps the last lines of stdout and stderr. ``cafile`` holds the certificate to trust when it speaks TLS.
    """

    def __init__(
        self,
        data_dir: Path,
        *args: str,
        env: dict[str, str] | None = None,
        port: int = 0,
        command: tuple[str, ...] = (sys.executable, "-m", "streambroker", "serve"),
        cafile: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.args = args
        self.extra_env = env or {}
        self.port = port
        self.command = command
        self.cafile = cafile
        self.url = ""
        self.output: deque[str] = deque(maxlen=400)
        self.process: subprocess.Popen[str] | None = None
        self._token = ""
        self._token_at = 0.0

    def start(self, timeout: float = 60) -> BrokerProcess:
        """Start the process; raise ``RuntimeError`` with its output when it ends or stays silent instead."""
        env = {**os.environ, "STREAMBROKER_ADMIN_PASSWORD": PASSWORD, "PYTHONUNBUFFERED": "1", **self.extra_env}
        argv = [*self.command, "--port", str(self.port), "--data-dir", str(self.data_dir), *self.args]
        self._token = ""
        self.process = subprocess.Popen(
            argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        )
        listening = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self.process, listening), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + timeout
        while not listening.wait(0.02):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("the broker did not start:\n" + "\n".join(self.output))
        return self

    def _read(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line.rstrip("\n"))
            if not listening.is_set() and (match := _LISTENING.search(line)):
                self.url = match.group(1).rstrip("/")
                listening.set()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def ws_url(self) -> str:
        return "ws" + self.url.removeprefix("http")

    @property
    def trust(self) -> ssl.SSLContext | None:
        """What a client needs to check the broker's certificate; None where it speaks no TLS."""
        return ssl.create_default_context(cafile=str(self.cafile)) if self.url.startswith("https:") else None

    def kill(self) -> int:
        """SIGKILL, as a crash would; returns the exit status."""
        return self.stop(signal.SIGKILL)

    def terminate(self, timeout: float = 60) -> int:
        """SIGTERM, as an operator would; returns the exit status."""
        return self.stop(signal.SIGTERM, timeout)

    def stop(self, signum: int, timeout: float = 60) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(30)
        return status

    def token(self, username: str = "admin", password: str = PASSWORD) -> str:
        """A fresh access token (kept for the admin for ten minutes, at most until the next start)."""
        if username == "admin" and self._token and time.monotonic() - self._token_at < RENEWED_AFTER_S:
            return self._token
        credentials = {"username": username, "password": password}
        reply = httpx.post(f"{self.url}/login", json=credentials, timeout=60, verify=self.trust or True)
        reply.raise_for_status()
        token: str = reply.json()["access_token"]
        if username == "admin":
            self._token, self._token_at = token, time.monotonic()
        return token

    def client(self, timeout: float = 70) -> httpx.Client:
        """An HTTP client that is logged in as the admin, for as long as it is used."""
        began, given = time.monotonic(), f"Bearer {self.token()}"

        def renew(request: httpx.Request) -> None:
            if request.headers.get("Authorization") == given and time.monotonic() - began > RENEWED_AFTER_S:
                request.headers["Authorization"] = f"Bearer {self.token()}"

        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": given},
            event_hooks={"request": [renew]},
            timeout=timeout,
            trust_env=False,
            verify=self.trust or True,
        )

    def __enter__(self) -> BrokerProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
