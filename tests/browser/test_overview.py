"""The eight cards and the seven charts, with a broker at work behind them."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.traffic import Traffic
from tests.harness import BrokerProcess
from tests.wire.doors import Queue

Visit = Callable[..., Dashboard]

CARDS = {
    "card-pending": "PENDING MSGS",
    "card-processing": "PROCESSING MSGS",
    "card-failed": "FAILED MSGS",
    "card-processed": "PROCESSED MSGS",
    "card-total-requests": "TOTAL REQS",
    "card-cpu": "PROCESS CPU %",
    "card-memory": "PROCESS MEM (MB)",
    "card-uptime": "UPTIME",
}
CHARTS = {
    "chart-requests": "Requests / Interval",
    "chart-status": "Message Status",
    "chart-performance": "Performance",
    "chart-routes": "Requests by Route",
    "chart-codes": "Requests by Status Code",
}
MORE_CHARTS = ("chart-rates", "chart-latency")


def test_the_cards_and_charts_have_their_titles_in_their_order(dashboard: Dashboard) -> None:
    expect(dashboard("cards").locator("h2")).to_have_text(list(CARDS.values()))
    for testid, title in CHARTS.items():
        expect(dashboard(testid).locator("h2")).to_have_text(title)
    for testid in MORE_CHARTS:
        expect(dashboard(testid)).to_be_visible()


def test_every_card_changes_under_a_load(dashboard: Dashboard, broker: BrokerProcess, queue: Queue) -> None:
    values = {card: dashboard(f"{card}-value") for card in CARDS}
    before = {card: value.inner_text() for card, value in values.items()}
    # Large messages, for the memory to move in its one digit after the point.
    with Traffic(broker, queue.name, size=20_000):
        for card, value in values.items():
            expect(value).not_to_have_text(before[card])
            expect(value).not_to_have_text("–")


def test_every_chart_draws_what_the_load_does(dashboard: Dashboard, broker: BrokerProcess, queue: Queue) -> None:
    names = [*CHARTS, *MORE_CHARTS]
    before = dashboard.until(dashboard.charts, lambda charts: set(charts) == set(names))
    with Traffic(broker, queue.name):
        dashboard.until(
            dashboard.charts,
            lambda now: all(now[name] != before[name] and all((y or 0) > 0 for y in now[name]) for name in names),
        )
        for name in names:
            dashboard(name).scroll_into_view_if_needed()
            picture = dashboard.drawn(name)
            dashboard.until(lambda name=name: dashboard.drawn(name), lambda now, was=picture: now != was)  # type: ignore[misc]


def test_the_figures_are_those_of_the_broker(dashboard: Dashboard, api: httpx.Client, queue: Queue) -> None:
    queue.publish_many(*range(30))
    stats = api.get("/stats").json()
    for name in ("pending", "processing", "failed", "processed"):
        expect(dashboard(f"card-{name}-value")).to_have_text(f"{stats[name]:,}")


def test_a_reload_does_not_start_empty(dashboard: Dashboard) -> None:
    points = (
        "globalThis.Chart?.getChart(document.querySelector('[data-testid=chart-status] canvas'))?.data.datasets[0].data"
    )
    had = dashboard.until(lambda: dashboard.page.evaluate(f"{points}?.length ?? 0"), lambda length: length >= 4)
    frames: list[str | bytes] = []
    dashboard.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(frame)))
    dashboard.page.reload()
    dashboard.until(lambda: [frame for frame in frames if '"op":"tick"' in str(frame)])
    history = [json.loads(frame) for frame in frames if '"op":"history"' in str(frame)]
    # The newest point comes with the first tick.
    assert len(history[0]["points"]) + 1 >= had
    dashboard.until(lambda: dashboard.page.evaluate(f"{points}?.length ?? 0"), lambda length: length >= had)


def test_a_legend_hides_its_line(dashboard: Dashboard) -> None:
    chart = dashboard("chart-status")
    processed = chart.get_by_role("button", name="processed")
    shown = "canvas => globalThis.Chart.getChart(canvas)?.isDatasetVisible(3)"
    dashboard.until(lambda: chart.locator("canvas").evaluate(shown))
    processed.click()
    expect(processed).to_have_attribute("aria-pressed", "false")
    assert chart.locator("canvas").evaluate(shown) is False
