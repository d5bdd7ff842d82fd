"""Users, API keys and one's own password, with what the broker made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.wire.doors import fresh_name
from tests.wire.people import SECRET, Person, grant

Visit = Callable[..., Dashboard]


@pytest.fixture
def username(api: httpx.Client) -> Iterator[str]:
    """The name of a user to be; gone afterwards."""
    name = fresh_name("eve")
    yield name
    api.delete(f"/users/{name}")


def login(api: httpx.Client, username: str, password: str) -> int:
    credentials = {"username": username, "password": password}
    return httpx.post(f"{api.base_url}/login", json=credentials, timeout=30, trust_env=False).status_code


def test_the_admin_makes_a_user_with_grants(dashboard: Dashboard, api: httpx.Client, username: str) -> None:
    dashboard.open("users")
    dashboard("user-create").click()
    dashboard.fill(user_field_username=username, user_field_password="short")
    dashboard.confirm_in_vain()
    expect(dashboard("user-field-password")).to_have_attribute("aria-invalid", "true")
    dashboard.fill(user_field_password=SECRET)
    dashboard("grant-add").click()
    dashboard.fill(grant_queues="mail.*")
    dashboard("grant-consume").check()
    dashboard.confirm()
    expect(dashboard(f"user-row-{username}")).to_contain_text("mail.*")
    granted = api.get(f"/users/{username}").json()["grants"]
    assert [(one["queues"], sorted(one["actions"])) for one in granted] == [("mail.*", ["consume", "view"])]
    assert login(api, username, SECRET) == 200


def test_the_admin_changes_disables_and_deletes_a_user(dashboard: Dashboard, api: httpx.Client, username: str) -> None:
    Person(api, username, role="member", grants=[grant("a", "view")])
    dashboard.open("users")
    dashboard(f"user-edit-{username}").click()
    dashboard("grant-remove").click()
    dashboard("user-field-role").select_option("admin")
    dashboard.fill(user_field_password="another secret of theirs")
    dashboard.confirm()
    changed = api.get(f"/users/{username}").json()
    assert (changed["role"], changed["grants"]) == ("admin", [])
    assert login(api, username, "another secret of theirs") == 200
    dashboard(f"user-disable-{username}").click()
    dashboard.confirm()
    expect(dashboard(f"user-row-{username}").get_by_test_id("user-disabled")).to_be_visible()
    assert login(api, username, "another secret of theirs") == 401
    dashboard(f"user-enable-{username}").click()
    dashboard.confirm()
    expect(dashboard(f"user-disable-{username}")).to_be_visible()
    dashboard(f"user-delete-{username}").click()
    expect(dashboard("dialog-confirm")).to_be_disabled()
    dashboard.fill(dialog_typed=username)
    dashboard.confirm()
    expect(dashboard(f"user-row-{username}")).to_have_count(0)
    assert api.get(f"/users/{username}").status_code == 404


def test_the_last_admin_cannot_be_deleted(dashboard: Dashboard, api: httpx.Client) -> None:
    dashboard.open("users")
    dashboard("user-delete-admin").click()
    dashboard.fill(dialog_typed="admin")
    dashboard.confirm_in_vain()
    assert api.get("/users/admin").status_code == 200


def test_ones_own_password_is_changed_and_one_stays_logged_in(visit: Visit, api: httpx.Client, username: str) -> None:
    Person(api, username, role="member", grants=[])
    dashboard = visit(log_in=False).log_in(username, SECRET)
    dashboard.open("users")
    dashboard("password-change").click()
    dashboard.fill(password_current=SECRET, password_new="a new secret 1", password_again="a new secret 2")
    dashboard.confirm_in_vain()
    expect(dashboard("password-again")).to_have_attribute("aria-invalid", "true")
    dashboard.fill(password_again="a new secret 1")
    dashboard.confirm()
    expect(dashboard("connection-state")).to_have_attribute("data-state", "open")
    expect(dashboard("own-account")).to_be_visible()
    assert (login(api, username, SECRET), login(api, username, "a new secret 1")) == (401, 200)


def test_a_key_is_shown_once_and_works_until_it_is_deleted(dashboard: Dashboard, api: httpx.Client) -> None:
    name = fresh_name("mailer")
    dashboard.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dashboard.open("keys")
    dashboard("key-create").click()
    dashboard.fill(key_field_name=name, grant_queues="mail.*")
    dashboard("dialog-confirm").click()
    secret = dashboard("key-secret").inner_text()
    dashboard("key-copy").click()
    dashboard.until(lambda: dashboard.page.evaluate("navigator.clipboard.readText()"), lambda text: text == secret)
    dashboard("dialog-cancel").click()
    expect(dashboard("key-secret")).to_have_count(0)
    assert dashboard.focused() == "key-create"
    bearer = {"Authorization": f"Bearer {secret}"}
    assert api.get("/users/me", headers=bearer).status_code == 200
    row = dashboard.rows("key-row-").filter(has_text=name)
    expect(row).to_contain_text("mail.*")
    assert secret not in dashboard.page.content()
    row.get_by_role("button").click()
    dashboard.confirm()
    expect(row).to_have_count(0)
    assert api.get("/users/me", headers=bearer).status_code == 401


def test_a_key_may_end_and_may_do_what_its_owner_may(dashboard: Dashboard, api: httpx.Client) -> None:
    name = fresh_name("scraper")
    dashboard.open("keys")
    dashboard("key-create").click()
    dashboard.fill(key_field_name=name, key_field_expires="2099-01-01T00:00")
    dashboard("key-field-limited").uncheck()
    expect(dashboard("grants")).to_be_hidden()
    dashboard("dialog-confirm").click()
    dashboard("key-created").get_by_test_id("dialog-cancel").click()
    expect(dashboard.rows("key-row-").filter(has_text=name)).to_contain_text("2099")
    made = next(key for key in api.get("/api-keys", params={"limit": 500}).json()["items"] if key["name"] == name)
    assert made["grants"] is None
    assert made["expires_at"].startswith(("2098-12-31", "2099-01-01"))
    api.delete(f"/api-keys/{made['id']}")
