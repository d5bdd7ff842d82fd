"""Webhooks from the command line and from the Python SDK, against a real broker and a receiver on this machine."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread
from typing import NamedTuple

import httpx
import pytest

from streambroker.cli.exits import Exit
from streambroker.client import SyncClient
from tests.cli.ops import Command, published
from tests.harness import BrokerProcess

NOWHERE = "http://127.0.0.1:9/hook"
SECRET = "whsec_" + "c2VjcmV0" * 4


class Receiver(NamedTuple):
    """Where requests go to, and the ids of those that came; `status` answers the next ones."""

    url: str
    came: Queue[str]
    status: list[int]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    came, status = Queue[str](), [204]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status[0])
            self.send_header("content-length", "0")
            self.end_headers()
            came.put(self.headers["webhook-id"])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Receiver(f"http://127.0.0.1:{server.server_port}/hook", came, status)
        server.shutdown()


def rows(text: str) -> list[dict[str, str]]:
    names, *lines = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(names, line, strict=True)) for line in lines]


def test_a_webhook_from_its_making_to_its_end(run: Command, queue: str) -> None:
    made = run("webhook", "create", queue, NOWHERE, "--disabled", "--concurrency", 2, "-H", "x-a=1")
    assert (made.code, made.out[:6], made.out.count("\n")) == (0, "whsec_", 1)  # alone on stdout
    listed = rows(run("webhook", "list", "--queue", queue).out)
    assert [(row["QUEUE"], row["STATUS"], row["FAILURES"]) for row in listed] == [(queue, "disabled", "0")]
    number = listed[0]["ID"]
    assert number in made.err
    changed = run(
        "webhook", "set", queue, number, "--to", f"{NOWHERE}/2", "--answer-within", "2s", "--disable-after", 0,
        "--description", "the shop", "--json",
    ).document  # fmt: skip
    assert (changed["url"], changed["timeout_ms"], changed["disable_after_ms"]) == (f"{NOWHERE}/2", 2_000, 0)
    assert (changed["concurrency"], changed["headers"], changed["disabled"]) == (2, {"x-a": "***"}, True)
    bare = run("webhook", "set", queue, number, "--no-headers", "--description", "", "--json").document
    assert (bare["headers"], bare["description"]) == ({}, None)
    shown = run("webhook", "show", queue, number).out
    assert "it is not, however long it fails" in shown
    assert "whsec_" not in shown
    deleted = run("webhook", "delete", queue, number, "--yes")
    assert (deleted.code, deleted.out) == (0, f"webhook {number} is deleted\n")
    gone = run("webhook", "show", queue, number)
    assert (gone.code, gone.out, "queue list" in gone.err) == (Exit.REFUSED, "", False)


def test_a_secret_is_shown_where_it_was_made_and_nowhere_else(
    run: Command, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SECRET}\n"))
    made = run("webhook", "create", queue, NOWHERE, "--disabled", "--secret-stdin")
    assert (made.code, SECRET in made.out + made.err) == (0, False)
    number = made.out.strip()
    rotated = run("webhook", "set", queue, number, "--rotate-secret", "--secret-overlap", "1h")
    assert (rotated.code, rotated.out[:6], rotated.out.count("\n")) == (0, "whsec_", 1)
    assert "signs too until" in run("webhook", "show", queue, number).out


def test_wrong_usage_changes_nothing(run: Command, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("webhook", "create", queue, NOWHERE, "--secret-stdin").code == Exit.USAGE
    assert run("webhook", "create", queue, "ftp://127.0.0.1/").code == Exit.USAGE
    assert run("webhook", "set", queue, "0" * 24).code == Exit.USAGE
    assert run("webhook", "list", "--queue", queue).out.count("\n") == 1
    run("webhook", "create", queue, NOWHERE, "--disabled")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    number = rows(run("webhook", "list", "--queue", queue).out)[0]["ID"]
    assert run("webhook", "delete", queue, number).code == Exit.USAGE  # nobody to ask


def test_what_the_receiver_said_is_the_exit_code_of_a_test(run: Command, queue: str, receiver: Receiver) -> None:
    run("webhook", "create", queue, receiver.url, "--disabled")
    number = rows(run("webhook", "list", "--queue", queue).out)[0]["ID"]
    taken = run("webhook", "test", queue, number)
    assert (taken.code, taken.out.startswith("delivered (204) in ")) == (0, True)
    receiver.status[0] = 500
    refused = run("webhook", "test", queue, number)
    assert (refused.code, refused.out.startswith("refused (500) in ")) == (Exit.REFUSED, True)
    listed = rows(run("webhook", "list", "--queue", queue).out)[0]
    assert (listed["FAILURES"], listed["OUTCOME"]) == ("1", "refused (500)")


def test_what_was_delivered_is_in_the_log_and_can_be_sent_again(
    run: Command, api: httpx.Client, queue: str, receiver: Receiver
) -> None:
    run("webhook", "create", queue, receiver.url)
    number = rows(run("webhook", "list", "--queue", queue).out)[0]["ID"]
    (message_id,) = published(api, queue, {"n": 1})
    assert receiver.came.get(timeout=30) == message_id
    done = api.get(f"/messages/{message_id}/timeline").json()["items"]
    while done[-1]["event"] != "processed":  # the answer is on its way
        done = api.get(f"/messages/{message_id}/timeline").json()["items"]
    again = run("webhook", "redeliver", queue, number, message_id)
    assert (again.code, again.out.startswith(f"message {message_id}: delivered (204)")) == (0, True)
    logged = rows(run("webhook", "deliveries", queue, number).out)
    assert [(row["KIND"], row["MESSAGE"]) for row in logged] == [("redelivery", message_id), ("message", message_id)]
    assert len(rows(run("webhook", "deliveries", queue, number, "--limit", 1).out)) == 1
    receiver.status[0] = 404
    refused = run("webhook", "redeliver", queue, number, logged[1]["ID"], "--json")
    assert (refused.code, refused.document["delivery"]["status_code"]) == (Exit.REFUSED, 404)


def test_the_ids_of_a_queues_webhooks_are_completed(
    run: Command, queue: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run("webhook", "create", queue, NOWHERE, "--disabled")
    number = rows(run("webhook", "list", "--queue", queue).out)[0]["ID"]
    monkeypatch.setenv("_STREAMBROKER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"streambroker webhook show {queue} ")
    monkeypatch.setenv("COMP_CWORD", "4")
    assert run().out.split() == [number]


def test_the_python_sdk_lists_the_webhooks_of_all_queues(server: BrokerProcess, key: str, queue: str) -> None:
    other = f"{queue}.other"
    with SyncClient(server.url, token=key) as client:
        made = [client.webhooks.create(name, NOWHERE, disabled=True).id for name in (queue, other)]
        assert client.webhooks.test(other, made[1]).outcome == "unreachable"
        found = {webhook.id: webhook for webhook in client.webhooks.every()}
        assert [found[number].queue for number in made] == [queue, other]
        last = found[made[1]].last_delivery
        assert (found[made[0]].failures, found[made[0]].last_delivery) == (0, None)
        assert last is not None
        assert (found[made[1]].failures, last.kind, last.outcome) == (1, "test", "unreachable")
        assert [webhook.id for webhook in client.webhooks.every(queue=other)] == [made[1]]
        assert "secret" not in repr(found[made[0]])
