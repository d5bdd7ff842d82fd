"""When the broker refuses to start: the exit status says why, a sentence says it again, and the data is untouched."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import BrokerProcess
from tests.system.conftest import StartBroker
from tests.system.wire import rest

USAGE, DAMAGED, NO_DATA_DIR, CONFIGURATION = 64, 65, 73, 78


def refusal(broker: BrokerProcess) -> tuple[int, str]:
    """The exit status and the output of a broker that does not start."""
    with pytest.raises(RuntimeError):
        broker.start()
    assert broker.process is not None
    assert broker.process.returncode != -signal.SIGKILL, "it neither started nor ended"
    output = "\n".join(broker.output)
    assert "Traceback" not in output
    return broker.process.returncode, output


def test_a_second_broker_on_the_same_directory_refuses_and_names_the_holder(start_broker: StartBroker) -> None:
    holder = start_broker()
    status, output = refusal(BrokerProcess(holder.data_dir))
    assert status == NO_DATA_DIR
    assert str(holder.pid) in output
    with holder.client() as client:
        assert client.get("/healthz").status_code == 200


def test_the_directory_of_a_killed_broker_is_free_again(start_broker: StartBroker) -> None:
    holder = start_broker()
    holder.kill()
    start_broker(data_dir=holder.data_dir)


def test_a_data_directory_that_is_a_file_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    status, _ = refusal(BrokerProcess(tmp_path / "file"))
    assert status == NO_DATA_DIR


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def not_a_page_boundary(data: bytes) -> bytes:
    return data[: len(data) - 1000]


def no_header(data: bytes) -> bytes:
    return b"\xff" * 4096 + data[4096:]


def garbage_inside(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + b"\xa5" * 8192 + data[middle + 8192 :]


def all_garbage(data: bytes) -> bytes:
    return b"\xa5" * len(data)


@pytest.mark.parametrize("damage", [half, not_a_page_boundary, no_header, garbage_inside, all_garbage])
async def test_a_damaged_database_is_refused_and_left_as_it_is(
    start_broker: StartBroker, damage: Callable[[bytes], bytes]
) -> None:
    broker = start_broker()
    async with rest(broker) as client:
        for _ in range(4):
            await client.publish("work", *["x" * 1000] * 100)
    assert broker.terminate() == 0
    files = [path for path in broker.data_dir.iterdir() if path.is_file()]
    (database,) = [path for path in files if path.read_bytes().startswith(b"SQLite format 3")]
    database.write_bytes(damage(database.read_bytes()))
    before = hashlib.sha256(database.read_bytes()).hexdigest()

    status, output = refusal(broker)

    assert status == DAMAGED
    assert "damaged" in output
    assert hashlib.sha256(database.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(
    "env",
    [
        {"STREAMBROKER_NO_SUCH_SETTING": "1"},
        {"STREAMBROKER_PORTT": "8000"},
        {"STREAMBROKER_DRAIN_TIMEOUT_MS": "soon"},
        {"STREAMBROKER_HEARTBEAT_MS": "-1"},
        {"STREAMBROKER_AUTO_CREATE_QUEUES": "perhaps"},
        {"STREAMBROKER_RATE_LIMIT_DEFAULT": "many"},
    ],
    ids=lambda env: "=".join(next(iter(env.items()))),
)
def test_a_wrong_environment_is_a_configuration_error(tmp_path: Path, env: dict[str, str]) -> None:
    status, output = refusal(BrokerProcess(tmp_path / "data", env=env))
    assert status == CONFIGURATION
    assert next(iter(env)).removeprefix("STREAMBROKER_").lower() in output.lower()


@pytest.mark.parametrize("secret", ["password", "x" * 31])
def test_a_short_signing_key_is_a_configuration_error_that_does_not_show_it(tmp_path: Path, secret: str) -> None:
    status, output = refusal(BrokerProcess(tmp_path / "data", env={"STREAMBROKER_JWT_SECRET": secret}))
    assert status == CONFIGURATION
    assert "32" in output
    assert secret not in output


def test_a_missing_configuration_file_is_a_configuration_error(tmp_path: Path) -> None:
    status, output = refusal(BrokerProcess(tmp_path / "data", "--config", str(tmp_path / "no.toml")))
    assert status == CONFIGURATION
    assert "no.toml" in output


@pytest.mark.parametrize("text", ["port = 'high'", "no_such_setting = 1", "port = = 1"])
def test_a_wrong_configuration_file_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "broker.toml").write_text(text)
    command = [sys.executable, "-m", "streambroker", "serve", "--config", str(tmp_path / "broker.toml")]
    environment = {**os.environ, "STREAMBROKER_DATA_DIR": str(tmp_path / "data")}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == CONFIGURATION
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "flags", [("--no-such-flag",), ("--port", "high"), ("--port", "70000"), ("--log-format", "prose"), ("surplus",)]
)
def test_a_wrong_flag_is_a_usage_error(tmp_path: Path, flags: tuple[str, ...]) -> None:
    status, _ = refusal(BrokerProcess(tmp_path / "data", *flags))
    assert status == USAGE


def test_a_flag_goes_over_the_environment_and_that_over_the_file(tmp_path: Path, start_broker: StartBroker) -> None:
    (tmp_path / "broker.toml").write_text("port = 1\ndrain_timeout_ms = 1000\n")
    broker = start_broker("--config", str(tmp_path / "broker.toml"), env={"STREAMBROKER_PORT": "2"})
    assert not broker.url.endswith((":1", ":2"))


def test_the_first_start_prints_a_random_password_once_and_never_again(tmp_path: Path) -> None:
    unset = ("env", "-u", "STREAMBROKER_ADMIN_PASSWORD")
    broker = BrokerProcess(tmp_path / "data", command=(*unset, sys.executable, "-m", "streambroker", "serve"))
    outputs: list[str] = []
    for _ in range(2):
        broker.output.clear()
        broker.start()
        broker.kill()
        outputs.append("\n".join(broker.output))
    shown = re.search(r"password\W+([0-9A-Za-z_-]{16,})", outputs[0])
    assert shown is not None
    assert shown[1] not in outputs[1]
    with broker:
        assert broker.token("admin", shown[1])


def test_what_the_broker_writes_is_for_its_owner_only(start_broker: StartBroker) -> None:
    broker = start_broker()
    with broker.client() as client:
        client.post("/queues/work/messages", json={"content": 1}).raise_for_status()
    assert broker.data_dir.stat().st_mode & 0o077 == 0
    loose = [path.name for path in broker.data_dir.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert loose == []
