"""Every Python block of docs/python.md is a program that runs against a real broker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streambroker.client import SyncClient
from tests.harness import BrokerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"(<!-- runs until it is stopped -->\n)?```python\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [block for until_stopped, block in BLOCKS if not until_stopped]
(WORKERS,) = [block for until_stopped, block in BLOCKS if until_stopped]


def environment(broker: BrokerProcess) -> dict[str, str]:
    return {**os.environ, "STREAMBROKER_URL": broker.url, "STREAMBROKER_TOKEN": broker.token()}


@pytest.mark.parametrize("program", PROGRAMS, ids=[f"block-{number}" for number in range(len(PROGRAMS))])
def test_a_program_of_the_page_runs(broker: BrokerProcess, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment(broker),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_workers_of_the_page_work_until_they_are_stopped(broker: BrokerProcess) -> None:
    with SyncClient(broker.url, token=broker.token(), environment={}) as client:
        client.publish("thumbnails", {"url": "a.png"})
        client.publish("reports", "b")
    argv = [sys.executable, "-c", WORKERS]
    with subprocess.Popen(argv, env=environment(broker), text=True, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        lines = {program.stdout.readline(), program.stdout.readline()}
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0
    assert lines == {"made a.png\n", "reported b\n"}
