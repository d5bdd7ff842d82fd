"""Where the answer goes: a reader that has left, a full disk, a narrow terminal, secrets that cannot be sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streambroker.cli.exits import Exit
from streambroker.cli.output import _fitting
from tests.harness import BrokerProcess

COMMAND = (sys.executable, "-m", "streambroker")


def environment(server: BrokerProcess, key: str) -> dict[str, str]:
    return {**os.environ, "STREAMBROKER_URL": server.url, "STREAMBROKER_TOKEN": key}


def test_publishing_for_a_reader_that_has_left_is_not_called_done(server: BrokerProcess, key: str) -> None:
    argv = [*COMMAND, "publish", "left", "1", "--count", "20000"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(server, key)) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        ran.stdout.readline()
        ran.stdout.close()
        told = ran.stderr.read().decode()
    assert ran.returncode == Exit.INTERRUPTED
    assert "messages published to left" in told and "20,000" not in told


def test_an_answer_that_cannot_be_written_is_an_error_of_its_own(server: BrokerProcess, key: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [*COMMAND, "queue", "list"], stdout=full, stderr=subprocess.PIPE, env=environment(server, key), timeout=60
        )
    assert ran.stderr == b"streambroker: the answer cannot be written: No space left on device\n"
    assert ran.returncode == Exit.INPUT_OUTPUT


def test_a_token_that_cannot_be_sent_is_wrong_usage_and_not_told(server: BrokerProcess) -> None:
    ran = subprocess.run(
        [*COMMAND, "queue", "list"], capture_output=True, env=environment(server, "sbk_se\ncret"), timeout=60
    )
    assert ran.returncode == Exit.USAGE
    assert b"cret" not in ran.stderr and b"Traceback" not in ran.stderr


@pytest.mark.parametrize(("width", "shown"), [(38, [0, 1, 2, 3]), (37, [0, 1, 2]), (28, [0, 1]), (1, [0, 1])])
def test_a_narrow_terminal_shows_fewer_columns(width: int, shown: list[int]) -> None:
    columns = ("QUEUE", "PENDING", "FAILED", "OLDEST")  # 10, 7, 6 and 6 characters wide, and 3 between two
    assert _fitting(columns, [["orders.new", "1", "0", "-"]], ("OLDEST", "FAILED"), width) == shown
