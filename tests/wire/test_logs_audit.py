"""Who changed what, and in which request: in the log of a real broker (issue 4, 4)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from streambroker import __version__
from tests.harness import PASSWORD, BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.sockets import open_socket

ACCESS_LOG = "streambroker.observe.access"
ANA = {"username": "ana", "password": "only ana knows this", "role": "member", "grants": []}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What is logged of some actions."""
    data_dir = tmp_path_factory.mktemp("audit") / "data"
    env = {"STREAMBROKER_ACCESS_LOG": "all", "STREAMBROKER_WEBHOOK_ALLOW_PRIVATE": "127.0.0.1"}
    with BrokerProcess(data_dir, env=NO_LIMITS | env) as running:
        with running.client() as admin, open_socket(f"{running.ws_url}/ws", token=running.token()) as socket:
            socket.ok("publish", queue="made-over-websocket", messages=[{"content": 1}])
            act(admin)
        assert running.terminate() == 0
    return [json.loads(line) for line in (data_dir / "logs/streambroker.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def lines(log: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each audited action, by the id of its request."""
    return {line["request_id"]: line for line in log if "request_id" in line and line["logger"] != ACCESS_LOG}


def act(admin: httpx.Client) -> None:
    def call(name: str, method: str, path: str, **options: Any) -> httpx.Response:
        return admin.request(method, path, headers={"X-Request-ID": name}, **options)

    assert call("created", "POST", "/users", json=ANA).status_code == 201
    assert call("changed", "PATCH", "/users/ana", json={"grants": []}).status_code == 200
    assert call("failed", "POST", "/login", json={"username": "ana", "password": "wrong one"}).status_code == 401
    anas = {"username": "ana", "password": ANA["password"]}
    token = call("in", "POST", "/login", json=anas).json()["access_token"]
    theirs = {"Authorization": f"Bearer {token}", "X-Request-ID": "out"}
    assert admin.post("/logout", headers=theirs).status_code == 204
    key = call("key-made", "POST", "/api-keys", json={"name": "k"}).json()["id"]
    assert call("key-deleted", "DELETE", f"/api-keys/{key}").status_code == 204
    queue = "/queues/audited"
    assert call("queue-created", "POST", "/queues", json={"name": "audited"}).status_code == 201
    assert call("queue-again", "POST", "/queues", json={"name": "audited"}).status_code == 200
    assert call("queue-changed", "PATCH", queue, json={"max_attempts": 1}).status_code == 200
    assert call("queue-paused", "POST", f"{queue}/pause").status_code == 200
    assert call("queue-resumed", "POST", f"{queue}/resume").status_code == 200
    first, second = (admin.post(f"{queue}/messages", json={"content": n}).json()["message_id"] for n in range(2))
    assert call("message-deleted", "DELETE", f"/messages/{first}").status_code == 200
    assert admin.get(f"{queue}/messages/consume").json()["message_id"] == second
    assert admin.post(f"/messages/{second}/nack", json={"requeue": False}).status_code == 200
    assert call("message-retried", "POST", f"/messages/{second}/retry").status_code == 200
    assert call("redriven", "POST", f"{queue}/redrive").json() == {"redriven": 0}
    assert call("purged", "POST", f"{queue}/purge").json() == {"purged": 1}
    asked = {"query": 'mutation { purgeQueue(name: "audited") }'}
    assert call("by-graphql", "POST", "/graphql", json=asked).json() == {"data": {"purgeQueue": 0}}
    hook = call("hooked", "POST", f"{queue}/webhooks", json={"url": "http://127.0.0.1:9/", "disabled": True}).json()
    assert call("hook-changed", "PATCH", f"{queue}/webhooks/{hook['id']}", json={"timeout_ms": 5_000}).is_success
    assert call("hook-deleted", "DELETE", f"{queue}/webhooks/{hook['id']}").status_code == 204
    assert call("queue-deleted", "DELETE", queue).status_code == 204
    assert call("by-publish", "POST", "/queues/made/messages", json={"content": 1}).status_code == 201
    assert call("missing", "POST", "/queues/missing/purge").status_code == 404
    assert call("deleted", "DELETE", "/users/ana").status_code == 204
    new = {"current_password": PASSWORD, "new_password": "another one, also long"}
    assert call("password", "POST", "/users/me/password", json=new).status_code == 200


@pytest.mark.parametrize(
    "action",
    [
        *("created", "changed", "key-made", "key-deleted", "deleted", "password"),
        *("queue-created", "queue-changed", "queue-paused", "queue-resumed", "queue-deleted"),
        *("message-deleted", "message-retried", "redriven", "purged", "by-graphql"),
        *("hooked", "hook-changed", "hook-deleted"),
    ],
)
def test_an_audited_action_is_logged_with_its_request_and_who_did_it(
    lines: dict[str, dict[str, Any]], action: str
) -> None:
    assert lines[action]["user"] == "admin"


def test_a_failed_login_is_logged_with_its_request_and_nobody_as_its_user(lines: dict[str, dict[str, Any]]) -> None:
    assert lines["failed"]["event"].startswith("login failed for 'ana'")
    assert "user" not in lines["failed"]


def test_a_login_and_its_logout_are_logged_with_whose_they_are(lines: dict[str, dict[str, Any]]) -> None:
    assert (lines["in"]["event"], lines["in"]["user"]) == ("login of 'ana' from 127.0.0.1", "ana")
    assert (lines["out"]["event"], lines["out"]["user"]) == ("logout of 'ana'", "ana")


@pytest.mark.parametrize("action", ["queue-again", "missing"])
def test_where_nothing_has_changed_nothing_is_told(lines: dict[str, dict[str, Any]], action: str) -> None:
    assert action not in lines


@pytest.mark.parametrize("queue", ["made", "made-over-websocket"])
def test_a_queue_that_a_publish_made_is_told_with_who_published(log: list[dict[str, Any]], queue: str) -> None:
    (line,) = (line for line in log if line["event"] == f"queue {queue} was created")
    assert (line["queue"], line["user"]) == (queue, "admin") and line["request_id"]


def test_the_access_log_names_the_queue_and_the_message(log: list[dict[str, Any]]) -> None:
    by_id = {line["request_id"]: line for line in log if line["logger"] == ACCESS_LOG and "request_id" in line}
    assert by_id["queue-paused"]["queue"] == "audited"
    assert len(by_id["message-deleted"]["message_id"]) == 16
    # What a refused request names may be anything, a password for instance.
    assert by_id["missing"]["status"] == 404 and "queue" not in by_id["missing"]


def test_the_start_and_the_stop_are_told(log: list[dict[str, Any]]) -> None:
    told = [line["event"] for line in log if line["logger"] == "streambroker.app"]
    assert [event.split(" http")[0].split(" in /")[0] for event in told] == [
        f"streambroker {__version__} starts: it opens and checks the data",
        "the broker takes requests at",
        "SIGTERM: the broker drains, for at most 10000 ms",
        "the broker has stopped",
    ]
