"""Users over REST: what admins do to them, and what users do to themselves (contract §2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.harness import PASSWORD
from tests.wire.doors import fresh_name, instant
from tests.wire.people import SECRET, Person, client_of, grant, patch, post, somebody
from tests.wire.problems import check_refusal

FIELDS = {"username", "role", "grants", "disabled", "created_at", "updated_at"}


@pytest.fixture
def mia(api: httpx.Client) -> Iterator[Person]:
    """A member that may publish to orders.*"""
    with somebody(api, grants=[grant("orders.*", "publish")]) as person:
        yield person


# ---- made, looked at, changed, deleted


def test_a_new_user_is_a_member_without_a_right_unless_told(api: httpx.Client) -> None:
    with somebody(api) as person:
        assert set(person.shown) == FIELDS
        assert (person.shown["role"], person.shown["grants"], person.shown["disabled"]) == ("member", [], False)
        assert instant(person.shown["created_at"]) == instant(person.shown["updated_at"])
        assert api.get(person.path).json() == person.shown
        assert SECRET not in api.get(person.path).text
        assert person.client.get("/queues").json()["items"] == []


def test_a_user_is_shown_as_it_was_made(api: httpx.Client) -> None:
    grants = [grant("orders.*", "publish", "view"), grant("in?oices", "consume")]
    with somebody(api, role="admin", grants=grants) as person:
        assert (person.shown["role"], person.shown["grants"]) == ("admin", grants)


def test_a_name_that_is_taken_is_a_conflict_and_changes_nothing(api: httpx.Client, mia: Person) -> None:
    check_refusal(post(api, "/users", {"username": mia.name, "password": "another secret"}), "conflict")
    assert mia.try_to_log_in().status_code == 200
    check_refusal(post(api, "/users", {"username": "admin", "password": "another secret"}), "conflict")


@pytest.mark.parametrize("name", ["a", "_", "ann@example.com", "a+b", "A-1", "x" * 128, "0"])
def test_a_name_may_be_a_mail_address(api: httpx.Client, name: str) -> None:
    reply = post(api, "/users", {"username": name, "password": SECRET})
    assert reply.status_code == 201, reply.text
    assert api.get(f"/users/{name}").json()["username"] == name
    assert api.delete(f"/users/{name}").status_code == 204


BAD_NAMES = ["", "me", ".a", "-a", "@a", "a b", "a/b", "ä", "a\n", "a\u0000", "x" * 129, "<img>", 7, None]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused(api: httpx.Client, name: Any) -> None:
    check_refusal(post(api, "/users", {"username": name, "password": SECRET}), "invalid", pointer="/username")


@pytest.mark.parametrize("password", ["", "7 chars", "x" * 1025, "ü" * 513, 12345678, None])
def test_what_is_no_password_is_refused(api: httpx.Client, mia: Person, password: Any) -> None:
    made = post(api, "/users", {"username": fresh_name("user"), "password": password})
    check_refusal(made, "invalid", pointer="/password")
    check_refusal(mia.change(password=password), "invalid", pointer="/password")
    changed = post(mia.client, "/users/me/password", {"current_password": SECRET, "new_password": password})
    check_refusal(changed, "invalid", pointer="/new_password")


def test_the_user_name_is_no_password(api: httpx.Client) -> None:
    reply = post(api, "/users", {"username": "long-enough", "password": "long-enough"})
    check_refusal(reply, "invalid", pointer="/password")


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("role", "root", "/role"),
        ("role", None, "/role"),
        ("grants", None, "/grants"),
        ("grants", [{"queues": "a/b", "actions": ["view"]}], "/grants/0/queues"),
        ("grants", [{"queues": "a", "actions": []}], "/grants/0/actions"),
        ("grants", [{"queues": "a", "actions": ["own"]}], "/grants/0/actions/0"),
        ("grants", [{"queues": "a", "actions": ["view"], "more": 1}], "/grants/0/more"),
        ("grants", [{"queues": "a", "actions": ["view"]}] * 101, "/grants"),
        ("more", 1, "/more"),
    ],
)
def test_a_bad_field_is_refused_by_name(api: httpx.Client, mia: Person, field: str, value: Any, pointer: str) -> None:
    made = post(api, "/users", {"username": fresh_name("user"), "password": SECRET, field: value})
    check_refusal(made, "invalid", pointer=pointer)
    check_refusal(mia.change(**{field: value}), "invalid", pointer=pointer)


def test_a_change_leaves_what_it_does_not_name(api: httpx.Client, mia: Person) -> None:
    grants = [grant("invoices", "view")]
    reply = mia.change(grants=grants)
    assert reply.status_code == 200, reply.text
    changed = reply.json()
    assert changed == {**mia.shown, "grants": grants, "updated_at": changed["updated_at"]}
    assert mia.change(role="admin").json()["grants"] == grants
    assert api.get(mia.path).json()["role"] == "admin"
    assert mia.change().status_code == 200
    assert api.get(mia.path).json()["role"] == "admin"


def test_a_deleted_user_is_gone(api: httpx.Client, mia: Person) -> None:
    assert api.delete(mia.path).status_code == 204
    for reply in (api.get(mia.path), api.delete(mia.path), mia.change(disabled=True)):
        check_refusal(reply, "not_found")
    check_refusal(mia.try_to_log_in(), "unauthenticated")


def test_a_path_that_names_no_user_is_refused(api: httpx.Client) -> None:
    check_refusal(api.get("/users/nobody-of-this-name"), "not_found")
    for name in ("%20", ".a", "a%0A", "x" * 129, "%E2%80%AE"):
        check_refusal(api.get(f"/users/{name}"), "invalid", pointer="/username")


def test_users_are_listed_by_name_page_by_page(api: httpx.Client) -> None:
    with somebody(api) as first, somebody(api) as second:
        seen: list[str] = []
        cursor = None
        while True:
            page = api.get("/users", params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
            assert set(page) == {"items", "next_cursor"}
            assert len(page["items"]) == 1
            assert set(page["items"][0]) == FIELDS
            seen.append(page["items"][0]["username"])
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == sorted(seen)
        assert {"admin", first.name, second.name} <= set(seen)


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "501"}, {"cursor": "a/b"}, {"cursor": ""}, {"more": "1"}])
def test_a_bad_page_is_refused(api: httpx.Client, params: dict[str, str]) -> None:
    check_refusal(api.get("/users", params=params), "invalid", names=next(iter(params)))


# ---- who may


REQUESTS = [
    ("GET", "/users"),
    ("POST", "/users"),
    ("GET", "/users/{name}"),
    ("PATCH", "/users/{name}"),
    ("DELETE", "/users/{name}"),
    ("GET", "/users/admin"),
    ("PATCH", "/users/admin"),
    ("DELETE", "/users/admin"),
    ("GET", "/users/nobody"),
    ("GET", "/users/%20"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_who_is_no_admin_hears_403_whatever_is_there(mia: Person, method: str, path: str) -> None:
    """D12"""
    key = mia.key(grants=[grant("*", "publish", "consume", "manage", "view")])["key"]
    for client in (mia.client, client_of(mia.client, key)):
        reply = client.request(method, path.format(name=mia.name), content=b"not JSON")
        check_refusal(reply, "forbidden")


@pytest.mark.parametrize(("method", "path"), [*REQUESTS, ("GET", "/users/me"), ("POST", "/users/me/password")])
def test_a_stranger_hears_401(stranger: httpx.Client, method: str, path: str) -> None:
    check_refusal(stranger.request(method, path.format(name="admin")), "unauthenticated")


def test_another_admin_may_all_of_it(api: httpx.Client, mia: Person) -> None:
    with somebody(api, role="admin") as other:
        assert other.client.get(mia.path).status_code == 200
        assert patch(other.client, mia.path, {"disabled": True}).status_code == 200
        assert other.client.delete(mia.path).status_code == 204


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "member"}, None])
def test_the_last_admin_stays(api: httpx.Client, change: dict[str, Any] | None) -> None:
    with somebody(api, role="admin") as other:
        assert other.change(disabled=True).status_code == 200
        reply = api.delete("/users/admin") if change is None else patch(api, "/users/admin", change)
        assert "last admin" in check_refusal(reply, "conflict")["detail"]
        shown = api.get("/users/admin").json()
        assert (shown["role"], shown["disabled"]) == ("admin", False)


def test_a_member_may_do_what_its_grants_say_and_no_more(mia: Person) -> None:
    """D12"""
    assert post(mia.client, "/queues/orders.wire/messages", {"content": 1}).status_code == 201
    check_refusal(mia.client.get("/queues/orders.wire/messages/consume"), "forbidden")
    check_refusal(mia.client.delete("/queues/orders.wire"), "forbidden")
    check_refusal(post(mia.client, "/queues/invoices.wire/messages", {"content": 1}), "not_found")


# ---- oneself


def test_a_session_tells_who_it_is(mia: Person) -> None:
    me = mia.client.get("/users/me").json()
    credential = me.pop("credential")
    assert me == mia.shown
    assert set(credential) == {"kind", "id", "name", "grants", "expires_at"}
    assert (credential["kind"], credential["name"], credential["grants"]) == ("session", None, None)
    assert credential["id"]
    assert instant(credential["expires_at"]) > instant(me["created_at"])


def test_a_new_password_ends_every_session_and_answers_a_new_one(mia: Person) -> None:
    """D6"""
    other = mia.log_in()
    reply = post(mia.client, "/users/me/password", {"current_password": SECRET, "new_password": "a newer secret"})
    assert reply.status_code == 200, reply.text
    pair = reply.json()
    assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in"}
    for old in (mia.pair, other):
        check_refusal(client_of(mia.client, old["access_token"]).get("/users/me"), "unauthenticated")
        check_refusal(mia.refresh(old), "unauthenticated")
    assert client_of(mia.client, pair["access_token"]).get("/users/me").status_code == 200
    assert mia.refresh(pair).status_code == 200
    check_refusal(mia.try_to_log_in(), "unauthenticated")
    assert mia.try_to_log_in("a newer secret").status_code == 200


def test_a_wrong_current_password_is_403_and_the_session_goes_on(mia: Person) -> None:
    reply = post(mia.client, "/users/me/password", {"current_password": PASSWORD, "new_password": "a newer secret"})
    check_refusal(reply, "forbidden")
    assert mia.client.get("/users/me").status_code == 200
    assert mia.try_to_log_in().status_code == 200


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"new_password": "a newer secret"}, "/current_password"),
        ({"current_password": SECRET}, "/new_password"),
        ({"current_password": "x" * 1_025, "new_password": "a newer secret"}, "/current_password"),
        ({"current_password": SECRET, "new_password": "a newer secret", "more": 1}, "/more"),
    ],
)
def test_a_bad_change_of_password_is_refused_by_field(mia: Person, value: Any, pointer: str) -> None:
    check_refusal(post(mia.client, "/users/me/password", value), "invalid", pointer=pointer)


def test_what_stands_for_the_caller_is_no_user(api: httpx.Client) -> None:
    for reply in (patch(api, "/users/me", {"disabled": True}), api.delete("/users/me")):
        assert "GET" in check_refusal(reply, "method_not_allowed")["detail"]
    assert api.get("/users/me").json()["username"] == "admin"
