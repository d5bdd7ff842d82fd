"""Logins that end, are renewed or are shared by tabs while the dashboard is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.people import SECRET, Person, grant, patch, somebody

Visit = Callable[..., Dashboard]

STORED = "JSON.parse(sessionStorage.getItem('streambroker.session'))"


@pytest.fixture
def hasty(chromium: str, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker of this test alone, whose access tokens live for three seconds."""
    with BrokerProcess(tmp_path / "data", env={**NO_LIMITS, "STREAMBROKER_ACCESS_TOKEN_MS": "3000"}) as running:
        running.port = urlsplit(running.url).port or 0
        yield running


def token(dashboard: Dashboard) -> str:
    return str(dashboard.page.evaluate(f"{STORED}.access"))


def test_a_token_that_expired_while_the_broker_was_away_is_renewed(visit: Visit, hasty: BrokerProcess) -> None:
    dashboard = visit(hasty)
    before = token(dashboard)
    hasty.terminate()
    expect(dashboard("state-reconnecting")).to_be_visible()
    dashboard.until(lambda: dashboard.page.evaluate(f"Date.now() > {STORED}.endsAt"))
    hasty.start()
    expect(dashboard("connection-state")).to_have_attribute("data-state", "open")
    expect(dashboard("state-reconnecting")).to_be_hidden()
    assert token(dashboard) != before
    expect(dashboard("login-form")).to_have_count(0)


def test_a_login_that_ended_while_the_broker_was_away_leads_to_the_form(visit: Visit, hasty: BrokerProcess) -> None:
    with hasty.client() as client:
        Person(client, "ana", role="member", grants=[grant("mine*", "view")])
    dashboard = visit(hasty, log_in=False).log_in("ana", SECRET)
    before = token(dashboard)
    hasty.terminate()
    expect(dashboard("state-reconnecting")).to_be_visible()
    port, hasty.port = hasty.port, 0  # where the dashboard does not find it
    hasty.start()
    with hasty.client() as client:
        for disabled in (True, False):  # which ends the sessions of the user
            assert patch(client, "/users/ana", {"disabled": disabled}).status_code == 200
    hasty.terminate()
    hasty.port = port
    hasty.start()
    expect(dashboard("login-form")).to_be_visible()
    expect(dashboard("login-error")).not_to_be_empty()
    assert before not in dashboard.page.evaluate("JSON.stringify(sessionStorage)")
    dashboard.fill_login("ana", SECRET)
    expect(dashboard("connection-state")).to_have_attribute("data-state", "open")


def test_two_tabs_of_one_login_outlive_many_tokens_and_end_together(visit: Visit, hasty: BrokerProcess) -> None:
    first = visit(hasty)
    with first.page.expect_popup() as opened:
        first.page.evaluate("open(location.href)")
    second = Dashboard(opened.value, hasty.url)
    expect(second("connection-state")).to_have_attribute("data-state", "open")
    seen: set[str] = set()

    def count() -> int:
        seen.update((token(first), token(second)))
        return len(seen)

    first.until(count, lambda tokens: tokens >= 4)
    for tab in (first, second):
        expect(tab("connection-state")).to_have_attribute("data-state", "open")
    second("logout").click()
    for tab in (second, first):
        expect(tab("login-form")).to_be_visible()


def test_a_user_who_is_disabled_is_thrown_out_and_told(visit: Visit, api: httpx.Client) -> None:
    with somebody(api, role="member", grants=[grant("mine*", "view")]) as member:
        dashboard = visit(log_in=False).log_in(member.name, SECRET)
        dashboard.open("queues")
        assert member.change(disabled=True).status_code == 200
        expect(dashboard("login-form")).to_be_visible()
        expect(dashboard("login-error")).not_to_be_empty()
        expect(dashboard.rows("page-")).to_have_count(0)
