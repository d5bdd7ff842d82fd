"""Where things stand from 360 px to 4K: titles with their buttons, what folds, and what a tall screen is used for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.dashboard import Dashboard
from tests.browser.showcase import Showcase
from tests.wire.doors import Queue

Visit = Callable[..., Dashboard]

PHONE = (360, 740)


def box(locator: Locator) -> dict[str, Any]:
    """Where it is on the page."""
    found = locator.bounding_box()
    assert found is not None
    return dict(found)


def middle(locator: Locator) -> float:
    place = box(locator)
    return float(place["y"] + place["height"] / 2)


@pytest.mark.parametrize("locale", ["en-US", "pt-BR"])
def test_a_title_has_its_button_at_its_right_on_every_page(visit: Visit, showcase: Showcase, locale: str) -> None:
    dashboard = visit(showcase.broker, size=PHONE, locale=locale)
    for page, button in (
        ("queues", "queue-create"),
        ("webhooks", "webhook-create"),
        ("users", "user-create"),
        ("keys", "key-create"),
    ):
        dashboard.open(page)
        title = dashboard.page.get_by_role("heading", level=1)
        assert abs(middle(title) - middle(dashboard(button))) < 8, page
        assert box(dashboard(button))["x"] + box(dashboard(button))["width"] == pytest.approx(348, abs=2), page


@pytest.mark.parametrize("locale", ["en-US", "pt-BR"])
def test_the_buttons_of_a_queue_and_of_a_message_take_one_row_on_a_phone(
    visit: Visit, showcase: Showcase, locale: str
) -> None:
    dashboard = visit(showcase.broker, size=PHONE, locale=locale)
    dashboard.open_queue("orders")
    assert middle(dashboard("publish-open")) == pytest.approx(middle(dashboard("queue-actions-orders")), abs=2)
    dashboard.open_message(showcase.held)
    expect(dashboard("message-actions")).to_be_visible()
    assert middle(dashboard("message-actions")) == pytest.approx(middle(dashboard("message-refresh")), abs=2)
    title = dashboard.page.get_by_role("heading", level=1)
    assert middle(title) == pytest.approx(middle(dashboard("message-copy-id")), abs=8)
    assert box(dashboard("content"))["y"] < 250


def test_on_a_phone_what_can_be_done_to_a_message_is_in_a_menu(visit: Visit, api: httpx.Client, queue: Queue) -> None:
    queue.publish({"n": 1})
    held = queue.take()["message_id"]
    dashboard = visit(size=PHONE)
    dashboard.open_message(held)
    dashboard("message-actions").click()
    expect(dashboard("action-nack")).to_be_visible()
    expect(dashboard("action-retry")).to_have_count(0)  # it has not failed
    dashboard("action-ack").click()
    dashboard.confirm()
    expect(dashboard("field-status")).to_contain_text("processed")
    assert api.get(f"/messages/{held}").json()["status"] == "processed"
    dashboard.page.set_viewport_size({"width": 1280, "height": 860})
    expect(dashboard("action-ack")).to_be_disabled()
    expect(dashboard("message-actions")).to_have_count(0)


def test_a_tall_screen_shows_as_many_messages_as_it_has_room_for(visit: Visit, queue: Queue) -> None:
    queue.publish_many(*range(60))
    low, tall = visit(size=(1280, 860)), visit(size=(3840, 2160))
    for dashboard in (low, tall):
        dashboard.open_queue(queue.name)
        expect(dashboard.rows("message-row-").first).to_be_visible()
    expect(low.rows("message-row-")).to_have_count(25)

    def bottom() -> float:
        last = box(tall.rows("message-row-").last)
        return last["y"] + last["height"]

    tall.until(bottom, lambda at: 2160 * 0.85 < at <= 2160)


def test_the_log_of_a_webhook_has_all_of_a_delivery_on_a_phone(visit: Visit, showcase: Showcase) -> None:
    dashboard = visit(showcase.broker, size=PHONE)
    dashboard.open(showcase.webhook, "webhooks")
    row = dashboard.rows("delivery-row-").first
    expect(row.get_by_text("refused", exact=False).first).to_be_visible()
    wrap = dashboard("deliveries-table").locator("xpath=..")
    assert wrap.evaluate("node => node.scrollWidth <= node.clientWidth"), "the log scrolls sideways"
    dashboard.open("webhooks")
    first = dashboard.rows("webhook-row-").first
    expect(first.locator("a[href^='#/queues/']").first).to_be_visible()
    wrap = dashboard("webhooks-table").locator("xpath=..")
    assert wrap.evaluate("node => node.scrollWidth <= node.clientWidth"), "the list scrolls sideways"
