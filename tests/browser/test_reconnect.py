"""A broker that goes away and comes back under an open dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.showcase import Showcase
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


# The first watch of a topic is answered as a broker does whose limit is used up.
REFUSED_ONCE = """
  const send = WebSocket.prototype.send;
  const problem = {code: "rate_limited", retry_after_ms: 50};
  WebSocket.prototype.send = function (text) {
    const {op, id, topics} = JSON.parse(text);
    if (op !== "watch" || topics.length === 0 || globalThis.refusedOnce) return send.call(this, text);
    globalThis.refusedOnce = true;
    const data = JSON.stringify({op: "error", id, problem});
    setTimeout(() => this.dispatchEvent(new MessageEvent("message", {data})));
  };
"""


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


def test_a_queue_that_was_deleted_while_the_broker_was_away_is_gone_from_its_page(
    visit: Visit, mortal: BrokerProcess
) -> None:
    with mortal.client() as client:
        Queue(client, "doomed").publish("gone soon")
    dashboard = visit(mortal)
    dashboard.open_queue("doomed")
    expect(dashboard("queue-figure-pending")).to_have_text("1")
    mortal.terminate()
    expect(dashboard("state-reconnecting")).to_be_visible()
    port, mortal.port = mortal.port, 0  # where the dashboard does not find it
    mortal.start()
    with mortal.client() as client:
        assert client.delete("/queues/doomed").status_code == 204
    mortal.terminate()
    mortal.port = port
    mortal.start()
    expect(dashboard("connection-state")).to_have_attribute("data-state", "open")
    expect(dashboard("page-queue").get_by_test_id("state-error")).to_be_visible()
    expect(dashboard("queue-figures")).to_have_count(0)
    dashboard.open("queues")  # what is watched next is told
    expect(dashboard("page-queues").get_by_test_id("state-empty")).to_be_visible()


def test_what_is_watched_is_asked_for_again_after_a_rate_limit(visit: Visit, queue: Queue) -> None:
    dashboard = visit(log_in=False)
    dashboard.page.add_init_script(REFUSED_ONCE)
    dashboard.log_in().open("queues")
    expect(dashboard(f"queue-row-{queue.name}")).to_be_visible()
    assert dashboard.page.evaluate("globalThis.refusedOnce")


def test_charts_whose_library_could_not_be_fetched_are_drawn_once_it_can(visit: Visit, showcase: Showcase) -> None:
    dashboard = visit(showcase.broker, log_in=False)
    dashboard.page.route("**/chart-4.6.1.js*", lambda route: route.abort())
    with dashboard.page.expect_event("requestfailed", lambda request: "chart" in request.url):
        dashboard.log_in()
    dashboard.page.unroute("**/chart-4.6.1.js*")
    memory = dashboard.until(lambda: float((dashboard.charts()["chart-performance"][1:] or [0])[0] or 0))
    assert memory > 0


def test_a_page_that_could_not_be_fetched_is_there_at_the_next_try(visit: Visit, showcase: Showcase) -> None:
    dashboard = visit(showcase.broker, log_in=False)
    dashboard.page.route("**/pages/consumers.js*", lambda route: route.abort())
    dashboard.log_in()
    dashboard.page.evaluate("location.hash = '#/consumers'")
    expect(dashboard("state-error")).to_be_visible()
    dashboard.page.unroute("**/pages/consumers.js*")
    dashboard("state-retry").click()
    expect(dashboard("consumers-table")).to_be_visible()
