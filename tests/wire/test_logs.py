"""The log over HTTP, for admins only; and what a real broker writes into it, never a secret (contract §6; D7, D28)."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.harness import PASSWORD, BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import JSON, body, instant
from tests.wire.problems import check_refusal
from tests.wire.sockets import PROTOCOL, Closed, open_socket

JWT_SECRET = "a-signing-key-that-no-line-may-hold"
MEMBER, MEMBERS_PASSWORD = "logs-mia", "only mia knows this one"
LOG = "streambroker.log"

ESCAPES = [
    *("..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "../../etc/passwd", "..%2fjwt.key", "../jwt.key"),
    *("....//....//etc/passwd", "%2fetc%2fpasswd", "/etc/passwd", "//etc/passwd", "..%252fjwt.key", "..%5cjwt.key"),
    *(f"{LOG}%00", f"{LOG}%00.txt", "%00", f"{LOG}%0a", ".env", "jwt.key", f"x/../{LOG}", f"./{LOG}", f"{LOG}/"),
    *("link.log", "..%2flogs-of-others%2fother.log", "missing.log", "%2e", "%2e%2e", "x" * 2_000 + ".log", "%ff.log"),
]


@pytest.fixture(scope="module")
def logging_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    data_dir = tmp_path_factory.mktemp("logs") / "data"
    with BrokerProcess(data_dir, env=NO_LIMITS) as running:
        (data_dir / "logs/link.log").symlink_to(data_dir / "streambroker.lock")
        (data_dir / "logs/.env").write_text("nothing to see")
        (data_dir / "logs-of-others").mkdir()
        (data_dir / "logs-of-others/other.log").write_text("nothing to see")
        yield running


@pytest.fixture(scope="module")
def admin(logging_broker: BrokerProcess) -> Iterator[httpx.Client]:
    with logging_broker.client() as client:
        yield client


@pytest.fixture(scope="module")
def member(logging_broker: BrokerProcess, admin: httpx.Client) -> str:
    """The token of a user who may do everything with every queue."""
    create_member(admin)
    return logging_broker.token(MEMBER, MEMBERS_PASSWORD)


def create_member(admin: httpx.Client) -> None:
    grants = [{"queues": "*", "actions": ["publish", "consume", "manage", "view"]}]
    user = {"username": MEMBER, "password": MEMBERS_PASSWORD, "role": "member", "grants": grants}
    assert admin.post("/users", content=body(user), headers=JSON).status_code == 201


def asked_as_written(broker: BrokerProcess, path: str, token: str | None) -> int:
    """The status of a GET of exactly this path: no client in between makes it what it should be."""
    connection = http.client.HTTPConnection(urlsplit(broker.url).netloc, timeout=30)
    try:
        connection.putrequest("GET", path)
        if token is not None:
            connection.putheader("Authorization", f"Bearer {token}")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_an_admin_reads_what_the_listing_names(admin: httpx.Client) -> None:
    listed = admin.get("/logs").json()
    assert [item["name"] for item in listed["items"]] == [LOG] and listed["next_cursor"] is None
    assert listed["items"][0]["size"] > 0 and instant(listed["items"][0]["modified_at"])
    answer = admin.get(f"/logs/{LOG}")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert all(line.keys() >= {"timestamp", "level", "logger", "event"} for line in lines)
    last = admin.get(f"/logs/{LOG}", params={"tail": 1}).text.splitlines()
    assert len(last) == 1 and json.loads(last[0])["timestamp"] >= lines[-1]["timestamp"]


def test_d28_a_range_is_not_looked_at(admin: httpx.Client) -> None:
    answer = admin.get(f"/logs/{LOG}", headers={"Range": "bytes=0-0"})
    assert answer.status_code == 200 and len(answer.content) > 1


@pytest.mark.parametrize("path", ["/logs", f"/logs/{LOG}", *(f"/logs/{name}" for name in ESCAPES)])
def test_d28_who_may_ask_and_what_there_is(logging_broker: BrokerProcess, member: str, path: str) -> None:
    there = path in ("/logs", f"/logs/{LOG}")
    for prefix in ("", "/v1"):
        assert asked_as_written(logging_broker, prefix + path, None) == 401
        assert asked_as_written(logging_broker, prefix + path, member) == 403
        assert asked_as_written(logging_broker, prefix + path, logging_broker.token()) == (200 if there else 404)


def test_log_files_can_be_switched_off(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", env={**NO_LIMITS, "STREAMBROKER_LOG_DIR": "off"}) as broker:
        with broker.client() as client:
            assert client.get("/logs").json() == {"items": [], "next_cursor": None}
            check_refusal(client.get(f"/logs/{LOG}"), "not_found")
        assert not (tmp_path / "data/logs").exists()


def test_a_broker_runs_where_its_log_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("not a directory")
    with BrokerProcess(tmp_path / "data", env={"STREAMBROKER_LOG_DIR": str(tmp_path / "taken")}) as broker:
        with broker.client() as client:
            assert client.get("/logs").json()["items"] == []
        assert broker.terminate() == 0
    assert sum(f"log files in {tmp_path / 'taken'} cannot be written" in line for line in broker.output) == 1


# ---- D7: whatever clients say, no secret of it is in any line


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker that logs as much as it ever does."""
    settings = {"LOG_LEVEL": "debug", "ACCESS_LOG": "all", "JWT_SECRET": JWT_SECRET}
    env = NO_LIMITS | {f"STREAMBROKER_{name}": value for name, value in settings.items()}
    with BrokerProcess(tmp_path / "data", env=env) as running:
        yield running


