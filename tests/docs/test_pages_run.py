"""Every page of the documentation, as a reader pastes it: against a broker of its own, in a directory of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import RUN, Block, blocks
from tests.docs.pages import PAGES, ROOT
from tests.docs.script import script
from tests.harness import PASSWORD, BrokerProcess

RUNNING = [page for page in PAGES if any(b.language in RUN and not b.not_run for b in blocks(page))]


def environment(broker: BrokerProcess, directory: Path) -> dict[str, str]:
    """What a reader has: the command, Node.js and the JavaScript SDK installed, and an admin's token."""
    (directory / "node_modules").mkdir()
    (directory / "node_modules" / "streambroker").symlink_to(ROOT / "web" / "sdk")
    (directory / ".venv").symlink_to(sys.prefix)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMBROKER_")}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "STREAMBROKER_PORT": "0",
        "STREAMBROKER_PASSWORD": PASSWORD,
        "STREAMBROKER_URL": broker.url,
        "STREAMBROKER_TOKEN": broker.token(),
        "TOKEN": broker.token(),
    }


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_works_when_it_is_pasted_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    directory = tmp_path / "reader"
    directory.mkdir()
    # A page may log in more often in a second than a person does in a minute.
    with BrokerProcess(
        tmp_path / "data", "--rate-limit-login", "off", "--webhook-allow-private", "127.0.0.0/8"
    ) as broker:
        status, output = pasted(blocks(page), broker, directory)
    assert status == 0, output[-6000:]


def pasted(page: list[Block], broker: BrokerProcess, directory: Path) -> tuple[int, str]:
    """Run the page's script in a session of its own; what is left of it after 90 s is ended."""
    process = subprocess.Popen(
        ["bash", "-c", script(page, broker, directory)],
        cwd=directory,
        env=environment(broker, directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=90)
    except subprocess.TimeoutExpired as late:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        told = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else str(late.stdout)
        return 124, f"{told}\nstill running after 90 s"
    return process.returncode, output.replace(PASSWORD, "***")
