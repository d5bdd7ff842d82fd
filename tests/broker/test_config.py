"""Settings: flag over environment over file over default; and what a wrong one ends with."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from streambroker import cli
from streambroker.config import SettingError, Settings, load
from streambroker.core.errors import ConfigError, DataDamaged, DataDirUnusable, StorageFailed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streambroker.toml"


def test_without_anything_the_defaults_hold() -> None:
    assert load({}, {}) == Settings()
    assert load({"port": None, "config": None}, {"PATH": "x", "HOME": "y"}) == Settings()


@pytest.mark.parametrize("flag", ["1", None])
@pytest.mark.parametrize("variable", ["2", None])
@pytest.mark.parametrize("line", ["port = 3", None])
def test_a_flag_beats_the_environment_and_that_the_file(
    file: Path, flag: str | None, variable: str | None, line: str | None
) -> None:
    file.write_text(line or "")
    environment = {"STREAMBROKER_PORT": variable} if variable else {}
    expected = int(flag or variable or (line or "").rpartition(" ")[2] or Settings().port)
    assert load({"port": flag, "config": str(file)}, environment).port == expected


def test_each_source_may_set_something_else(file: Path) -> None:
    file.write_text('host = "::1"\nauto_create_queues = false\nport = 5')
    settings = load({"config": str(file), "port": "7"}, {"STREAMBROKER_HEARTBEAT_MS": "500"})
    assert settings == Settings(host="::1", auto_create_queues=False, port=7, heartbeat_ms=500)


def test_the_file_may_be_named_by_the_environment_and_a_flag_names_another(file: Path, tmp_path: Path) -> None:
    file.write_text("port = 5")
    other = tmp_path / "other.toml"
    other.write_text("port = 6")
    environment = {"STREAMBROKER_CONFIG": str(file)}
    assert load({}, environment).port == 5
    assert load({"config": str(other)}, environment).port == 6


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("TRUE", True), ("1", True), ("off", False), ("False", False), ("0", False)]
)
def test_a_switch_is_on_or_off(text: str, value: bool) -> None:
    assert load({}, {"STREAMBROKER_AUTO_CREATE_QUEUES": text}).auto_create_queues is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "eighty"),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "80.5"),
        ("port", ""),
        ("auto_create_queues", "maybe"),
        ("log_format", "xml"),
        ("heartbeat_ms", "99"),
        ("no_such_setting", "1"),
    ],
)
def test_a_wrong_setting_says_its_name_and_where_it_came_from(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name.upper() if name.startswith("no_") else name) as by_variable:
        load({}, {f"STREAMBROKER_{name.upper()}": value})
    assert "the environment" in str(by_variable.value)
    assert not by_variable.value.from_flag
    with pytest.raises(SettingError, match=name) as by_flag:
        load({name: value}, {})
    assert "the command line" in str(by_flag.value)
    assert by_flag.value.from_flag


@pytest.mark.parametrize("name", ["admin_password", "jwt_secret"])
def test_a_secret_that_is_wrong_is_not_shown(name: str, file: Path) -> None:
    file.write_text(f"{name} = 271828182845")
    with pytest.raises(SettingError, match=name) as wrong:
        load({"config": str(file)}, {})
    assert "271828182845" not in str(wrong.value)


@pytest.mark.parametrize(
    "content", [b"port = ", b"\xff\xfe", b'port = "80"\nport = 81', b"[table]\nx = 1", b"Port = 1"]
)
def test_a_file_that_cannot_be_right_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingError) as wrong:
        load({"config": str(file)}, {})
    assert str(file) in str(wrong.value)
    assert not wrong.value.from_flag


def test_a_file_that_is_not_there_is_refused(file: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        load({"config": str(file)}, {})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingError("x", from_flag=True), 64),
        (SettingError("x"), 78),
        (ConfigError("x"), 78),
        (DataDamaged("x"), 65),
        (DataDirUnusable("x"), 73),
        (StorageFailed("x"), 74),
        (OSError("x"), 69),
        (typer.TyperException("x"), 64),
        (typer.Abort(), 130),
        (SystemExit(0), 0),
        (None, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_exit_code(
    error: BaseException | None, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**_: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(cli, "app", run)
    monkeypatch.setattr("os._exit", sys.exit)  # a failed storage ends the process at once
    ended: Any = 0
    try:
        cli.main()
    except SystemExit as exit_:
        ended = exit_.code
    assert ended == code
    said = capsys.readouterr().err
    assert said == ("" if error is None or isinstance(error, SystemExit | typer.Abort) else "streambroker: x\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--allowed-hosts", "a.example", "--allowed-hosts", "b.example, c.example"], "a.example b.example c.example"),
        ([], "d.example"),
    ],
)
def test_an_option_that_takes_a_list_may_be_given_more_than_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    monkeypatch.setenv("STREAMBROKER_ALLOWED_HOSTS", "d.example")
    monkeypatch.setattr(sys, "argv", ["streambroker", "config", "show", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    hosts = tomllib.loads(capsys.readouterr().out)["allowed_hosts"]
    assert " ".join(hosts) == expected
