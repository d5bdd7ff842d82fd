"""``streambroker health``, as HEALTHCHECK and ExecStartPost call it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from streambroker.cli import health
from streambroker.config import load
from tests.cli.ops import Command


class Answers(BaseHTTPRequestHandler):
    """Answers with the statuses of `answers` in turn, the last again and again."""

    answers: list[int]
    asked: list[str]
    body = b""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server(*answers: int, body: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """One that answers so; its URL, and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (Answers,), {"answers": list(answers), "asked": asked, "body": body})
    with HTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", asked
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture
def streambroker(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capfd)


def test_a_broker_that_is_ready_is_healthy(streambroker: Command) -> None:
    with server(200) as (url, asked):
        assert streambroker("health", "--url", url) == (0, "ready\n", "")
    assert asked == ["/readyz"]


def test_one_that_starts_or_stops_is_not(streambroker: Command) -> None:
    with server(503) as (url, _):
        ended = streambroker("health", "--url", url)
    assert (ended.code, ended.out) == (1, "") and "answers 503" in ended.err


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"detail": "the broker is draining"}', "is not ready: the broker is draining\n"),
        (b'{"detail": "\\u001b[2J"}', "is not ready: \\x1b[2J\n"),
        (b'{"detail": 7}', "answers 503"),
        (b"[]", "answers 503"),
        (b"<html>\xff", "answers 503"),
    ],
)
def test_the_reason_that_the_broker_gives_is_said(streambroker: Command, body: bytes, said: str) -> None:
    with server(503, body=body) as (url, _):
        ended = streambroker("health", "--url", url)
    assert (ended.code, ended.err.count("\n")) == (1, 1) and said in ended.err


def test_it_waits_for_one_that_starts(streambroker: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PAUSE_S", 0.0)
    with server(503, 503, 200) as (url, asked):
        assert streambroker("health", "--url", url, "--wait", "60").code == 0
    assert len(asked) == 3


def test_nobody_there_is_said_in_a_line(streambroker: Command) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        ended = streambroker("health", "--url", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert ended.code == 1 and "does not answer" in ended.err and ended.err.count("\n") == 1


@pytest.mark.parametrize("url", ["broker:8000", "ftp://broker", "http://"])
def test_a_url_that_is_none_is_wrong_usage(streambroker: Command, url: str) -> None:
    assert streambroker("health", "--url", url).code == 64


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0", "insecure": "on"}, "http://127.0.0.1:8000"),
        ({"host": "::", "insecure": "on", "port": "9000"}, "http://[::1]:9000"),
        ({"host": "10.1.2.3", "tls_cert": "c", "tls_key": "k"}, "https://10.1.2.3:8000"),
        ({"host": "localhost"}, "http://localhost:8000"),
    ],
)
def test_it_asks_where_these_settings_make_a_broker_listen(settings: dict[str, str], expected: str) -> None:
    variables = {f"STREAMBROKER_{name.upper()}": value for name, value in settings.items()}
    assert health.address(load({}, variables)) == expected


def test_a_port_that_nobody_knows_cannot_be_asked(streambroker: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMBROKER_PORT", "0")
    ended = streambroker("health")
    assert ended.code == 64 and "--url" in ended.err
