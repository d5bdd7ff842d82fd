"""One message: its content shown as what it is, its history, and each action with what it did to the broker."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.showcase import png
from tests.wire.doors import JSON, Messages, Queue, body

BIG = (
    '{"n": 12345678901234567890123, "zero": -0, "price": 19.90, "same": 1, "same": 2, "nested": {"list": [true, null]}}'
)


def publish_raw(queue: Queue, content: bytes, content_type: str) -> str:
    reply = queue.api.post(f"{queue.path}/messages", content=content, headers={"Content-Type": content_type})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["message_id"])


def expect_status(dashboard: Dashboard, status: str) -> None:
    expect(dashboard.page.locator(".page-head").get_by_test_id("status")).to_have_attribute("data-status", status)


# ---- what it carries


def test_json_is_a_tree_that_shows_every_digit(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_message(publish_raw(queue, b'{"content": ' + BIG.encode() + b"}", "application/json"))
    tree = dashboard("content-tree")
    for exact in ("12345678901234567890123", "-0", "19.90"):
        expect(tree).to_contain_text(exact)
    assert tree.inner_text().count("same") == 2
    tree.get_by_text("list:").click()
    expect(tree.get_by_text("null")).to_be_visible()
    dashboard("content-tab-raw").click()
    expect(dashboard("content-raw")).to_have_text(BIG, use_inner_text=True)
    dashboard("content-tab-pretty").click()
    expect(dashboard("content-pretty")).to_contain_text('"zero": -0')


def test_headers_show_every_digit(dashboard: Dashboard, queue: Queue) -> None:
    raw = b'{"content": 1, "headers": {"big": 98765432109876543210}}'
    dashboard.open_message(publish_raw(queue, raw, "application/json"))
    expect(dashboard("message-headers")).to_contain_text("98765432109876543210")


def test_text_is_text_and_not_markup(dashboard: Dashboard, queue: Queue) -> None:
    text = "Olá,\n\n<b>not bold</b>\n"
    dashboard.open_message(publish_raw(queue, text.encode(), "text/plain; charset=utf-8"))
    assert dashboard("content-text").evaluate("pre => pre.textContent") == text
    expect(dashboard("content-text").locator("b")).to_have_count(0)


def test_an_image_is_drawn(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_message(publish_raw(queue, png(160, 100), "image/png"))
    image = dashboard("content-image")
    dashboard.until(
        lambda: image.evaluate("img => [img.naturalWidth, img.naturalHeight]"), lambda size: size == [160, 100]
    )
    dashboard("content-tab-hex").click()
    expect(dashboard("content-hex")).to_contain_text("89 50 4e 47")


def test_bytes_are_hexadecimal_and_downloaded_as_they_are(dashboard: Dashboard, queue: Queue) -> None:
    octets = bytes(range(256)) * 20
    dashboard.open_message(publish_raw(queue, octets, "application/octet-stream"))
    expect(dashboard("content-hex")).to_contain_text("00000010  10 11 12 13")
    dashboard("content-hex-more").click()
    expect(dashboard("content-hex")).to_contain_text("000013f0  f0 f1")
    with dashboard.page.expect_download() as download:
        dashboard("content-download").click()
    assert download.value.path().read_bytes() == octets


# ---- what became of it


def test_the_timeline_tells_each_attempt(dashboard: Dashboard, queue: Queue, api: httpx.Client) -> None:
    id_ = queue.publish("tried twice")
    Messages(api).nack(queue.take(), requeue=True, delay_ms=0, reason="not yet")
    Messages(api).nack(queue.take(), reason="never <i>again</i>")
    dashboard.open_message(id_)
    steps = dashboard("timeline").locator("> li")
    events = ["published", "delivered", "requeued", "delivered", "failed"]
    expect(steps).to_have_count(len(events))
    shown = [
        testid.removeprefix("timeline-") for testid in steps.evaluate_all("all => all.map((li) => li.dataset.testid)")
    ]
    assert shown == events
    expect(steps.nth(2)).to_contain_text("not yet")
    expect(steps.nth(3)).to_contain_text("admin")
    expect(steps.nth(4)).to_contain_text("never <i>again</i>")


def test_a_dead_letter_says_where_it_came_from(dashboard: Dashboard, queue: Queue, api: httpx.Client) -> None:
    dead = Queue(api, f"{queue.name}.dead", lease_ms=1_000)
    api.patch(queue.path, content=body({"dead_letter_queue": dead.name}), headers=JSON)
    id_ = queue.publish("poison")
    Messages(api).nack(queue.take(), reason="poisoned")
    dashboard.open_message(id_)
    expect(dashboard("field-queue")).to_have_text(dead.name)
    expect(dashboard("message-facts")).to_contain_text(queue.name)
    expect(dashboard("field-dead_letter_error")).to_have_text("poisoned")
    api.delete(dead.path)


def test_the_page_follows_the_message(dashboard: Dashboard, queue: Queue, api: httpx.Client) -> None:
    dashboard.open_message(queue.publish("watched"))
    expect_status(dashboard, "pending")
    message = queue.take()
    expect_status(dashboard, "processing")
    Messages(api).ack(message)
    expect_status(dashboard, "processed")


# ---- what can be done with it


@pytest.fixture
def held(dashboard: Dashboard, queue: Queue) -> dict[str, Any]:
    """A message that a consumer has, with its page open."""
    queue.publish("held")
    message = queue.take()
    dashboard.open_message(message["message_id"])
    return message


def test_ack_settles_what_is_held(dashboard: Dashboard, held: dict[str, Any], api: httpx.Client) -> None:
    dashboard("action-ack").click()
    assert dashboard.concerned() == 1
    dashboard.confirm()
    expect_status(dashboard, "processed")
    assert Messages(api).status(held["message_id"]) == "processed"
    expect(dashboard("action-ack")).to_be_disabled()


def test_nack_gives_back_with_a_delay_or_fails_with_a_reason(
    dashboard: Dashboard, held: dict[str, Any], queue: Queue, api: httpx.Client
) -> None:
    dashboard("action-nack").click()
    dashboard.fill(nack_delay="0 s", nack_reason="later")
    dashboard.confirm()
    expect_status(dashboard, "pending")
    assert queue.take()["attempt"] == 2
    expect_status(dashboard, "processing")
    dashboard("action-nack").click()
    dashboard("nack-requeue").uncheck()
    expect(dashboard("nack-delay")).to_be_hidden()
    dashboard.fill(nack_reason="broken")
    dashboard.confirm()
    expect_status(dashboard, "failed")
    message = Messages(api).get(held["message_id"])
    assert (message["status"], message["error"]) == ("failed", "broken")


def test_retry_makes_a_failed_message_ready(dashboard: Dashboard, queue: Queue, api: httpx.Client) -> None:
    id_ = queue.publish("failed")
    Messages(api).nack(queue.take())
    dashboard.open_message(id_)
    expect(dashboard("action-ack")).to_be_disabled()
    dashboard("action-retry").click()
    dashboard.confirm()
    expect_status(dashboard, "pending")
    assert queue.take()["message_id"] == id_


def test_delete_removes_the_message(dashboard: Dashboard, queue: Queue, api: httpx.Client) -> None:
    id_ = queue.publish("unwanted")
    dashboard.open_message(id_)
    dashboard("action-delete").click()
    assert dashboard.concerned() == 1
    dashboard.confirm()
    dashboard.expect_route(f"queues/{queue.name}")
    assert api.get(f"/messages/{id_}").status_code == 404


def test_edit_and_requeue_puts_a_changed_copy_in_its_place(
    dashboard: Dashboard, queue: Queue, api: httpx.Client
) -> None:
    id_ = queue.publish("wrong", key="k", priority=3, headers={"a": "b"})
    Messages(api).nack(queue.take())
    dashboard.open_message(id_)
    dashboard("action-edit").click()
    dashboard.fill(publish_content='{"right": 12345678901234567890123}')
    dashboard.confirm()
    expect(dashboard("content-tree")).to_contain_text("12345678901234567890123")
    assert api.get(f"/messages/{id_}").status_code == 404
    copy = queue.take()
    assert (copy["key"], copy["priority"], copy["headers"]) == ("k", 3, {"a": "b"})
    dashboard.expect_route(f"messages/{copy['message_id']}")


def test_an_action_that_comes_too_late_is_refused_in_its_dialog(
    dashboard: Dashboard, held: dict[str, Any], queue: Queue, api: httpx.Client
) -> None:
    dashboard("action-ack").click()
    Messages(api).nack(held, requeue=True, delay_ms=3_600_000)
    dashboard.confirm_in_vain()
    assert Messages(api).status(held["message_id"]) == "pending"


def test_a_message_that_is_not_there_says_so(dashboard: Dashboard) -> None:
    dashboard.open_message("no-such-message")
    expect(dashboard("page-message").get_by_test_id("state-empty")).to_be_visible()
