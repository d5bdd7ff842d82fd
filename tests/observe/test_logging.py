"""What becomes of a log call: where its line goes, what it looks like, and that it never holds up the one who logs."""

from __future__ import annotations

import json
import logging
import os
import pty
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from streambroker.observe.logging import Format, Logs, configure
from streambroker.observe.outlet import Event, Outlet

PATIENCE_S = 10
OWN, LIBRARIES = logging.getLogger("streambroker.tests"), ("", "streambroker", "uvicorn.error")

Open = Callable[..., Logs]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def opened() -> Iterator[Open]:
    """`configure`, undone after the test."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in LIBRARIES}
    made: list[Logs] = []

    def open_(format_: Format = "json", level: str = "info", secrets: tuple[str, ...] = ()) -> Logs:
        made.append(configure(format_, level, secrets))
        return made[-1]

    yield open_
    for logs in made:
        logs.close()
    root.handlers[:] = handlers
    for name, number in levels.items():
        logging.getLogger(name).setLevel(number)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


# ---- what a line holds


def test_a_line_is_json_where_no_terminal_is(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened("auto"):
        OWN.warning("the %s is full", "disk")
    (line,) = lines(capfd)
    assert list(line) == ["timestamp", "level", "logger", "event"]
    assert (line["level"], line["logger"], line["event"]) == ("warning", OWN.name, "the disk is full")
    assert line["timestamp"].endswith("Z")


def test_both_kinds_of_logger_bind_fields(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    fields = {"request_id": "r-1", "user": "mia", "queue": "orders", "message_id": "m-1"}
    with opened():
        OWN.info("settled", extra=fields)
        # A field of any name, also one that the standard library's records have for themselves.
        structlog.stdlib.get_logger(OWN.name).info("settled %s", "twice", name="n", **fields)
    plain, bound = lines(capfd)
    assert plain.items() >= {"event": "settled", **fields}.items()
    assert bound.items() >= {"event": "settled twice", "name": "n", "logger": OWN.name, **fields}.items()


def test_an_exception_is_a_field_of_its_line(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened():
        try:
            raise RuntimeError("no luck")
        except RuntimeError:
            OWN.exception("it failed")
            structlog.stdlib.get_logger(OWN.name).exception("it failed")
    for line in lines(capfd):
        assert line["event"] == "it failed" and line["level"] == "error"
        assert line["exception"].startswith("Traceback") and line["exception"].endswith("RuntimeError: no luck")


def test_a_line_that_cannot_be_made_says_where_and_not_of_what(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened():
        OWN.error("%d of them", "not a number")
    (line,) = lines(capfd)
    assert "test_logging:" in line["event"] and "not a number" not in json.dumps(line)


def test_what_utf_8_cannot_hold_is_escaped(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened():
        OWN.warning("grün \ud800", extra={"user": "a\nb"})
    (line,) = lines(capfd)
    assert line["event"] == "grün \ud800" and line["user"] == "a\nb"


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=str,
)
def test_a_terminal_gets_colour_unless_somebody_wants_none(
    opened: Open, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    if "NO_COLOR" not in environment:
        monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal, os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        with opened("auto"):
            OWN.warning("the disk is full")
        shown = terminal.read(4096)
    assert b"the disk is full" in shown and not shown.startswith(b"{")
    assert (b"\x1b[" in shown) is coloured


def test_a_console_line_cannot_be_forged_nor_steer_the_terminal(
    opened: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened("console"):
        OWN.warning("a user\n2026-11-22 [info] all is well", extra={"user": "\x1b[2J\u202e", "more": ["\x9b1m"]})
    shown = capfd.readouterr().err
    assert shown.count("\n") == 1 and not {"\x1b", "\u202e", "\x9b", "\r"} & set(shown)
    assert r"\x1b[2J\u202e" in shown


def test_a_console_shows_an_exception_line_by_line(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened("console"):
        try:
            raise RuntimeError("no \x1b luck")
        except RuntimeError:
            OWN.exception("it failed")
    shown = capfd.readouterr().err.splitlines()
    assert shown[-1] == r"RuntimeError: no \x1b luck" and len(shown) > 3


# ---- what is not logged


def test_libraries_only_warn_whatever_the_level(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened(level="debug"):
        OWN.debug("ours")
        for name in ("aiosqlite", "httpx", "websockets", "sqlalchemy.engine", "some.package"):
            logging.getLogger(name).info("SELECT %s", "a payload")
            logging.getLogger(name).debug("SELECT %s", "a payload")
            logging.getLogger(name).warning("beware")
    assert [line["event"] for line in lines(capfd)] == ["ours", *["beware"] * 5]


def test_a_level_holds_for_libraries_too_where_it_is_higher(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened(level="error"):
        logging.getLogger("some.package").warning("beware")
        OWN.warning("beware")
    assert lines(capfd) == []


def test_the_query_of_a_url_is_not_logged_at_any_level(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    line = '%s - "WebSocket %s" [accepted]', "127.0.0.1:1", "/ws?ticket=abc&x=1"
    with opened(level="debug"):
        logging.getLogger("uvicorn.error").info(*line)
        logging.getLogger("uvicorn.error").warning(*line)
    (shown,) = lines(capfd)
    assert shown["event"] == '127.0.0.1:1 - "WebSocket /ws?***" [accepted]'


def test_asyncio_does_not_tell_what_a_call_was_given(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened():
        logging.getLogger("asyncio").error("Exception in callback\nhandle: <Handle data_received(b'a payload')>")
    (line,) = lines(capfd)
    assert line["event"] == "Exception in callback"


def test_warnings_are_lines_as_well(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened():
        warnings.warn("password='hunter2' is deprecated", stacklevel=1)
    (line,) = lines(capfd)
    assert line["logger"] == "py.warnings" and "password=***" in line["event"]


def test_the_secrets_of_the_settings_are_masked_by_their_text(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened(secrets=("correct horse", "admin")):
        OWN.warning("he said correct horse to admin", extra={"user": "correct horse", "queue": {"correct horse": 1}})
    (line,) = lines(capfd)
    assert line["event"] == "he said *** to admin" and "correct" not in json.dumps(line)


# ---- where lines go


def test_files_hold_what_was_logged_before_there_were_any(
    opened: Open, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened("console") as logs:
        OWN.warning("early")
        logs.keep(tmp_path / "logs")
        OWN.warning("late")
    kept = [json.loads(line) for line in (tmp_path / "logs/streambroker.log").read_text().splitlines()]
    assert [line["event"] for line in kept if line["logger"] == OWN.name] == ["early", "late"]
    assert "early" in capfd.readouterr().err


def test_no_files_are_kept_where_none_are_wanted(opened: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with opened() as logs:
        logs.keep(None)
        OWN.warning("only here")
    assert [line["event"] for line in lines(capfd)] == ["only here"]


def test_what_is_logged_after_the_end_still_goes_to_stderr(
    opened: Open, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened() as logs:
        logs.keep(tmp_path)
    OWN.warning("the last words, token=abc")
    assert [line["event"] for line in lines(capfd)] == ["the last words, token=***"]


def test_a_directory_that_cannot_be_written_is_told_once_and_stops_nothing(
    opened: Open, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("not a directory")
    with opened() as logs:
        logs.keep(tmp_path / "logs")
        for number in range(5):
            OWN.warning("line %d", number)
    told = [line["event"] for line in lines(capfd)]
    assert [event for event in told if event.startswith("line")] == [f"line {number}" for number in range(5)]
    assert len(told) == 6 and any(f"log files in {tmp_path / 'logs'} cannot be written" in event for event in told)


# ---- the outlet


class Gate:
    """Writes into a list, though not before it is opened."""

    def __init__(self) -> None:
        self.open, self.busy = threading.Event(), threading.Event()
        self.written: list[Any] = []

    def write(self, event: Event) -> None:
        self.busy.set()
        assert self.open.wait(PATIENCE_S)
        self.written.append(event["event"])


def test_a_full_outlet_drops_counts_and_says_how_many() -> None:
    gate = Gate()
    outlet = Outlet("test", gate.write, bound=3)
    outlet.start()
    outlet.put({"event": "in hand"})
    assert gate.busy.wait(PATIENCE_S)
    for number in range(10):
        outlet.put({"event": number})
    gate.open.set()
    assert outlet.close(PATIENCE_S)
    told = [event for event in gate.written if isinstance(event, str)]
    assert [event for event in gate.written if isinstance(event, int)] == [0, 1, 2]
    assert told[0] == "in hand" and told[1].startswith("7 lines of the log were dropped") and len(told) == 2


def test_an_outlet_that_hangs_holds_up_neither_those_who_log_nor_the_end() -> None:
    gate = Gate()
    outlet = Outlet("test", gate.write, bound=3)
    outlet.start()
    for number in range(10):
        outlet.put({"event": number})
    assert not outlet.close(0)
    outlet.put({"event": "after the end"})
    gate.open.set()
