"""A page with 1,000 queues stays smooth while they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.traffic import Traffic
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue

Visit = Callable[..., Dashboard]

COUNT = 1_000
# The aim is 100 ms on a machine of its own; this one is shared, and other tests run meanwhile. What was measured is in
# the report (`record_property`).
BOUND_MS = 5_000
OBSERVE = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
  }).observe({type: "longtask"});
}"""


@pytest.fixture
def crowded(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with a thousand queues."""
    with BrokerProcess(tmp_path_factory.mktemp("crowded") / "data", env=NO_LIMITS) as running:
        with running.client() as client, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda at: Queue(client, f"queue.{at:04}", lease_ms=60_000), range(COUNT)))
        yield running


def test_a_thousand_queues_open_scroll_sort_and_filter_without_a_long_task(
    visit: Visit, crowded: BrokerProcess, record_property: Callable[[str, object], None]
) -> None:
    dashboard = visit(crowded)
    page = dashboard.page
    page.evaluate(OBSERVE)
    with Traffic(crowded, *(f"queue.{at:04}" for at in range(0, COUNT, 50))):
        for step, act in {"open": open_page, "scroll": scroll, "sort": sort, "filter": narrow}.items():
            page.evaluate("window.longest = 0")
            act(dashboard)
            page.wait_for_timeout(1_200)  # at least one more frame of news
            longest = page.evaluate("window.longest")
            record_property(f"longest task, {step}, ms", longest)
            print(f"longest task, {step}: {longest} ms")
            assert longest < BOUND_MS
            # Whatever the speed: of a thousand rows only those in sight are in the page.
            assert dashboard.rows("queue-row-").count() < 100


def open_page(dashboard: Dashboard) -> None:
    dashboard.open("queues")
    expect(dashboard("queue-row-queue.0000")).to_be_visible()
    expect(dashboard("queue-count")).to_contain_text("1,000")


def scroll(dashboard: Dashboard) -> None:
    dashboard("queues-table").hover()
    for _ in range(40):
        dashboard.page.mouse.wheel(0, 1_000)
        dashboard.page.wait_for_timeout(20)
    expect(dashboard("queue-row-queue.0999")).to_be_visible()
    for _ in range(40):
        dashboard.page.mouse.wheel(0, -1_000)
        dashboard.page.wait_for_timeout(20)
    expect(dashboard("queue-row-queue.0000")).to_be_visible()


def sort(dashboard: Dashboard) -> None:
    dashboard("queues-table-sort-pending").click()
    expect(dashboard("queues-table-column-pending")).to_have_attribute("aria-sort", "descending")


def narrow(dashboard: Dashboard) -> None:
    dashboard("queue-filter").press_sequentially("queue.09")
    expect(dashboard("queue-count")).to_contain_text("100")
