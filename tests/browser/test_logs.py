"""The broker's own log: found, searched, followed; for admins."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.wire.doors import fresh_name


def fail_a_login(api: httpx.Client) -> str:
    """Something that the broker writes down; the request id by which it is found in the log."""
    request_id = fresh_name("guess")
    credentials = {"username": "admin", "password": "a guess"}
    headers = {"X-Request-ID": request_id}
    refused = httpx.post(f"{api.base_url}/login", json=credentials, headers=headers, timeout=30, trust_env=False)
    assert refused.status_code == 401
    return request_id


def test_a_word_and_a_level_narrow_the_lines(dashboard: Dashboard, api: httpx.Client) -> None:
    request_id = fail_a_login(api)
    dashboard.open("logs")
    lines = dashboard("log-lines").locator("li")
    expect(lines.first).to_be_visible()
    all_lines = lines.count()
    dashboard.fill(log_filter=request_id)
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
    dashboard("log-follow").click()
    name = fail_a_login(api)
    expect(dashboard("log-lines").locator("li").filter(has_text=name).first).to_be_visible()


def test_the_files_are_those_of_the_broker(dashboard: Dashboard, api: httpx.Client) -> None:
    dashboard.open("logs")
    for file in api.get("/logs").json()["items"]:
        expect(dashboard(f"log-file-{file['name']}")).to_be_visible()
