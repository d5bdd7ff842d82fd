"""API keys over REST and WebSocket (contract §2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.doors import eventually, fresh_name, instant
from tests.wire.people import Person, client_of, grant, patch, post, somebody
from tests.wire.problems import check_refusal
from tests.wire.sockets import open_socket

EVERYTHING = grant("*", "publish", "consume", "manage", "view")


@pytest.fixture
def mia(api: httpx.Client) -> Iterator[Person]:
    """A member that may publish to and look at orders.*"""
    with somebody(api, grants=[grant("orders.*", "publish", "view")]) as person:
        yield person


def publish(client: httpx.Client, queue: str) -> httpx.Response:
    return post(client, f"/queues/{queue}/messages", {"content": 1})


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


# ---- made, listed, deleted


def test_a_key_is_shown_once(mia: Person) -> None:
    made = mia.key()
    assert set(made) == {"id", "name", "key", "grants", "created_at", "expires_at"}
    assert re.fullmatch(r"sbk_[A-Za-z0-9_-]{43}", made["key"])
    assert (made["name"], made["grants"], made["expires_at"]) == ("worker", None, None)
    listed = mia.client.get("/api-keys")
    shown = {name: value for name, value in made.items() if name != "key"}
    assert listed.json() == {"items": [{**shown, "username": mia.name}], "next_cursor": None}
    assert made["key"] not in listed.text


def test_an_admin_sees_all_keys_and_others_their_own(api: httpx.Client, mia: Person) -> None:
    with somebody(api, role="admin") as root:
        mine, roots = mia.key(), root.key()
        assert [key["id"] for key in mia.client.get("/api-keys").json()["items"]] == [mine["id"]]
        listed = {k["id"]: k["username"] for k in root.client.get("/api-keys", params={"limit": 500}).json()["items"]}
        assert listed[mine["id"]] == mia.name
        assert listed[roots["id"]] == root.name


def test_a_key_sees_itself_and_no_other_key_of_its_user(mia: Person) -> None:
    """D12"""
    assert mia.change(role="admin").status_code == 200
    other, narrow, wide = mia.key(), mia.key(grants=[grant("orders.*", "publish")]), mia.key()
    for key in (narrow, wide):
        worker = client_of(mia.client, key["key"])
        assert [seen["id"] for seen in worker.get("/api-keys").json()["items"]] == [key["id"]]
        assert worker.get("/api-keys", params={"cursor": key["id"]}).json() == {"items": [], "next_cursor": None}
        before = worker.get("/api-keys", params={"cursor": other["id"], "limit": 1}).json()
        assert ([seen["id"] for seen in before["items"]], before["next_cursor"]) == ([key["id"]], None)


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("POST", "/users", {"username": "heir", "password": "long enough", "role": "admin"}),
        ("PATCH", "/users/admin", {"password": "long enough"}),
        ("PATCH", "/users/{name}", {"role": "admin"}),
        ("DELETE", "/users/{name}", None),
    ],
)
def test_a_key_of_an_admin_manages_no_users(
    api: httpx.Client, mia: Person, method: str, path: str, value: dict[str, Any] | None
) -> None:
    """D12"""
    assert mia.change(role="admin").status_code == 200
    worker = client_of(mia.client, mia.key()["key"])
    with somebody(api) as other:
        refusal = check_refusal(worker.request(method, path.format(name=other.name), json=value), "forbidden")
        assert "log in to manage users" in refusal["detail"]
        assert api.get(other.path).json()["role"] == "member"
        assert worker.get(other.path).status_code == 200
    check_refusal(api.get("/users/heir"), "not_found")


def test_keys_are_listed_page_by_page(mia: Person) -> None:
    made = [mia.key(name=f"worker {n}")["id"] for n in range(3)]
    first = mia.client.get("/api-keys", params={"limit": 2}).json()
    rest = mia.client.get("/api-keys", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [key["id"] for page in (first, rest) for key in page["items"]] == sorted(made)
    assert rest["next_cursor"] is None
    check_refusal(mia.client.get("/api-keys", params={"cursor": "x"}), "invalid", pointer="/cursor")


def test_a_deleted_key_is_refused_at_once(mia: Person) -> None:
    """D6"""
    made = mia.key()
    worker = client_of(mia.client, made["key"])
    assert worker.get("/users/me").status_code == 200
    assert mia.client.delete(f"/api-keys/{made['id']}").status_code == 204
    check_refusal(worker.get("/users/me"), "unauthenticated")
    check_refusal(mia.client.delete(f"/api-keys/{made['id']}"), "not_found")
    assert mia.client.get("/api-keys").json()["items"] == []


def test_others_keys_are_not_there_but_for_an_admin(api: httpx.Client, mia: Person) -> None:
    """D12"""
    made = mia.key()
    with somebody(api) as eve:
        check_refusal(eve.client.delete(f"/api-keys/{made['id']}"), "not_found")
        assert eve.client.get("/api-keys").json()["items"] == []
    assert client_of(mia.client, made["key"]).get("/users/me").status_code == 200
    assert api.delete(f"/api-keys/{made['id']}").status_code == 204


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 129}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "a\u202eb"}, "/name"),
        ({"name": "a\u0000"}, "/name"),
        ({"name": None}, "/name"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
        ({"grants": [{"queues": "", "actions": ["view"]}]}, "/grants/0/queues"),
        ({"grants": [EVERYTHING] * 101}, "/grants"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
        ({"expires_at": 4102444800000}, "/expires_at"),
        ({"role": "admin"}, "/role"),
        ({"username": "admin"}, "/username"),
    ],
)
def test_a_bad_field_is_refused_by_name(mia: Person, fields: dict[str, Any], pointer: str) -> None:
    check_refusal(post(mia.client, "/api-keys", {"name": "worker", **fields}), "invalid", pointer=pointer)
    assert mia.client.get("/api-keys").json()["items"] == []


def test_a_name_may_be_in_any_script(mia: Person) -> None:
    assert mia.key(name="Büro 3 – 東京")["name"] == "Büro 3 – 東京"


# ---- what a key may


def test_a_key_without_grants_may_what_its_user_may_at_the_moment(mia: Person) -> None:
    worker = client_of(mia.client, mia.key()["key"])
    assert publish(worker, "orders.keys").status_code == 201
    check_refusal(worker.get("/queues/orders.keys/messages/consume"), "forbidden")
    check_refusal(publish(worker, "invoices.keys"), "not_found")
    assert mia.change(grants=[grant("invoices.*", "publish")]).status_code == 200
    check_refusal(publish(worker, "orders.keys"), "not_found")
    assert publish(worker, "invoices.keys").status_code == 201
    assert mia.change(role="admin").status_code == 200
    assert worker.get("/users").status_code == 200


def test_a_key_with_grants_may_what_both_allow(mia: Person) -> None:
    worker = client_of(mia.client, mia.key(grants=[grant("*", "publish", "consume")])["key"])
    assert publish(worker, "orders.both").status_code == 201
    check_refusal(worker.get("/queues/orders.both"), "forbidden")  # the user may, the key may not
    check_refusal(worker.get("/queues/orders.both/messages/consume"), "forbidden")  # the key may, the user may not
    check_refusal(publish(worker, "invoices.both"), "not_found")


def test_an_admins_key_with_grants_is_a_member_with_just_these(api: httpx.Client) -> None:
    with somebody(api, role="admin") as root:
        worker = client_of(api, root.key(grants=[grant("orders.*", "publish")])["key"])
        assert publish(worker, "orders.admins").status_code == 201
        check_refusal(worker.get("/queues/orders.admins"), "forbidden")
        check_refusal(publish(worker, "invoices.admins"), "not_found")
        check_refusal(worker.get("/users"), "forbidden")
        assert [key["username"] for key in worker.get("/api-keys").json()["items"]] == [root.name]


def test_a_key_tells_who_it_is(mia: Person) -> None:
    end, grants = later(hours=1), [grant("orders.eu", "view")]
    made = mia.key(name="reader", grants=grants, expires_at=end)
    me = client_of(mia.client, made["key"]).get("/users/me").json()
    assert me.pop("credential") == {
        "kind": "api_key",
        "id": made["id"],
        "name": "reader",
        "grants": grants,
        "expires_at": made["expires_at"],
    }
    assert instant(made["expires_at"]) == pytest.approx(datetime.fromisoformat(end).timestamp(), abs=0.002)
    assert me == mia.shown


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("POST", "/api-keys", "log in"),
        ("DELETE", "/api-keys/{id}", "log in"),
        ("POST", "/logout", "DELETE /api-keys"),
        ("POST", "/users/me/password", "log in"),
    ],
)
def test_a_key_makes_and_ends_no_credentials(mia: Person, method: str, path: str, hint: str) -> None:
    assert mia.change(role="admin").status_code == 200
    made = mia.key()
    worker = client_of(mia.client, made["key"])
    refusal = check_refusal(worker.request(method, path.format(id=made["id"])), "forbidden")
    assert hint in refusal["detail"]
    assert worker.get("/users/me").status_code == 200


def test_a_key_outlives_logouts_and_passwords_and_rests_with_its_user(mia: Person) -> None:
    worker = client_of(mia.client, mia.key()["key"])
    mia.client.post("/logout")
    assert mia.change(password="another secret").status_code == 200
    assert worker.get("/users/me").status_code == 200
    assert mia.change(disabled=True).status_code == 200
    check_refusal(worker.get("/users/me"), "unauthenticated")
    assert mia.change(disabled=False).status_code == 200
    assert worker.get("/users/me").status_code == 200
    assert mia.admin.delete(mia.path).status_code == 204
    check_refusal(worker.get("/users/me"), "unauthenticated")


def test_a_key_ends_by_itself(mia: Person) -> None:
    worker = client_of(mia.client, mia.key(expires_at=later(seconds=4))["key"])
    reply = eventually(lambda: worker.get("/users/me"), lambda reply: reply.status_code != 200)
    assert "expired" in check_refusal(reply, "unauthenticated")["detail"]


def test_a_hundred_keys_are_the_most(mia: Person) -> None:
    """D32"""
    for n in range(100):
        mia.key(name=f"worker {n}")
    refusal = check_refusal(post(mia.client, "/api-keys", {"name": "one more"}), "rate_limited")
    assert "100 API keys" in refusal["detail"]
    assert len(mia.client.get("/api-keys", params={"limit": 500}).json()["items"]) == 100


@pytest.mark.parametrize("bad", ["sbk_", "sbk_nope", "sbk_" + "A" * 43, "sbk_" + "A" * 5000, "SBK_" + "A" * 43])
def test_what_is_no_key_lets_nobody_in(api: httpx.Client, bad: str) -> None:
    check_refusal(client_of(api, bad).get("/users/me"), "unauthenticated")


# ---- and on a WebSocket


def test_a_key_opens_a_websocket_and_may_there_what_it_may_elsewhere(broker: BrokerProcess, mia: Person) -> None:
    key = mia.key(grants=[grant("*", "publish", "consume")])["key"]
    for options in ({"token": key}, {"subprotocols": [f"bearer.{key}"]}):
        with open_socket(broker.ws_url + "/ws", **options) as socket:
            assert "expires_in" not in socket.op("welcome")  # a key without an end
            socket.ok("publish", queue="orders.socket", messages=[{"content": 1}])
            for number, (queue, code) in enumerate({"orders.socket": "forbidden", "invoices": "not_found"}.items(), 50):
                socket.send({"op": "subscribe", "id": number, "sub": f"s{number}", "queue": queue})
                assert socket.answer(number)["problem"]["code"] == code


def test_a_lease_belongs_to_the_user_and_not_to_the_key(api: httpx.Client, mia: Person) -> None:
    queue = fresh_name("orders.lease")
    assert mia.change(grants=[EVERYTHING]).status_code == 200
    message_id = publish(mia.client, queue).json()["message_id"]
    assert client_of(api, mia.key()["key"]).get(f"/queues/{queue}/messages/consume").json()["message_id"] == message_id
    check_refusal(post(api, f"/messages/{message_id}/ack", {}), "lease_lost")
    assert post(client_of(api, mia.key()["key"]), f"/messages/{message_id}/ack", {}).status_code == 200
    assert patch(api, mia.path, {"grants": []}).status_code == 200
