"""Running one load: a fresh server, a client process of its own, the server stopped again."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from bench.loads import Job, Result
from bench.servers import REPOSITORY, Server, running


class RoundError(Exception):
    """A client process ended with an error; the message holds its last lines and the server's."""


def run_load(
    side: str, load: str, *, timeout: float = 900.0, env: dict[str, str] | None = None, **sizes: object
) -> Result:
    """Start the side's server, run ``load`` against it in a client process, stop the server.

    ``side`` may name a client variant after a dash (``redis-lean``); the server is what stands before it.
    `env` are settings of the server's.
    """
    with running(side.partition("-")[0], env) as server:
        fields = {"load": load, "side": side, "port": server.port, "token": server.token, "server_pid": server.pid}
        job = msgspec.convert({**fields, **sizes}, Job)
        return msgspec.json.decode(run_client("bench.client", job, server, timeout), type=Result)


def run_client(module: str, job: msgspec.Struct, server: Server, timeout: float) -> bytes:
    """Run ``python -m module JOB``; its standard output."""
    argv = [sys.executable, "-m", module, msgspec.json.encode(job).decode()]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout, check=False, cwd=REPOSITORY)
    except subprocess.TimeoutExpired as late:
        raise RoundError(f"the client took longer than {timeout:.0f} s\nserver: {server.log_tail()}") from late
    if done.returncode != 0:
        tail = done.stderr[-2_000:].decode(errors="replace")
        raise RoundError(f"client: {tail}\nserver: {server.log_tail()}")
    return done.stdout
