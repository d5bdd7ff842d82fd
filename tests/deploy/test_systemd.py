"""The systemd unit: what systemd says of it, and what it says of the broker."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

from streambroker.cli import Exit
from streambroker.config import load
from tests.deploy.conftest import tool
from tests.deploy.dockerfile import ROOT

DIRECTORY = ROOT / "deploy/systemd"
UNIT = DIRECTORY / "streambroker.service"
EXPOSURE = 1.5
"""On systemd's scale from 0 to 10, the lower the better; an ordinary service without any of it has 9.6."""


def service() -> dict[str, str]:
    """The section [Service]; of an option that stands there twice the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text())
    return dict(parser["Service"])


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # Its commands are looked for, and those of an installation are not here.
    text = re.sub(r"/opt/streambroker/bin/streambroker", "/bin/true", UNIT.read_text())
    (tmp_path / UNIT.name).write_text(text)
    argv = [
        tool("systemd-analyze", "systemd"),
        "verify",
        "--man=no",
        "--recursive-errors=no",
        str(tmp_path / UNIT.name),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, []), done.stderr


def test_it_is_as_closed_as_can_be() -> None:
    argv = [tool("systemd-analyze", "systemd"), "security", "--offline=yes", "--no-pager", str(UNIT)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"exposure level for streambroker\.service: ([\d.]+)", done.stdout)
    assert found and float(found[1]) <= EXPOSURE, done.stdout


def test_it_is_not_started_again_where_that_is_of_no_use() -> None:
    found = service()
    assert found["Restart"] == "on-failure"
    hopeless = {Exit.USAGE, Exit.DAMAGED, Exit.CANNOT_USE, Exit.CONFIGURATION}
    assert {Exit(int(code)) for code in found["RestartPreventExitStatus"].split()} == hopeless


def test_there_is_time_for_a_drain_and_descriptors_for_all_connections() -> None:
    found, settings = service(), load({}, {})
    assert int(found["TimeoutStopSec"]) * 1_000 > settings.drain_timeout_ms + 10_000
    assert int(found["LimitNOFILE"]) >= settings.max_connections + 256
    wait = re.search(r"--wait (\d+)", found["ExecStartPost"])
    assert wait and int(wait[1]) < int(found["TimeoutStartSec"])


def test_its_settings_are_those_of_a_broker_and_lie_where_the_unit_says() -> None:
    settings = load({"config": str(DIRECTORY / "streambroker.toml")}, {})
    found = service()
    assert settings.data_dir == f"/var/lib/{found['StateDirectory']}" == found["WorkingDirectory"]
    user = (DIRECTORY / "streambroker.sysusers").read_text().splitlines()[-1].split()
    assert (user[0], user[1], user[-1]) == ("u", found["User"], settings.data_dir)
