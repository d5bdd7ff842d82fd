"""``streambroker doctor`` beside a real broker."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from streambroker import SyncBroker
from streambroker.embedded import Served
from tests.cli.ops import Command, Ended


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    for name in ("STREAMBROKER_URL", "STREAMBROKER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return Command(monkeypatch, capfd)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SyncBroker]:
    with SyncBroker(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def served(broker: SyncBroker) -> Iterator[Served]:
    with broker.serve() as listening:
        yield listening


def problems(ended: Ended) -> list[str]:
    return [f"{one['subject']}: {one['what']}" for one in ended.document["findings"] if one["severity"] == "problem"]


def ask(command: Command, served: Served, *more: Any) -> Ended:
    return command("doctor", "--url", served.url, "--token", served.token, *more)


def test_a_broker_without_trouble_is_well(command: Command, served: Served) -> None:
    ended = ask(command, served, "--json")
    assert (ended.code, problems(ended)) == (0, [])
    assert "all well" in ask(command, served).out


def test_a_queue_that_nobody_consumes_is_explained(command: Command, broker: SyncBroker, served: Served) -> None:
    broker.publish("orders", 1)
    ended = ask(command, served)
    assert ended.code == 1
    assert "PROBLEM  queue orders: 1 message is ready and nobody consumes them" in ended.out
    assert "why it matters:" in ended.out and "what to do:" in ended.out
    assert "1 problem" in ended.out


class Unwell(BaseHTTPRequestHandler):
    """A broker that is ready, has one paused queue, and fails at its metrics."""

    answers: ClassVar[dict[str, tuple[int, object]]] = {
        "/readyz": (200, {"status": "ready"}),
        "/metrics": (500, {"code": "internal", "status": 500, "detail": "the broker failed at this"}),
        "/queues/q": (
            200,
            {
                "name": "q",
                "created_at": "2026-11-22T00:00:00.000Z",
                "paused": True,
                "config": {},
                "counts": {},
                "rates": {},
            },
        ),
    }

    def do_GET(self) -> None:
        status, document = self.answers[self.path]
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 200 else "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_queues_are_looked_at_also_where_the_metrics_fail(command: Command) -> None:
    with HTTPServer(("127.0.0.1", 0), Unwell) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            ended = command(
                "doctor", "q", "--json", "--url", f"http://127.0.0.1:{listening.server_port}", "--token", "t"
            )
        finally:
            listening.shutdown()
            thread.join()
    told = [f"{one['subject']}: {one['what']}" for one in ended.document["findings"]]
    assert told == ["broker: it does not tell its metrics: the broker failed at this", "queue q: it is paused"]


def test_one_queue_can_be_asked_for(command: Command, broker: SyncBroker, served: Served) -> None:
    broker.publish("orders", 1)
    broker.queues.create("calm")
    assert ask(command, served, "calm").code == 0
    assert ask(command, served, "orders").code == 1
    ended = ask(command, served, "none", "--json")
    assert ended.code == 1
    assert "there is no queue none" in problems(ended)[0]


def test_a_queue_that_is_paused_and_one_whose_consumer_is_stuck(
    command: Command, broker: SyncBroker, served: Served
) -> None:
    broker.queues.create("paused")
    broker.queues.pause("paused")
    broker.publish("paused", 1)
    broker.publish("poisoned", 1)
    for _ in range(5):
        message = broker.receive("poisoned")
        assert message is not None
        message.nack(delay_ms=0, reason="cannot parse it")
        broker.queues.update("poisoned", max_attempts=0)
    found = problems(ask(command, served, "--json"))
    assert "queue paused: it is paused, while 1 message is waiting" in found
    assert any("was delivered 5 times and is not done; its last error: cannot parse it" in one for one in found)


def test_a_dead_letter_queue_that_nobody_empties(command: Command, broker: SyncBroker, served: Served) -> None:
    broker.queues.create("q", dead_letter_queue="dead")
    broker.publish("q", 1)
    message = broker.receive("q")
    assert message is not None
    message.nack(requeue=False)
    found = problems(ask(command, served, "q", "--json"))
    assert found == ["queue q: in dead 1 dead letter is waiting, and nobody looks at them"]


def test_without_credentials_it_says_what_it_could_not_look_at(command: Command, served: Served) -> None:
    ended = command("doctor", "--url", served.url, "--json")
    assert ended.code == 1
    assert "wants to know who is asking" in problems(ended)[0]
    ended = command("doctor", "--url", served.url, "--token", "sbk_wrong", "--json")
    assert "credentials were refused" in problems(ended)[0]


def test_who_may_not_see_all_is_told_what_was_left_out(command: Command, broker: SyncBroker, served: Served) -> None:
    key = broker.api_keys.create("narrow", grants=[{"queues": "mine", "actions": ["view"]}])  # type: ignore[list-item]
    ended = command("doctor", "--url", served.url, "--token", key.key, "--json")
    assert ended.code == 0
    assert any("metrics" in one["what"] for one in ended.document["findings"])


def test_a_broker_that_cannot_be_reached_is_told(command: Command, broker: SyncBroker) -> None:
    with broker.serve() as gone:
        pass
    ended = command("doctor", "--url", gone.url, "--json")
    assert ended.code == 1
    assert "cannot be reached" in problems(ended)[0]


def test_a_directory_that_others_may_read_is_told_and_what_holds_it(
    command: Command, broker: SyncBroker, served: Served, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert problems(ask(command, served, "--data-dir", data, "--json")) == []
    data.chmod(0o755)
    (data / "jwt.key").chmod(0o644)
    found = problems(ask(command, served, "--data-dir", data, "--json"))
    assert [one for one in found if "mode 755" in one] and [one for one in found if "mode 644" in one]


def test_a_directory_without_a_broker_is_looked_at_alone(command: Command, tmp_path: Path) -> None:
    with SyncBroker(tmp_path / "data"):
        pass
    ended = command("doctor", "--data-dir", tmp_path / "data", "--json")
    assert ended.code == 0
    assert "no broker runs" in ended.document["findings"][0]["what"]
    ended = command("doctor", "--data-dir", tmp_path / "none", "--json")
    assert ended.code == 1
    assert not (tmp_path / "none").exists()


def test_data_of_a_newer_version_and_data_that_is_none_are_told(command: Command, tmp_path: Path) -> None:
    with SyncBroker(tmp_path / "data"):
        pass
    database = tmp_path / "data" / "streambroker.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 999")
    assert "newer streambroker" in problems(command("doctor", "--data-dir", database.parent, "--json"))[0]
    database.write_bytes(b"\xa5" * 8_192)
    assert "cannot be read" in problems(command("doctor", "--data-dir", database.parent, "--json"))[0]
