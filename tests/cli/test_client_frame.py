"""What holds for the command as a whole: extras, completion, the environment, values as people type them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import typer

from streambroker import __version__
from streambroker.cli.exits import Exit
from streambroker.cli.output import plain, span
from streambroker.cli.refusals import exit_code
from streambroker.cli.values import duration, grant, rate, time
from streambroker.client import errors
from streambroker.client.models import Grant
from streambroker.config import CLIENT_VARIABLES, SettingError, load
from tests.harness import BrokerProcess

WITHOUT_HTTPX = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"httpx", "httpcore"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "httpx" else found(name, package)
sys.meta_path.insert(0, Missing())
sys.argv = ["streambroker", *sys.argv[1:]]
from streambroker.cli import main
main()
"""


def without_httpx(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command where the extra is not installed."""
    argv = [sys.executable, "-c", WITHOUT_HTTPX, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", [["queue", "list"], ["publish", "q", "1"], ["consume", "q"], ["token"]])
def test_without_the_extra_a_client_command_says_what_to_install(command: list[str]) -> None:
    ended = without_httpx(*command)
    assert ended.returncode == Exit.UNAVAILABLE
    assert ended.stderr == "streambroker: this command needs the extra cli: pip install 'streambroker[cli]'\n"


@pytest.mark.parametrize("command", [["serve", "--help"], ["config", "check"], ["--help"], ["publish", "--help"]])
def test_without_the_extra_everything_else_works(command: list[str]) -> None:
    assert without_httpx(*command).returncode == 0


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_it_says_which_version_it_is(option: str) -> None:
    ended = without_httpx(option)
    assert (ended.returncode, ended.stdout) == (0, f"streambroker {__version__}\n")


def completed(shell: str, line: str, env: dict[str, str]) -> str:
    """What the shell's completion offers at the end of that line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": line}
    asked = {"_STREAMBROKER_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args", **words, **env}
    argv = [sys.executable, "-m", "streambroker"]
    return subprocess.run(argv, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_the_names_of_queues(
    shell: str, server: BrokerProcess, key: str, api: httpx.Client, queue: str
) -> None:
    api.post("/queues", json={"name": f"complete-{shell}"}).raise_for_status()
    env = {"STREAMBROKER_URL": server.url, "STREAMBROKER_TOKEN": key}
    assert "redrive" in completed(shell, "streambroker queue red", env)
    assert f"complete-{shell}" in completed(shell, f"streambroker queue show complete-{shell[:2]}", env)
    assert f"complete-{shell}" in completed(shell, f"streambroker publish complete-{shell[:2]}", env)


def test_completion_is_silent_where_there_is_no_broker() -> None:
    env = {"STREAMBROKER_URL": "http://127.0.0.1:1", "STREAMBROKER_TOKEN": "x"}
    assert completed("bash", "streambroker queue show x", env).strip() == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_completion_is_printed(shell: str) -> None:
    argv = [sys.executable, "-m", "streambroker", "--show-completion", shell]
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ended = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert "_STREAMBROKER_COMPLETE" in ended.stdout


def test_a_broker_does_not_look_at_the_variables_of_clients() -> None:
    assert {"STREAMBROKER_URL", "STREAMBROKER_TOKEN", "STREAMBROKER_PASSWORD"} <= CLIENT_VARIABLES
    assert load({}, dict.fromkeys(CLIENT_VARIABLES, "x")) == load({}, {})
    with pytest.raises(SettingError):
        load({}, {"STREAMBROKER_TOKENS": "x"})


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250ms", 250), ("30s", 30_000), ("1.5m", 90_000), ("2H", 7_200_000), ("7d", 604_800_000), ("9", 9)],
)
def test_durations(text: str, ms: int) -> None:
    assert duration(text) == ms


@pytest.mark.parametrize(("text", "per_second"), [("100", 100), ("100/s", 100), ("30/min", 0.5), ("7200/h", 2)])
def test_rates(text: str, per_second: float) -> None:
    assert rate(text) == per_second


def test_times_have_a_zone_or_are_counted_from_now() -> None:
    assert time("2026-11-22T10:00:00Z") == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert abs(time("30d") - datetime.now(UTC) - timedelta(days=30)) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (duration, "5x"), (duration, ""), (duration, "-5s"), (duration, "1e9d"), (rate, "0/s"), (rate, "fast"),
        (time, "tomorrow"), (time, "2026-11-22T10:00:00"),
    ],
)  # fmt: skip
def test_what_is_none_of_these_is_refused(reader: Any, text: str) -> None:
    with pytest.raises(typer.BadParameter):
        reader(text)


@pytest.mark.parametrize("text", ["orders", ":publish", "orders:", "orders:fly"])
def test_what_is_no_grant_is_refused(text: str) -> None:
    with pytest.raises(SystemExit):
        grant(text)


def test_grants_name_queues_and_actions() -> None:
    assert grant("orders.*:publish, view") == Grant("orders.*", ("publish", "view"))
    assert grant("tmp:all") == Grant("tmp", ("publish", "consume", "manage", "view"))


@pytest.mark.parametrize(("ms", "text"), [(None, "-"), (850, "850 ms"), (1_500, "1.5 s"), (5_400_000, "1.5 h")])
def test_spans_for_people(ms: float | None, text: str) -> None:
    assert span(ms) == text


def test_control_characters_are_written_as_escapes() -> None:
    assert plain("a\x1b[2Jb\rc\x9bd\u202e", keep="") == "a\\x1b[2Jb\\rc\\x9bd\\u202e"
    assert plain("ü\tx", keep="\t") == "ü\tx"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("unauthenticated", Exit.NOT_ALLOWED), ("forbidden", Exit.NOT_ALLOWED), ("invalid", Exit.USAGE),
        ("not_found", Exit.REFUSED), ("lease_lost", Exit.REFUSED), ("rate_limited", Exit.NOT_NOW),
        ("queue_full", Exit.NOT_NOW), ("draining", Exit.NOT_NOW), ("internal", Exit.UNAVAILABLE),
    ],
)  # fmt: skip
def test_exit_codes_of_refusals(code: str, expected: Exit) -> None:
    assert exit_code(errors.from_code(code)) is expected


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, Exit.UNAVAILABLE), (400, Exit.UNAVAILABLE), (403, Exit.NOT_ALLOWED), (429, Exit.NOT_NOW)],
)
def test_exit_codes_where_something_else_answered(status: int, code: Exit) -> None:
    foreign = errors.from_problem(errors.ProblemDocument("", status))
    assert exit_code(foreign) is exit_code(pickle.loads(pickle.dumps(foreign))) is code


def test_exit_codes_where_there_was_no_answer() -> None:
    assert exit_code(errors.ConnectionLost()) is Exit.UNAVAILABLE
    assert exit_code(errors.StreambrokerTimeout()) is Exit.UNAVAILABLE
