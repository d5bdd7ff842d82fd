"""Completion in the shells themselves: installed as the documentation says, then asked for with the tab key."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.conftest import missing

pytestmark = pytest.mark.system

PATIENCE_S = 30.0
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B]|[=>78DM])")


class Terminal:
    """An interactive shell on a terminal of its own, 200 columns wide; what it shows, without colours and the like."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        session = ["setsid", "--ctty", *command]
        self._process = subprocess.Popen(session, env=env, stdin=far, stdout=far, stderr=far, cwd=env["HOME"])
        os.close(far)
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())

    def shows(self, *words: str) -> None:
        """Wait until it has shown all of these since it was last asked."""
        ends = time.monotonic() + PATIENCE_S
        while absent := [word for word in words if word not in self._plain()]:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([self._near], [], [], left)[0]:
                pytest.fail(f"{absent} is not among what the shell shows: {self._plain()!r}")
            self._shown += os.read(self._near, 65_536).decode(errors="replace")
        self._shown = ""

    def _plain(self) -> str:
        return _CONTROL.sub("", self._shown)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._near)


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest) -> str:
    """The path of a shell that is here."""
    path = shutil.which(request.param)
    if path is None:
        missing(f"{request.param} is not installed", possible_here=True)
        raise AssertionError
    return path


@pytest.fixture
def home(shell: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who ran `streambroker --install-completion` in that shell."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/streambroker"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m streambroker "$@"\n')
    command.chmod(0o755)
    env = {
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "SHELL": shell,
    }
    installing = [shell, "-c", "streambroker --install-completion; true"]
    installed = subprocess.run(installing, env=env, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path)
    assert f"{Path(shell).name} completion installed" in installed.stdout, installed
    return env


@contextmanager
def terminal(shell: str, env: dict[str, str]) -> Iterator[Terminal]:
    opened = Terminal([shell, "-i"], env)
    try:
        opened.type("echo rea''dy\r")
        opened.shows("ready")
        yield opened
    finally:
        opened.close()


def test_the_tab_key_offers_commands_subcommands_and_options(shell: str, home: dict[str, str]) -> None:
    # bash shows what there is when it is asked again; in zsh the first one loads what the second asks.
    tabs = "\t" if shell.endswith("fish") else "\t\t"
    with terminal(shell, home) as one:
        one.type(f"streambroker {tabs}")
        one.shows("publish", "consume", "doctor")
    with terminal(shell, home) as one:
        one.type(f"streambroker queue {tabs}")
        one.shows("create", "redrive", "purge")
    with terminal(shell, home) as one:
        one.type(f"streambroker queue create q --max-{tabs}")
        one.shows("--max-attempts", "--max-messages")


@pytest.mark.parametrize("form", ["--show-completion {}", "--show-completion={}"])
@pytest.mark.parametrize(
    ("name", "word"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --command")]
)
def test_the_completion_of_a_shell_that_is_named_is_shown_in_any_shell(form: str, name: str, word: str) -> None:
    command = [sys.executable, "-m", "streambroker", *form.format(name).split()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (shown.returncode, word in shown.stdout) == (0, True), shown


def test_it_is_installed_for_a_shell_that_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streambroker", "--install-completion", "fish"]
    env = {**os.environ, "HOME": str(tmp_path)}
    installed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert installed.returncode == 0, installed
    assert "streambroker" in (tmp_path / ".config/fish/completions/streambroker.fish").read_text()


def test_a_shell_without_completion_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "streambroker", "--show-completion", "tcsh"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (refused.returncode, refused.stdout) == (64, "")
    assert "say bash, zsh, fish" in refused.stderr
