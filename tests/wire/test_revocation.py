"""What ends, ends at once: on REST, on what is open, and across a restart (D1, D5, D6, D11)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import PASSWORD, BrokerProcess
from tests.wire.doors import Queue, fresh_name
from tests.wire.people import SECRET, Person, client_of, grant, post, somebody
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket, open_socket

GRANTS = [grant("orders*", "publish", "consume", "view")]

CLOSED_WITHIN_S = 5
CONFIGURATION = 78


def log_out(person: Person) -> httpx.Response:
    return person.client.post("/logout")


def disable(person: Person) -> httpx.Response:
    return person.change(disabled=True)


def delete(person: Person) -> httpx.Response:
    return person.admin.delete(person.path)


def change_password(person: Person) -> httpx.Response:
    return person.change(password="another secret")


def change_own_password(person: Person) -> httpx.Response:
    return post(
        person.client, "/users/me/password", {"current_password": person.password, "new_password": "another secret"}
    )


End = Callable[[Person], httpx.Response]
ENDS: list[End] = [log_out, disable, delete, change_password, change_own_password]


@pytest.fixture
def mia(api: httpx.Client) -> Iterator[Person]:
    with somebody(api, grants=GRANTS) as person:
        yield person


def closed(socket: Socket) -> int | None:
    return socket.close_code(CLOSED_WITHIN_S)


# ---- on REST


@pytest.mark.parametrize("end", ENDS)
def test_the_next_request_of_an_ended_session_is_refused(mia: Person, end: End) -> None:
    """D6"""
    assert mia.client.get("/users/me").status_code == 200
    assert end(mia).is_success
    check_refusal(mia.client.get("/users/me"), "unauthenticated")
    check_refusal(mia.refresh(mia.pair), "unauthenticated")


def test_a_logout_ends_its_own_session_alone(mia: Person) -> None:
    other = mia.log_in()
    assert log_out(mia).status_code == 204
    assert client_of(mia.client, other["access_token"]).get("/users/me").status_code == 200
    assert mia.refresh(other).status_code == 200


def test_of_two_refreshes_at_once_one_wins(mia: Person) -> None:
    """D5"""
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: mia.refresh(mia.pair), range(2)))
    assert sorted(reply.status_code for reply in replies) == [200, 409]


def test_of_two_password_changes_at_once_one_wins(mia: Person) -> None:
    new = [f"{SECRET} {n}" for n in range(2)]
    with ThreadPoolExecutor(2) as pool:
        replies = list(
            pool.map(
                lambda secret: post(
                    mia.client, "/users/me/password", {"current_password": SECRET, "new_password": secret}
                ),
                new,
            )
        )
    won = [secret for secret, reply in zip(new, replies, strict=True) if reply.status_code == 200]
    assert len(won) == 1
    assert {reply.status_code for reply in replies} <= {200, 401, 403, 409}
    assert [secret for secret in new if mia.try_to_log_in(secret).status_code == 200] == won


# ---- on what is open


@pytest.mark.parametrize("end", ENDS)
def test_an_open_socket_of_an_ended_session_is_closed_with_4401(broker: BrokerProcess, mia: Person, end: End) -> None:
    """D6"""
    with open_socket(broker.ws_url + "/ws", token=mia.pair["access_token"]) as socket:
        socket.op("welcome")
        assert end(mia).is_success
        assert closed(socket) == 4401


def test_the_socket_of_another_session_stays(broker: BrokerProcess, mia: Person, api: httpx.Client) -> None:
    other = mia.log_in()["access_token"]
    with open_socket(broker.ws_url + "/ws", token=other) as socket, somebody(api) as stranger:
        socket.op("welcome")
        log_out(mia)
        disable(stranger)
        socket.settle_down()


@pytest.mark.parametrize("end", ["delete the key", "disable the user"])
def test_an_open_socket_of_an_ended_key_is_closed_with_4401(broker: BrokerProcess, mia: Person, end: str) -> None:
    """D6"""
    key = mia.key()
    with open_socket(broker.ws_url + "/ws", token=key["key"]) as socket:
        socket.op("welcome")
        if end == "delete the key":
            assert mia.client.delete(f"/api-keys/{key['id']}").status_code == 204
        else:
            disable(mia)
        assert closed(socket) == 4401


def test_an_open_socket_has_the_new_rights(broker: BrokerProcess, mia: Person) -> None:
    """D12"""
    queue = fresh_name("orders")
    with open_socket(broker.ws_url + "/ws", token=mia.pair["access_token"]) as socket:
        socket.op("welcome")
        socket.ok("publish", queue=queue, messages=[{"content": 1}])
        assert mia.change(grants=[grant("invoices", "publish")]).status_code == 200
        assert socket.error("publish", queue=queue, messages=[{"content": 1}])["code"] == "not_found"
        assert socket.error("subscribe", queue=queue)["code"] == "not_found"
        socket.ok("publish", queue="invoices", messages=[{"content": 1}])


@pytest.mark.parametrize("end", [log_out, disable])
def test_a_parked_poll_of_an_ended_session_ends_and_takes_no_message(api: httpx.Client, mia: Person, end: End) -> None:
    """D6"""
    queue = fresh_name("orders")
    assert post(api, "/queues", {"name": queue}).status_code == 201
    with ThreadPoolExecutor(1) as pool:
        parked = pool.submit(mia.client.get, f"/queues/{queue}/messages/consume", params={"wait_ms": 25_000})
        Queue(api, queue).await_consumers(1)
        assert end(mia).is_success
        reply = parked.result(CLOSED_WITHIN_S)
    assert reply.status_code == 401 or reply.json() is None
    assert post(api, f"/queues/{queue}/messages", {"content": 1}).status_code == 201
    assert api.get(f"/queues/{queue}").json()["counts"]["pending"] == 1


# ---- across a restart


def test_what_was_ended_and_changed_stays_so_after_a_crash(tmp_path: Path) -> None:
    """D6, and D11: meanwhile the signing key was changed, and the old one is still known."""
    first, second, third = (secrets.token_hex(32) for _ in range(3))
    broker = BrokerProcess(tmp_path / "data", env={"STREAMBROKER_JWT_SECRET": first})
    with broker, broker.client() as api:
        people = {end: Person(api, f"user-{end.__name__}", grants=GRANTS) for end in ENDS}
        kept = Person(api, "user-kept", grants=GRANTS)
        key, gone = kept.key(), kept.key()
        for end, person in people.items():
            assert end(person).is_success
        assert kept.client.delete(f"/api-keys/{gone['id']}").status_code == 204
        assert kept.change(grants=[grant("invoices", "publish")]).status_code == 200
        broker.kill()

        broker.extra_env = {"STREAMBROKER_JWT_SECRET": second, "STREAMBROKER_JWT_SECRET_PREVIOUS": first}
        broker.start()
        again = httpx.Client(base_url=broker.url, timeout=30, trust_env=False)

        def get(path: str, token: str) -> httpx.Response:
            return again.get(path, headers={"Authorization": f"Bearer {token}"})

        def refresh(pair: dict[str, Any]) -> httpx.Response:
            return post(again, "/refresh", {"refresh_token": pair["refresh_token"]})

        for person in people.values():
            check_refusal(get("/users/me", person.pair["access_token"]), "unauthenticated")
            check_refusal(refresh(person.pair), "unauthenticated")
        check_refusal(get("/users/me", gone["key"]), "unauthenticated")
        assert get("/users/me", key["key"]).json()["grants"] == [grant("invoices", "publish")]
        assert get("/users/me", kept.pair["access_token"]).status_code == 200
        newer = refresh(kept.pair).json()
        broker.kill()

        broker.extra_env = {"STREAMBROKER_JWT_SECRET": third, "STREAMBROKER_JWT_SECRET_PREVIOUS": second}
        broker.start()
        again.base_url = httpx.URL(broker.url)
        check_refusal(get("/users/me", kept.pair["access_token"]), "unauthenticated")
        assert get("/users/me", newer["access_token"]).status_code == 200
        assert get("/users/me", key["key"]).status_code == 200
        again.close()


# ---- at the start


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ADMIN_PASSWORD", "admin"),
        ("JWT_SECRET", "0" * 64),
        ("JWT_SECRET", "5e1f7a90c3b2d4866f0d13a97be2c4"),
        ("JWT_SECRET", "a-string-secret-at-least-256-bits-long"),
        ("JWT_SECRET_PREVIOUS", "abc" * 20),
    ],
)
def test_a_secret_that_anybody_can_guess_refuses_to_start_and_is_not_shown(
    tmp_path: Path, variable: str, value: str
) -> None:
    """D1"""
    broker = BrokerProcess(tmp_path / "data", env={f"STREAMBROKER_{variable}": value})
    with pytest.raises(RuntimeError):
        broker.start()
    assert broker.process is not None
    assert broker.process.wait(60) == CONFIGURATION
    output = "\n".join(broker.output)
    assert variable.lower() in output
    assert value == "admin" or value not in output


def test_there_is_no_default_password(stranger: httpx.Client) -> None:
    """D1"""
    assert PASSWORD != "admin"
    check_refusal(post(stranger, "/login", {"username": "admin", "password": "admin"}), "unauthenticated")