def log_in(url: str, username: str, password: str) -> httpx.Response:
    return httpx.post(f"{url}/login", content=body({"username": username, "password": password}), headers=JSON)


def told(url: str, path: str, secret: str) -> None:
    """A token in a query."""
    for name in ("token", "access_token", "api_key"):
        check_refusal(httpx.get(f"{url}{path}", params={name: secret}), "malformed")
        with suppress(InvalidStatus), open_socket(f"ws{url.removeprefix('http')}/ws?{name}={secret}"):
            raise AssertionError("a token in the URL of a WebSocket was accepted")


def say_it_in_bodies(url: str, secret: str) -> None:
    """A password in bodies that are no login."""
    for text in (
        f'{{"username":"admin","password":"{secret}"',
        f'{{"username":"admin","password":"{secret}","more":1}}',
        f'{{"username":"admin","{secret}":"password"}}',
        f'"{secret}"',
        f"password={secret}&username=admin",
    ):
        for path, media in (("/login", "application/json"), ("/login", "text/plain"), ("/refresh", "application/json")):
            answer = httpx.post(f"{url}{path}", content=text, headers={"Content-Type": media})
            assert 400 <= answer.status_code < 500


def say_it_in_headers(url: str, secret: str) -> None:
    basic = base64.b64encode(f"admin:{secret}".encode()).decode()
    for value in (f"Basic {basic}", f"Bearer {secret}", f"Bearer {secret} {secret}", secret):
        for path in ("/queues", f"/queues/{quote(secret)}", "/nowhere"):
            assert httpx.get(f"{url}{path}", headers={"Authorization": value}).status_code < 500
    for header in ("Cookie", "X-Api-Key", "X-Message-Key", "Sec-WebSocket-Protocol"):
        assert httpx.get(f"{url}/healthz", headers={header: f"token={secret}"}).status_code == 200


