"""What axe-core finds on each page and in each kind of dialog: nothing serious, dark or light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.showcase import Showcase

Visit = Callable[..., Dashboard]

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RUN = """() => axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => violations
  .filter(({impact}) => impact === "serious" || impact === "critical")
  .map(({id, nodes}) => `${id}: ${nodes.slice(0, 3).map(({target}) => target.join(" ")).join(" | ")}`))"""


def violations(dashboard: Dashboard) -> list[str]:
    if dashboard.page.evaluate("typeof axe") == "undefined":
        dashboard.page.evaluate(AXE)
    found: list[Any] = dashboard.page.evaluate(RUN)
    return [str(one) for one in found]


def test_axe_finds_what_is_wrong(visit: Visit) -> None:
    dashboard = visit(log_in=False)
    dashboard.page.goto(dashboard.url)
    expect(dashboard("login-form")).to_be_visible()
    dashboard.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert [one.partition(":")[0] for one in violations(dashboard)] == ["button-name"]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_no_page_has_a_serious_violation(visit: Visit, showcase: Showcase, theme: Literal["dark", "light"]) -> None:
    dashboard = visit(showcase.broker, log_in=False, color_scheme=theme)
    dashboard.page.goto(dashboard.url)
    expect(dashboard("login-form")).to_be_visible()
    found = {"login": violations(dashboard)}
    dashboard.log_in()
    for name, route in showcase.routes.items():
        dashboard.open(route, name.partition("-")[0])
        found[name] = violations(dashboard)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_no_dialog_has_a_serious_violation(visit: Visit, showcase: Showcase, theme: Literal["dark", "light"]) -> None:
    dashboard = visit(showcase.broker, color_scheme=theme)
    found = {}
    dashboard.open("queues")
    dashboard("queue-actions-orders").click()
    found["menu"] = violations(dashboard)
    dashboard.page.keyboard.press("Escape")
    for action in ("edit", "redrive", "delete"):
        dashboard.queue_action("orders", action)
        found[action] = violations(dashboard)
        dashboard("dialog-cancel").click()
    dashboard.open_queue("orders")
    dashboard("publish-open").click()
    dashboard("publish-content").fill("{not json")
    dashboard.confirm_in_vain()
    found["publish"] = violations(dashboard)
    dashboard("dialog-cancel").click()
    dashboard.open("users")
    dashboard("user-create").click()
    dashboard("grant-add").click()
    found["user"] = violations(dashboard)
    dashboard("dialog-cancel").click()
    dashboard.open(showcase.webhook, "webhooks")
    for action in ("edit", "enable", "delete"):
        dashboard.rows("webhook-actions-").click()
        found[f"webhook-menu-{action}"] = violations(dashboard)
        dashboard(f"webhook-action-{action}").click()
        expect(dashboard.page.locator("dialog[open]")).to_be_visible()
        found[f"webhook-{action}"] = violations(dashboard)
        dashboard("dialog-cancel").click()
    dashboard.open("webhooks")
    dashboard("webhook-create").click()
    dashboard.fill(webhook_field_queue="orders", webhook_field_url="nowhere")
    dashboard.confirm_in_vain()
    found["webhook-create"] = violations(dashboard)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("width", [360, 720, 1280, 3840])
def test_no_page_scrolls_sideways(visit: Visit, showcase: Showcase, width: int) -> None:
    dashboard = visit(showcase.broker, size=(width, 860))
    too_wide = {}
    for name, route in showcase.routes.items():
        dashboard.open(route, name.partition("-")[0])
        wide = dashboard.page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            too_wide[name] = wide
    assert too_wide == {}
