"""Who gets in, who does not, and what somebody without rights sees."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.wire.doors import Queue, fresh_name
from tests.wire.people import SECRET, Person, grant

Visit = Callable[..., Dashboard]


def test_the_right_password_opens_the_overview(visit: Visit) -> None:
    dashboard = visit(log_in=False).log_in()
    expect(dashboard("page-overview")).to_be_visible()
    expect(dashboard("account")).to_contain_text("admin")


def test_a_wrong_password_says_so_and_shows_nothing(visit: Visit) -> None:
    dashboard = visit(log_in=False)
    dashboard.page.goto(dashboard.url)
    dashboard.fill_login("admin", "not the password")
    expect(dashboard("login-error")).to_have_text("Username or password is not right.")
    expect(dashboard.rows("nav-")).to_have_count(0)
    assert dashboard.focused() == "login-password"


def test_without_login_every_address_is_the_login_form(visit: Visit) -> None:
    dashboard = visit(log_in=False)
    for route in ("", "queues", "consumers", "users", "keys", "logs"):
        dashboard.page.goto(f"{dashboard.url}#/{route}")
        dashboard.page.reload()
        expect(dashboard("login-form")).to_be_visible()
        expect(dashboard.rows("page-")).to_have_count(0)


def test_a_reload_keeps_the_login_and_another_tab_has_none(visit: Visit) -> None:
    dashboard = visit()
    dashboard.open("queues")
    dashboard.page.reload()
    expect(dashboard("page-queues")).to_be_visible()
    stranger = Dashboard(dashboard.page.context.new_page(), dashboard.url.removesuffix("/dashboard"))
    stranger.page.goto(stranger.url)
    expect(stranger("login-form")).to_be_visible()


def test_logging_out_ends_the_session_on_the_broker(visit: Visit, api: httpx.Client) -> None:
    dashboard = visit()
    stored = "JSON.parse(Object.values(sessionStorage)[0]).access"
    token = dashboard.page.evaluate(stored)
    bearer = {"Authorization": f"Bearer {token}"}
    assert api.get("/users/me", headers=bearer).status_code == 200
    dashboard("logout").click()
    expect(dashboard("login-form")).to_be_visible()
    expect(dashboard("login-error")).to_have_text("You are logged out.")
    assert api.get("/users/me", headers=bearer).status_code == 401
    assert dashboard.page.evaluate("sessionStorage.length") == 0
    dashboard.page.go_back()
    expect(dashboard.rows("page-")).to_have_count(0)


def test_no_token_is_in_an_address_a_cookie_or_the_local_storage(visit: Visit) -> None:
    dashboard = visit(log_in=False)
    addresses: list[str] = []
    dashboard.page.on("request", lambda request: addresses.append(request.url))
    dashboard.page.on("websocket", lambda socket: addresses.append(socket.url))
    dashboard.log_in().open("queues")
    token = dashboard.page.evaluate("JSON.parse(Object.values(sessionStorage)[0]).access")
    assert any(address.endswith("/dashboard/ws") for address in addresses)
    assert [address for address in addresses if token in address or "?token" in address] == []
    assert dashboard.page.context.cookies() == []
    assert token not in dashboard.page.evaluate("JSON.stringify(localStorage) + location.href")


@pytest.fixture
def hidden(api: httpx.Client) -> Queue:
    """A queue that the member of a test may not see, with a message in it."""
    queue = Queue(api, fresh_name("hidden"), lease_ms=60_000)
    queue.publish({"secret": "of the others"})
    return queue


def test_a_member_without_grants_sees_no_queue_no_figure_and_no_other_user(
    visit: Visit, api: httpx.Client, hidden: Queue
) -> None:
    member = Person(api, "nobody-yet", role="member", grants=[])
    dashboard = visit(log_in=False).log_in(member.name, SECRET)
    expect(dashboard("card-pending-value")).to_have_text("0")
    dashboard.open("queues")
    expect(dashboard("page-queues").get_by_test_id("state-empty")).to_be_visible()
    expect(dashboard("queue-create")).to_have_count(0)
    dashboard.open("consumers")
    expect(dashboard("page-consumers").get_by_test_id("state-empty")).to_be_visible()
    dashboard.open("users")
    expect(dashboard("own-account")).to_contain_text(member.name)
    expect(dashboard("users-table")).to_have_count(0)
    expect(dashboard("user-create")).to_have_count(0)
    expect(dashboard("nav-logs")).to_have_count(0)
    dashboard.open("logs")
    expect(dashboard("page-logs").get_by_test_id("state-error")).to_be_visible()
    for route in (f"queues/{hidden.name}", f"messages/{hidden.browse()[0]['message_id']}"):
        dashboard.open(route, route.split("/")[0].removesuffix("s"))
        expect(dashboard.rows("state-e")).to_be_visible()
        expect(dashboard.page.get_by_text("of the others")).to_have_count(0)


def test_a_member_sees_its_own_queues_and_only_the_actions_it_may_take(
    visit: Visit, api: httpx.Client, queue: Queue, hidden: Queue
) -> None:
    queue.publish(1)
    member = Person(api, "looker", role="member", grants=[grant(queue.name, "view")])
    dashboard = visit(log_in=False).log_in(member.name, SECRET)
    dashboard.open("queues")
    expect(dashboard(f"queue-row-{queue.name}")).to_be_visible()
    expect(dashboard.rows("queue-row-")).to_have_count(1)
    expect(dashboard.rows("queue-actions-")).to_have_count(0)
    dashboard.open_queue(queue.name)
    expect(dashboard("queue-figure-pending")).to_have_text("1")
    expect(dashboard("publish-open")).to_be_hidden()
    dashboard.open_message(queue.browse()[0]["message_id"])
    expect(dashboard("content-tree")).to_be_visible()
    expect(dashboard.rows("action-")).to_have_count(0)
