"""Without a mouse: everything is reached, seen to be reached, and left again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.showcase import Showcase
from tests.wire.doors import Queue

Visit = Callable[..., Dashboard]

# The controls one can see; of a group that arrows move in, the one that holds its place in the tab order.
CONTROLS = """() => {
  window.controls = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
    .filter((node) => !node.disabled && node.tabIndex >= 0 && node.checkVisibility({visibilityProperty: true}));
  return window.controls.length;
}"""
FOCUSED = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  return [window.controls.indexOf(node), node === document.body, seen, node.outerHTML.slice(0, 120)];
}"""
NAMES = "(indexes) => indexes.map((at) => window.controls[at].outerHTML.slice(0, 120))"


@pytest.mark.parametrize("name", ["overview", "queues", "queue", "message", "consumers", "users", "keys", "logs"])
def test_tab_reaches_every_control_and_shows_where_it_is(visit: Visit, showcase: Showcase, name: str) -> None:
    dashboard = visit(showcase.broker)
    dashboard.open(showcase.routes[name], name)
    page = dashboard.page
    page.evaluate("document.activeElement?.blur()")
    count = page.evaluate(CONTROLS)
    reached: set[int] = set()
    first: int | None = None
    unseen: list[str] = []
    for _ in range(3 * count + 10):
        page.keyboard.press("Tab")
        at, outside, seen, node = page.evaluate(FOCUSED)
        first = at if first is None else first
        if at == first and len(reached) > 1:
            break
        reached.add(at)
        if not seen and not outside:
            unseen.append(node)
    missed = sorted(set(range(count)) - reached)
    # A row that came or went meanwhile took its controls with it.
    left = [at for at in missed if page.evaluate("at => window.controls[at].isConnected", at)]
    assert page.evaluate(NAMES, left) == []
    assert unseen == []


def test_the_first_tab_skips_to_the_content(dashboard: Dashboard) -> None:
    dashboard.page.reload()
    expect(dashboard("page-overview")).to_be_visible()
    dashboard.page.keyboard.press("Tab")
    dashboard.until(lambda: dashboard.page.evaluate("document.activeElement.className") == "skip")
    dashboard.page.keyboard.press("Enter")
    dashboard.until(lambda: dashboard.page.evaluate("document.activeElement.id") == "content")


def test_a_queue_is_deleted_by_keys_alone_and_escape_leaves_everything(dashboard: Dashboard, queue: Queue) -> None:
    keyboard = dashboard.page.keyboard
    dashboard.open("queues")
    dashboard.fill(queue_filter=queue.name)
    more = dashboard(f"queue-actions-{queue.name}")
    more.focus()
    keyboard.press("Enter")
    expect(dashboard("queue-action-edit")).to_be_focused()
    keyboard.press("Escape")
    expect(dashboard("menu")).to_have_count(0)
    expect(more).to_be_focused()
    keyboard.press("Enter")
    keyboard.press("End")
    expect(dashboard("queue-action-delete")).to_be_focused()
    keyboard.press("Enter")
    expect(dashboard("dialog-typed")).to_be_focused()
    keyboard.press("Escape")
    expect(dashboard.page.locator("dialog[open]")).to_have_count(0)
    expect(more).to_be_focused()
    assert queue.api.get(queue.path).status_code == 200
    keyboard.press("Enter")
    keyboard.press("End")
    keyboard.press("Enter")
    expect(dashboard("dialog-typed")).to_be_focused()
    keyboard.type(queue.name)
    keyboard.press("Enter")
    expect(dashboard(f"queue-row-{queue.name}")).to_have_count(0)
    assert queue.api.get(queue.path).status_code == 404


def test_the_focus_stays_in_a_dialog(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_queue(queue.name)
    dashboard("publish-open").click()
    for _ in range(40):
        dashboard.page.keyboard.press("Tab")
        inside = "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        assert dashboard.page.evaluate(inside)
    dashboard.page.keyboard.press("Escape")
    expect(dashboard("publish-open")).to_be_focused()


def test_arrows_move_between_the_views_of_a_content(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_message(queue.publish({"a": 1}))
    dashboard("content-tab-tree").focus()
    dashboard.page.keyboard.press("ArrowRight")
    expect(dashboard("content-pretty")).to_be_visible()
    dashboard.page.keyboard.press("ArrowLeft")
    expect(dashboard("content-tree")).to_be_visible()


def test_a_new_page_puts_the_focus_on_its_title(dashboard: Dashboard) -> None:
    dashboard("nav-queues").focus()
    dashboard.page.keyboard.press("Enter")
    expect(dashboard("page-queues").get_by_role("heading", level=1)).to_be_focused()
