"""An administrator always has a way in: the first password is shown or made anew, and a lost one can be reset."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.harness import PASSWORD, BrokerProcess
from tests.system.conftest import StartBroker

BROKER = (sys.executable, "-m", "streambroker")
USAGE, NO_DATA_DIR, CONFIGURATION = 64, 73, 78


def streambroker(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMBROKER_")}
    return subprocess.run(
        [*BROKER, *arguments],
        env={**env, **environment},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def without_password(data_dir: Path) -> BrokerProcess:
    """A broker that makes up the first password itself."""
    return BrokerProcess(data_dir, command=("env", "-u", "STREAMBROKER_ADMIN_PASSWORD", *BROKER, "serve"))


def shown(broker: BrokerProcess) -> str:
    found = re.search(r"user admin, password (\w{16,})", "\n".join(broker.output))
    assert found is not None, "\n".join(broker.output)
    return found[1]


def lets_in(broker: BrokerProcess, password: str) -> bool:
    credentials = {"username": "admin", "password": password}
    return httpx.post(f"{broker.url}/login", json=credentials, timeout=30, trust_env=False).status_code == 200


@pytest.mark.parametrize("stdout", ["/dev/full", "closed"])
def test_a_first_password_that_nobody_could_read_is_shown_by_the_next_start(tmp_path: Path, stdout: str) -> None:
    data_dir, errors = tmp_path / "data", tmp_path / "errors"
    redirected = ">&-" if stdout == "closed" else f">{stdout}"
    script = f'exec env -u STREAMBROKER_ADMIN_PASSWORD "$@" {redirected} 2>"{errors}"'
    command = ["sh", "-c", script, "sh", *BROKER, "serve", "--port", "0", "--data-dir", str(data_dir)]
    mute = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while not (errors.exists() and "could not be printed" in errors.read_text()):
            assert mute.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.02)
        mute.terminate()
        assert mute.wait(30) == 0, errors.read_text()
    finally:
        mute.kill()
        mute.wait()
    with without_password(data_dir) as broker:
        assert lets_in(broker, shown(broker))


def test_a_reset_lets_the_administrator_in_again(start_broker: StartBroker) -> None:
    broker = start_broker()
    with broker.client() as client:
        for _ in range(12):  # so many that the next one waits
            client.post("/login", json={"username": "admin", "password": "wrong"})
    assert broker.terminate() == 0
    reset = streambroker("reset-password", STREAMBROKER_DATA_DIR=str(broker.data_dir), STREAMBROKER_HOST="0.0.0.0")
    assert reset.returncode == 0, reset.stderr
    found = re.fullmatch(r"user admin, password (\w{16,}) .*\n", reset.stdout)
    assert found is not None, reset.stdout
    broker.start()
    assert lets_in(broker, found[1])
    assert not lets_in(broker, PASSWORD)


def test_a_reset_takes_the_password_from_stdin_and_does_not_repeat_it(start_broker: StartBroker) -> None:
    broker = start_broker()
    broker.kill()
    reset = streambroker(
        "reset-password", "admin", "--stdin", "--data-dir", str(broker.data_dir), given="typed by hand\n"
    )
    assert reset.returncode == 0, reset.stderr
    assert "typed by hand" not in reset.stdout + reset.stderr
    broker.start()
    assert lets_in(broker, "typed by hand")


def test_a_reset_leaves_a_running_broker_alone(start_broker: StartBroker) -> None:
    broker = start_broker()
    reset = streambroker("reset-password", "--data-dir", str(broker.data_dir))
    assert reset.returncode == NO_DATA_DIR
    assert str(broker.pid) in reset.stderr
    assert lets_in(broker, PASSWORD)


def test_a_reset_of_what_is_not_there_makes_nothing(start_broker: StartBroker, tmp_path: Path) -> None:
    nowhere = streambroker("reset-password", "--data-dir", str(tmp_path / "nowhere"))
    assert nowhere.returncode == NO_DATA_DIR
    assert not (tmp_path / "nowhere").exists()
    broker = start_broker()
    broker.kill()
    for arguments, given in ((("nobody",), ""), (("--stdin",), "short\n"), (("--stdin",), "")):
        refused = streambroker("reset-password", *arguments, "--data-dir", str(broker.data_dir), given=given)
        assert refused.returncode == USAGE, refused.stderr
        assert "Traceback" not in refused.stderr
    broker.start()
    assert lets_in(broker, PASSWORD)


def pair(directory: Path) -> None:
    made = streambroker("cert", "--out", str(directory))
    assert made.returncode == 0, made.stderr


def other_key(directory: Path) -> None:
    pair(directory / "other")
    (directory / "other" / "key_nopass.pem").rename(directory / "key_nopass.pem")
    (directory / "key_nopass.pem").chmod(0o600)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAMBROKER_JWT_SECRET", "x" * 31),
        ("STREAMBROKER_JWT_SECRET_PREVIOUS", "x" * 64),
        ("STREAMBROKER_ADMIN_PASSWORD", "Admin"),
    ],
)
def test_a_check_of_the_settings_finds_secrets_that_a_start_would_refuse(name: str, value: str, tmp_path: Path) -> None:
    checked = streambroker("config", "check", "--data-dir", str(tmp_path / "data"), **{name: value})
    assert checked.returncode == CONFIGURATION, checked.stdout
    assert name.removeprefix("STREAMBROKER_").lower() in checked.stderr
    assert value not in checked.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("spoil", "code"), [(lambda _: None, 0), (other_key, CONFIGURATION)])
def test_a_check_of_the_settings_tries_the_files_of_tls(
    spoil: Callable[[Path], None], code: int, tmp_path: Path
) -> None:
    pair(tmp_path)
    spoil(tmp_path)
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key_nopass.pem"))
    checked = streambroker("config", "check", *files)
    assert checked.returncode == code, checked.stderr
    assert "Traceback" not in checked.stderr
