"""Faults injected by strace into a broker that runs: from a moment on, into chosen system calls on one file."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import BrokerProcess

ATTACHED_WITHIN = 60.0
_INJECTED = re.compile(r"^\d+\s+(\d+\.\d+) .*\(INJECTED\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Injection:
    """What was injected so far, as strace wrote it down."""

    trace: Path

    def times(self) -> list[float]:
        """When, in seconds since 1970."""
        return [float(at) for at in _INJECTED.findall(self.trace.read_text(errors="replace"))]


@contextmanager
def injected(
    strace: str, broker: BrokerProcess, trace: Path, rule: str, file: str | None = None
) -> Iterator[Injection]:
    """While this lasts, ``rule`` (as in strace's ``-e inject=``) applies to the calls that concern that file of the
    broker's data directory, or to all. ``when=`` counts from here, for each thread by itself."""
    calls = rule.split(":", 1)[0]
    paths = ("-P", str(broker.data_dir / file)) if file else ()
    trace.unlink(missing_ok=True)
    what = ("-e", f"trace={calls}", "-e", f"inject={rule}")
    tracer = subprocess.Popen(
        (strace, "-f", "-qqq", "-ttt", "-o", str(trace), *paths, *what, "-p", str(broker.pid)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_attached(broker, tracer)
        yield Injection(trace)
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)  # it lets go of the broker, which goes on
        tracer.wait(ATTACHED_WITHIN)


def _wait_until_attached(broker: BrokerProcess, tracer: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + ATTACHED_WITHIN
    while not all(_is_traced(status) for status in Path(f"/proc/{broker.pid}/task").glob("*/status")):
        assert tracer.poll() is None, "strace could not attach"
        assert time.monotonic() < deadline, "strace did not attach in time"
        time.sleep(0.01)


def _is_traced(status: Path) -> bool:
    try:
        return "TracerPid:\t0\n" not in status.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:  # a thread that has ended
        return True
