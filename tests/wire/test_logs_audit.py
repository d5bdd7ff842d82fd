"""Who did what to users and keys, and in which request: in the log of a real broker (issue 4, 4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import PASSWORD, BrokerProcess
from tests.wire.conftest import NO_LIMITS

ANA = {"username": "ana", "password": "only ana knows this", "role": "member", "grants": []}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the log says of each audited action, by the id of its request."""
    data_dir = tmp_path_factory.mktemp("audit") / "data"
    with BrokerProcess(data_dir, env=NO_LIMITS) as running:
        with running.client() as admin:
            act(admin)
        assert running.terminate() == 0
    return told(data_dir / "logs/streambroker.log")


def act(admin: httpx.Client) -> None:
    def call(name: str, method: str, path: str, **options: Any) -> httpx.Response:
        return admin.request(method, path, headers={"X-Request-ID": name}, **options)

    assert call("created", "POST", "/users", json=ANA).status_code == 201
    assert call("changed", "PATCH", "/users/ana", json={"grants": []}).status_code == 200
    assert call("failed", "POST", "/login", json={"username": "ana", "password": "wrong one"}).status_code == 401
    key = call("key-made", "POST", "/api-keys", json={"name": "k"}).json()["id"]
    assert call("key-deleted", "DELETE", f"/api-keys/{key}").status_code == 204
    assert call("deleted", "DELETE", "/users/ana").status_code == 204
    new = {"current_password": PASSWORD, "new_password": "another one, also long"}
    assert call("password", "POST", "/users/me/password", json=new).status_code == 200


def told(path: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["request_id"]: line for line in found if "request_id" in line and ".auth." in line["logger"]}


@pytest.mark.parametrize("action", ["created", "changed", "key-made", "key-deleted", "deleted", "password"])
def test_an_audited_action_is_logged_with_its_request_and_who_did_it(
    lines: dict[str, dict[str, Any]], action: str
) -> None:
    assert lines[action]["user"] == "admin"


def test_a_failed_login_is_logged_with_its_request_and_nobody_as_its_user(lines: dict[str, dict[str, Any]]) -> None:
    assert lines["failed"]["event"].startswith("login failed for 'ana'")
    assert "user" not in lines["failed"]