def say_it_on_sockets(ws_url: str, good: str, bad: str) -> None:
    """Tokens in the header, as a subprotocol, in `hello`, in `refresh`, and where they do not belong."""
    ended = (InvalidStatus, ConnectionClosed, Closed)  # a bad token ends a connection, at one frame or another
    for token in (good, bad):
        for options in ({"token": token}, {"subprotocols": [PROTOCOL, f"bearer.{token}"]}):
            with suppress(*ended), open_socket(f"{ws_url}/ws", **options) as ws:
                ws.op("welcome")
                ws.send({"op": "refresh", "id": 1, "token": bad}, {"op": token}, {"op": "hello", "password": bad})
                ws.settle_down()
        with suppress(*ended), open_socket(f"{ws_url}/ws") as ws:
            ws.send({"op": "hello", "id": 1, "token": token})
            ws.send_raw(f'{{"op":"hello","token":"{token}"')
            ws.close_code()


def say_it_without_http(url: str, secret: str) -> None:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as raw:
        raw.sendall(f"password={secret} token={secret}\r\nAuthorization {secret}\r\n\r\n".encode())
        while raw.recv(4096):
            pass


def log_of(broker: BrokerProcess) -> str:
    files = sorted((broker.data_dir / "logs").glob(f"{LOG}*"))
    return "\n".join([*broker.output, *(file.read_text() for file in files)])


def test_d7_no_secret_is_in_any_line(talkative: BrokerProcess) -> None:
    url = talkative.url
    wrong, payload, new_password = "certainly-not-the-password", "the-content-of-a-message", "a whole new one for mia"

    with talkative.client() as admin:
        create_member(admin)
    pair = log_in(url, MEMBER, MEMBERS_PASSWORD).json()
    for name in (MEMBER, "admin", "nobody-of-this-name"):
        assert log_in(url, name, wrong).status_code == 401
    forged = f"{pair['access_token'][:-4]}AAAA"
    renewed = httpx.post(f"{url}/refresh", content=body({"refresh_token": pair["refresh_token"]}), headers=JSON).json()
    httpx.post(f"{url}/refresh", content=body({"refresh_token": f"sbr_{wrong}"}), headers=JSON)

    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {renewed['access_token']}"}) as mia:
        key = mia.post("/api-keys", content=body({"name": "a key"}), headers=JSON).json()["key"]
        as_worker = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{url}/queues", headers=as_worker).status_code == 200
        draft = {"content": {"password": payload}, "headers": {"token": payload}, "key": payload}
        assert mia.post("/queues/logged/messages", content=body(draft), headers=JSON).status_code == 201
        assert mia.post("/queues/logged/messages", content=f'{{"content":"{payload}', headers=JSON).is_client_error
        assert mia.post("/queues/logged/messages", content=payload, headers={"Content-Type": payload}).is_success
        assert mia.get("/queues/logged/messages", params={"contains": payload}).status_code == 200
        say_it_on_sockets(talkative.ws_url, renewed["access_token"], forged)
        change = {"current_password": MEMBERS_PASSWORD, "new_password": new_password}
        assert mia.post("/users/me/password", content=body(change), headers=JSON).is_success

    for secret in (forged, key, f"sbk_{wrong}", wrong):
        told(url, "/queues", secret)
        say_it_in_headers(url, secret)
    say_it_in_bodies(url, wrong)
    say_it_without_http(url, wrong)

    admin_token = talkative.token()
    assert talkative.terminate() == 0
    log = log_of(talkative)
    tokens: list[Any] = [admin_token, pair["access_token"], renewed["access_token"], forged]
    secrets = [
        *(PASSWORD, JWT_SECRET, MEMBERS_PASSWORD, new_password, wrong, payload, key, key.removeprefix("sbk_")),
        *(pair["refresh_token"], renewed["refresh_token"], *tokens, *(token.split(".")[2] for token in tokens)),
        base64.b64encode(f"admin:{wrong}".encode()).decode(),
    ]
    assert [secret for secret in secrets if secret in log or quote(secret) in log] == []
    # That something was found at all: what is no secret is there.
    assert "login failed" in log and MEMBER in log and "Authorization: Bearer" not in log
