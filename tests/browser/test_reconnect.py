"""A broker that goes away and comes back under an open dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue

Visit = Callable[..., Dashboard]


@pytest.fixture
def mortal(chromium: str, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker of this test alone, which keeps its port over restarts."""
    with BrokerProcess(tmp_path / "data", env=NO_LIMITS) as running:
        running.port = urlsplit(running.url).port or 0
        yield running


def test_the_dashboard_says_that_the_broker_is_gone_and_is_live_again_after_it(
    visit: Visit, mortal: BrokerProcess
) -> None:
    with mortal.client() as client:
        Queue(client, "kept", lease_ms=1_000).publish_many(1, 2)
    dashboard = visit(mortal)
    dashboard.open("queues")
    pending = dashboard("queue-row-kept").locator("td").nth(1)
    expect(pending).to_have_text("2")
    mortal.terminate()
    expect(dashboard("state-reconnecting")).to_be_visible()
    expect(dashboard("connection-state")).to_have_attribute("data-state", "reconnecting")
    # What was there stays to be read.
    expect(pending).to_have_text("2")
    mortal.start()
    dashboard.until(lambda: dashboard("connection-state").get_attribute("data-state"), lambda state: state == "open")
    expect(dashboard("state-reconnecting")).to_be_hidden()
    with mortal.client() as client:
        Queue(client, "kept").publish(3)
    expect(pending).to_have_text("3")


def test_one_may_ask_to_try_at_once(visit: Visit, mortal: BrokerProcess) -> None:
    dashboard = visit(mortal)
    mortal.terminate()
    expect(dashboard("retry-now")).to_be_visible()
    mortal.start()
    dashboard("retry-now").dispatch_event("click")  # it may be gone already, where the next try was quicker
    expect(dashboard("connection-state")).to_have_attribute("data-state", "open")


def test_an_action_while_the_broker_is_gone_fails_in_words_and_can_be_tried_again(
    visit: Visit, mortal: BrokerProcess
) -> None:
    with mortal.client() as client:
        Queue(client, "kept", lease_ms=1_000)
    dashboard = visit(mortal)
    dashboard.open_queue("kept")
    dashboard("publish-open").click()
    mortal.terminate()
    dashboard.confirm_in_vain()
    mortal.start()
    dashboard.confirm()
    with mortal.client() as client:
        assert Queue(client, "kept").counts()["pending"] == 1
