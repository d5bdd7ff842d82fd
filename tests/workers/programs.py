"""Example programs as real processes, as their user starts them."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import BrokerProcess

ROOT = Path(__file__).parents[2]
WITHIN_S = 60


def environment(broker: BrokerProcess, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMBROKER_")}
    return {**inherited, "STREAMBROKER_URL": broker.url, "STREAMBROKER_TOKEN": broker.token(), **more}


def finished(broker: BrokerProcess, module: str, *arguments: str, status: int = 0, **env: str) -> str:
    """Run a program to its end; what it printed, stderr included."""
    done = subprocess.run(
        [sys.executable, "-m", f"workers.{module}", *arguments],
        cwd=ROOT,
        env=environment(broker, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


class Running:
    """A program that runs; owns the thread that reads what it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._arriving: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arriving.put(line.rstrip("\n"))
        self._arriving.put(None)

    def says(self, text: str) -> str:
        """Wait for a line with that text, among those not waited for before."""
        try:
            while (line := self._arriving.get(timeout=WITHIN_S)) is not None:
                self.lines.append(line)
                if text in line:
                    return line
        except queue.Empty:
            pass
        raise AssertionError(f"it did not say {text!r}:\n" + "\n".join(self.lines))

    def end(self, number: int) -> int:
        """Send a signal; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join(30)


@contextmanager
def running(broker: BrokerProcess, module: str, *arguments: str, **env: str) -> Iterator[Running]:
    """A program beside the block, which has to end well on Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"workers.{module}", *arguments],
        cwd=ROOT,
        env=environment(broker, PYTHONUNBUFFERED="1", **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    program = Running(process)
    status = None
    try:
        yield program
    finally:
        status = program.end(signal.SIGINT)
    assert status == 0, "\n".join(program.lines)
