"""The broker's own log: found, searched, followed; for admins."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard

FAILED_LOGIN = "login failed for 'admin'"


def fail_a_login(api: httpx.Client) -> None:
    """Something that the broker writes down, as a warning."""
    credentials = {"username": "admin", "password": "a guess"}
    assert httpx.post(f"{api.base_url}/login", json=credentials, timeout=30, trust_env=False).status_code == 401


def test_a_word_and_a_level_narrow_the_lines(dashboard: Dashboard, api: httpx.Client) -> None:
    fail_a_login(api)
    dashboard.open("logs")
    lines = dashboard("log-lines").locator("li")
    expect(lines.first).to_be_visible()
    all_lines = lines.count()
    dashboard.fill(log_filter=FAILED_LOGIN)
    dashboard.until(lines.count, lambda count: 0 < count < all_lines)
    dashboard.fill(log_filter="nothing says this")
    expect(dashboard("page-logs").get_by_test_id("state-empty")).to_be_visible()
    dashboard.fill(log_filter="")
    dashboard("log-level").select_option("warning")
    dashboard.until(
        lambda: set(lines.evaluate_all("all => all.map((line) => line.dataset.level)")),
        lambda levels: not levels & {"debug", "info"},
    )


def test_the_end_of_the_log_is_followed(dashboard: Dashboard, api: httpx.Client) -> None:
    dashboard.open("logs")
    expect(dashboard("log-lines").locator("li").first).to_be_visible()
    told = dashboard("log-lines").locator("li").filter(has_text=FAILED_LOGIN)
    before = told.count()
    dashboard("log-follow").click()
    fail_a_login(api)
    dashboard.until(told.count, lambda count: count > before)


def test_the_files_are_those_of_the_broker(dashboard: Dashboard, api: httpx.Client) -> None:
    dashboard.open("logs")
    for file in api.get("/logs").json()["items"]:
        expect(dashboard(f"log-file-{file['name']}")).to_be_visible()
