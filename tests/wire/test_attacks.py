"""What an attacker tried once and got away with: each way in is shut (D6, D12, D16, D31)."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.harness import PASSWORD, BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import eventually, fresh_name
from tests.wire.sockets import Closed, open_socket

THEIRS = "a password of theirs"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("attacks") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def admin(broker: BrokerProcess) -> Iterator[httpx.Client]:
    with broker.client() as client:
        yield client


class User:
    """Somebody with an account of their own, logged in."""

    def __init__(
        self, broker: BrokerProcess, admin: httpx.Client, *grants: tuple[str, str], role: str = "member"
    ) -> None:
        self.name = fresh_name("user")
        given = [{"queues": queues, "actions": actions.split()} for queues, actions in grants]
        body = {"username": self.name, "password": THEIRS, "role": role, "grants": given}
        assert admin.post("/users", json=body).status_code == 201
        self.token = broker.token(self.name, THEIRS)
        self.headers = {"Authorization": f"Bearer {self.token}"}
        self.client = httpx.Client(base_url=broker.url, headers=self.headers, trust_env=False, timeout=30)

    def key(self, *grants: tuple[str, str], **more: Any) -> str:
        given = [{"queues": queues, "actions": actions.split()} for queues, actions in grants]
        answer = self.client.post("/api-keys", json={"name": "k", "grants": given, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])


class Late:
    """A request whose head has come, and whose body has not."""

    def __init__(self, broker: BrokerProcess, token: str, method: str, path: str, body: Any) -> None:
        self._body = json.dumps(body).encode()
        url = urlsplit(broker.url)
        self._socket = socket.create_connection((str(url.hostname), url.port or 0), timeout=20)
        self._socket.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(self._body)}\r\n\r\n".encode()
            + self._body[:1]
        )

    def finish(self) -> tuple[int, bytes]:
        """Send the rest of the body; the status and the answer."""
        self._socket.sendall(self._body[1:])
        answer = b""
        while part := self._socket.recv(65_536):
            answer += part
        self._socket.close()
        return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


def arrived(admin: httpx.Client) -> None:
    """Requests that were sent before this one have been recognized: the loop takes them in order."""
    for _ in range(3):
        admin.get("/healthz")
    time.sleep(0.05)  # the last byte of another connection, which nothing else tells of


LATE = [
    ("POST", "/api-keys", {"name": "back door"}),
    ("POST", "/users/me/password", {"current_password": THEIRS, "new_password": THEIRS + "!"}),
    ("POST", "/queues/own.q/messages", {"content": 1}),
    ("POST", "/queues/own.q/messages/consume", {"wait_ms": 1_000}),
    ("POST", "/queues", {"name": "own.other"}),
]


@pytest.mark.parametrize(("method", "path", "body"), LATE, ids=[path for _, path, _ in LATE])
@pytest.mark.parametrize("how", ["logout", "disabled", "deleted"])
def test_d6_a_body_that_comes_after_the_revocation_is_not_acted_upon(
    how: str, method: str, path: str, body: Any, broker: BrokerProcess, admin: httpx.Client
) -> None:
    thief = User(broker, admin, ("own.*", "publish consume manage view"))
    late = Late(broker, thief.token, method, path, body)
    arrived(admin)
    if how == "logout":
        assert thief.client.post("/logout").status_code == 204
    elif how == "disabled":
        assert admin.patch(f"/users/{thief.name}", json={"disabled": True}).status_code == 200
    else:
        assert admin.delete(f"/users/{thief.name}").status_code == 204
    status, answer = late.finish()
    assert (status, json.loads(answer)["code"]) == (401, "unauthenticated")


def test_d6_an_admin_who_was_thrown_out_does_not_let_itself_in_again(
    broker: BrokerProcess, admin: httpx.Client
) -> None:
    thief = User(broker, admin, role="admin")
    late = Late(broker, thief.token, "PATCH", f"/users/{thief.name}", {"disabled": False})
    arrived(admin)
    assert admin.patch(f"/users/{thief.name}", json={"disabled": True}).status_code == 200
    assert late.finish()[0] == 401
    assert admin.get(f"/users/{thief.name}").json()["disabled"] is True


def test_d6_a_body_that_comes_after_the_grants_were_taken_is_not_acted_upon(
    broker: BrokerProcess, admin: httpx.Client
) -> None:
    member = User(broker, admin, ("own.*", "publish"))
    late = Late(broker, member.token, "POST", "/queues/own.q/messages", {"content": 1})
    arrived(admin)
    assert admin.patch(f"/users/{member.name}", json={"grants": []}).status_code == 200
    assert late.finish()[0] == 409


def test_a_body_that_comes_late_is_taken_where_nothing_has_changed_for_its_user(
    broker: BrokerProcess, admin: httpx.Client
) -> None:
    member = User(broker, admin, ("own.*", "publish"))
    late = Late(broker, member.token, "POST", "/queues/own.q/messages", {"content": 1})
    arrived(admin)
    User(broker, admin)
    assert late.finish()[0] == 201


def test_d6_a_socket_that_came_down_to_a_narrow_key_keeps_nothing_that_the_key_may_not(
    broker: BrokerProcess, admin: httpx.Client
) -> None:
    queue = f"own.{fresh_name()}"
    member = User(broker, admin, ("own.*", "publish consume view"))
    with open_socket(broker.ws_url + "/ws", token=member.token) as peer:
        peer.op("welcome")
        peer.ok("subscribe", queue=queue)
        peer.send({"op": "refresh", "id": "down", "token": member.key(("nothing", "view"))})
        assert peer.op("error")["problem"]["code"] == "forbidden"
        assert peer.answer("down")["op"] == "ok"
        admin.post(f"/queues/{queue}/messages", json={"content": "for eyes only"})
        assert admin.get(f"/queues/{queue}").json()["consumers"] == 0
        peer.send({"op": "ping"})
        peer.op("pong")
        assert not [frame for frame in peer.inbox if frame["op"] == "deliver"]


def test_d6_a_subscription_that_is_being_made_while_the_grants_go_does_not_live_on(
    broker: BrokerProcess, admin: httpx.Client
) -> None:
    member = User(broker, admin, ("race.*", "consume"))
    name = fresh_name()
    with open_socket(broker.ws_url + "/ws", token=member.token) as peer:
        peer.op("welcome")
        peer.send(*({"op": "subscribe", "id": n, "queue": f"race.{name}-{n}"} for n in range(300)))
        assert admin.patch(f"/users/{member.name}", json={"grants": []}).status_code == 200
        for number in range(300):
            peer.answer(number)

        def alive() -> int:
            listed = admin.get("/queues", params={"limit": 500}).json()["items"]
            return sum(item["consumers"] for item in listed if item["name"].startswith(f"race.{name}"))

        eventually(alive, lambda seen: seen == 0)


def test_d6_an_array_of_frames_is_not_worked_off_after_the_session_ended(
    broker: BrokerProcess, admin: httpx.Client
) -> None:
    member = User(broker, admin, ("array.*", "publish"))
    name = fresh_name()
    frames = [
        {"op": "publish", "id": n, "queue": f"array.{name}-{n}", "messages": [{"content": 1}]} for n in range(5_000)
    ]
    with open_socket(broker.ws_url + "/ws", token=member.token) as peer:
        peer.op("welcome")
        for start in range(0, len(frames), 1_000):  # the most that an array may hold
            peer.send(*frames[start : start + 1_000])
        peer.answer(0)
        assert member.client.post("/logout").status_code == 204
        with pytest.raises(Closed):
            peer.op("never sent")
    figures = admin.get("/stats").json()["queues"]
    made = [queue for queue in figures if queue.startswith(f"array.{name}-")]
    assert 0 < len(made) < 5_000


def test_d12_who_may_not_consume_cannot_have_the_messages_sent_elsewhere(
    broker: BrokerProcess, admin: httpx.Client
) -> None:
    payroll, mine = f"payroll.{fresh_name()}", f"mine.{fresh_name()}"
    member = User(broker, admin, (payroll, "manage"), (mine, "publish consume manage view"))
    assert admin.post("/queues", json={"name": payroll}).status_code == 201
    change = {"dead_letter_queue": mine, "message_ttl_ms": 1}
    assert member.client.patch(f"/queues/{payroll}", json=change).status_code == 403
    assert member.client.post("/queues", json={"name": payroll, **change}).status_code == 403


def test_d6_a_long_poll_ends_with_its_key(broker: BrokerProcess, admin: httpx.Client) -> None:
    queue = f"own.{fresh_name()}"
    member = User(broker, admin, ("own.*", "consume"))
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
    headers = {"Authorization": f"Bearer {member.key(('own.*', 'consume'), expires_at=end)}"}
    answer = httpx.get(
        f"{broker.url}/queues/{queue}/messages/consume?wait_ms=30000", headers=headers, timeout=60, trust_env=False
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["/nope", "/queues", "/healthz/x"])
def test_an_upgrade_on_a_path_that_is_none_is_refused_as_any_request(path: str, broker: BrokerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused, open_socket(broker.ws_url + path):
        pass
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    assert not [line for line in broker.output if "Traceback" in line]


@pytest.fixture
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    env = {**NO_LIMITS, "STREAMBROKER_RATE_LIMIT_DEFAULT": "30/minute", "STREAMBROKER_MAX_CONNECTIONS_PER_USER": "3"}
    with BrokerProcess(tmp_path_factory.mktemp("limited") / "data", env=env) as running:
        yield running


def test_a_key_that_runs_wild_does_not_keep_its_user_from_deleting_it(limited: BrokerProcess) -> None:
    with limited.client() as admin:
        member = User(limited, admin, ("own.*", "consume"))
        made = member.client.post("/api-keys", json={"name": "k"}).json()
        headers = {"Authorization": f"Bearer {made['key']}"}
        statuses = [
            httpx.get(f"{limited.url}/users/me", headers=headers, trust_env=False).status_code for _ in range(40)
        ]
        assert statuses[0] == 200 and statuses[-1] == 429
        assert member.client.delete(f"/api-keys/{made['id']}").status_code == 204


def test_the_sockets_of_a_key_do_not_take_its_users_places(limited: BrokerProcess) -> None:
    with limited.client() as admin:
        member = User(limited, admin, ("own.*", "consume"))
        key = member.key(("own.*", "consume"))
        sockets = [open_socket(limited.ws_url + "/ws", token=key) for _ in range(3)]
        opened = [one.__enter__() for one in sockets]
        try:
            for peer in opened:
                peer.op("welcome")
            with pytest.raises(InvalidStatus) as refused, open_socket(limited.ws_url + "/ws", token=key):
                pass
            assert refused.value.response.status_code == 429
            with open_socket(limited.ws_url + "/ws", token=member.token) as own:
                own.op("welcome")
        finally:
            for one in sockets:
                one.__exit__(None, None, None)


def test_upgrades_with_bad_tokens_count_for_their_address(limited: BrokerProcess) -> None:
    def status() -> int:
        try:
            with open_socket(limited.ws_url + "/ws", token="guess"):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    statuses = [status() for _ in range(40)]
    assert statuses[:20] == [401] * 20 and statuses[-1] == 429


def test_what_is_refused_stays_refused_when_somebody_logs_in_again(broker: BrokerProcess, admin: httpx.Client) -> None:
    member = User(broker, admin, ("own.*", "consume"))
    assert member.client.post("/logout").status_code == 204
    assert broker.token(member.name, THEIRS)
    assert eventually(lambda: member.client.get("/users/me").status_code) == 401
    assert broker.token("admin", PASSWORD)
