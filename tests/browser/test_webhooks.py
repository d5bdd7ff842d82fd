"""Webhooks on the dashboard, against a receiver that is there, and what the broker made of each click."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from standardwebhooks.webhooks import Webhook

from tests.browser.dashboard import Dashboard
from tests.browser.receiver import Receiver, receiving
from tests.browser.test_injection import ALL
from tests.wire.doors import JSON, Queue, body
from tests.wire.people import SECRET, Person, grant

Visit = Callable[..., Dashboard]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def make(api: httpx.Client, queue: Queue, url: str, **options: Any) -> str:
    """The id of a new webhook."""
    answer = api.post(f"{queue.path}/webhooks", content=body({"url": url, **options}), headers=JSON)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def look(api: httpx.Client, queue: Queue, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"{queue.path}/webhooks/{id_}").json()
    return found


def act(dashboard: Dashboard, id_: str, action: str) -> None:
    dashboard(f"webhook-actions-{id_}").click()
    dashboard(f"webhook-action-{action}").click()


def open_one(dashboard: Dashboard, queue: Queue, id_: str) -> None:
    dashboard.open(f"webhooks?queue={queue.name}&id={id_}", "webhooks")
    expect(dashboard("webhook-facts")).to_be_visible()


def test_a_webhook_is_made_and_its_secret_is_shown_once(
    dashboard: Dashboard, api: httpx.Client, queue: Queue, receiver: Receiver
) -> None:
    dashboard.open("webhooks")
    dashboard("webhook-create").click()
    dashboard.fill(webhook_field_queue=queue.name, webhook_field_url="http://10.0.0.1/")
    dashboard.confirm_in_vain()
    expect(dashboard("webhook-field-url")).to_have_attribute("aria-invalid", "true")
    dashboard.fill(webhook_field_url=receiver.url, webhook_field_concurrency="3", webhook_field_headers='{"X-A": "b"}')
    dashboard("dialog-confirm").click()
    expect(dashboard("webhook-created")).to_be_visible()
    secret = dashboard("webhook-secret").inner_text()
    dashboard("dialog-cancel").click()
    expect(dashboard.page.locator("dialog")).to_have_count(0)  # it leaves with an event of its own, a little later
    assert secret not in dashboard.page.content()
    (made,) = api.get(f"{queue.path}/webhooks").json()["items"]
    assert (made["url"], made["concurrency"], made["headers"]) == (receiver.url, 3, {"X-A": "***"})
    queue.publish({"n": 1})
    row = dashboard(f"webhook-row-{made['id']}")
    expect(row.get_by_test_id("webhook-last")).to_contain_text("delivered · 200")
    expect(row.get_by_test_id("webhook-status")).to_have_attribute("data-status", "active")
    headers, said = receiver.seen[0]
    assert Webhook(secret).verify(said, headers)["content"] == {"n": 1}
    assert headers["x-a"] == "b"


def test_a_new_one_is_offered_the_queues_that_there_are(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open("webhooks")
    dashboard("webhook-create").click()
    suggested = dashboard("webhook-queues").locator(f"option[value='{queue.name}']")
    expect(suggested).to_have_count(1)


def test_one_that_fails_says_so_and_how_often(
    dashboard: Dashboard, api: httpx.Client, queue: Queue, receiver: Receiver
) -> None:
    receiver.status = 500
    id_ = make(api, queue, receiver.url, disabled=True)
    for _ in range(2):
        api.post(f"{queue.path}/webhooks/{id_}/test")
    dashboard.open(f"webhooks?queue={queue.name}", "webhooks")
    row = dashboard(f"webhook-row-{id_}")
    expect(row.get_by_test_id("webhook-last")).to_contain_text("refused · 500")
    expect(row.get_by_test_id("webhook-failures")).to_have_text("2")
    expect(row.get_by_test_id("webhook-reason")).to_have_text("somebody disabled it")
    receiver.status = 200
    act(dashboard, id_, "test")
    expect(row.get_by_test_id("webhook-failures")).to_have_text("0")


def test_it_is_edited_disabled_enabled_and_deleted(
    dashboard: Dashboard, api: httpx.Client, queue: Queue, receiver: Receiver
) -> None:
    id_ = make(api, queue, receiver.url)
    dashboard.open("webhooks")
    act(dashboard, id_, "edit")
    dashboard.fill(webhook_field_description="of the shop", webhook_field_timeout="2 s")
    dashboard.confirm()
    expect(dashboard(f"webhook-row-{id_}")).to_contain_text("of the shop")
    saved = look(api, queue, id_)
    assert (saved["description"], saved["timeout_ms"], saved["concurrency"]) == ("of the shop", 2_000, 10)
    status = dashboard(f"webhook-row-{id_}").get_by_test_id("webhook-status")
    act(dashboard, id_, "disable")
    assert dashboard.concerned() == 0
    dashboard.confirm()
    expect(status).to_have_attribute("data-status", "disabled")
    assert look(api, queue, id_)["disabled"] is True
    act(dashboard, id_, "enable")
    dashboard.confirm()
    expect(status).to_have_attribute("data-status", "active")
    act(dashboard, id_, "delete")
    dashboard("dialog-cancel").click()
    assert look(api, queue, id_)["id"] == id_
    act(dashboard, id_, "delete")
    dashboard.confirm()
    expect(dashboard(f"webhook-row-{id_}")).to_have_count(0)
    assert api.get(f"{queue.path}/webhooks").json()["items"] == []


def test_a_rotated_secret_is_shown_once(
    dashboard: Dashboard, api: httpx.Client, queue: Queue, receiver: Receiver
) -> None:
    id_ = make(api, queue, receiver.url)
    dashboard.open("webhooks")
    act(dashboard, id_, "edit")
    dashboard("webhook-field-rotate").check()
    dashboard("dialog-confirm").click()
    expect(dashboard("webhook-secret")).to_contain_text("whsec_")
    dashboard("dialog-cancel").click()
    assert look(api, queue, id_)["previous_secret_until"] is not None


def test_the_log_tells_of_each_request_and_a_message_is_sent_again(
    dashboard: Dashboard, api: httpx.Client, queue: Queue, receiver: Receiver
) -> None:
    id_ = make(api, queue, receiver.url)
    number = queue.publish({"n": 1})
    open_one(dashboard, queue, id_)
    rows = dashboard.rows("delivery-row-")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(re.compile("delivered · 200.*1.*ms.*taken"))
    expect(rows).to_contain_text(number)
    dashboard.rows("delivery-redeliver-").click()
    dashboard.confirm()
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("redelivery")
    assert [headers["webhook-id"] for headers, _ in receiver.seen] == [number, number]


def test_a_webhook_that_is_gone_says_so(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open(f"webhooks?queue={queue.name}&id={'0' * 24}", "webhooks")
    expect(dashboard("state-empty")).to_contain_text("There is no such webhook")
    dashboard.open(f"webhooks?queue={queue.name}", "webhooks")
    expect(dashboard("state-empty")).to_contain_text("No webhook of this queue")


def test_what_cannot_be_loaded_says_why_and_comes_at_the_next_try(dashboard: Dashboard) -> None:
    dashboard.page.route("**/webhooks?*", lambda route: route.abort())
    dashboard.open("webhooks")
    expect(dashboard("state-error")).to_be_visible()
    dashboard.page.unroute("**/webhooks?*")
    dashboard("state-retry").click()
    expect(dashboard("state-error")).to_have_count(0)


def test_only_what_one_may_manage_is_there(visit: Visit, api: httpx.Client, queue: Queue, receiver: Receiver) -> None:
    id_ = make(api, queue, receiver.url)
    other = Queue(api, f"{queue.name}.other")
    hidden = make(api, other, receiver.url)
    Person(api, f"{queue.name}-m", role="member", grants=[grant(queue.name, "manage")])
    Person(api, f"{queue.name}-v", role="member", grants=[grant("*", "view")])
    try:
        tab = visit(log_in=False).log_in(f"{queue.name}-m", SECRET)
        tab("nav-webhooks").click()
        expect(tab(f"webhook-row-{id_}")).to_be_visible()
        expect(tab(f"webhook-row-{hidden}")).to_have_count(0)
        expect(tab("webhook-create")).to_have_count(0)  # that takes the right to consume too
        other_tab = visit(log_in=False).log_in(f"{queue.name}-v", SECRET)
        expect(other_tab("nav-webhooks")).to_have_count(0)
        other_tab.page.goto(f"{other_tab.url}#/webhooks")
        expect(other_tab("state-error")).to_be_visible()
    finally:
        api.delete(other.path)
        for person in ("m", "v"):
            api.delete(f"/users/{queue.name}-{person}")


def test_what_a_receiver_and_a_description_say_is_text(
    dashboard: Dashboard, api: httpx.Client, queue: Queue, receiver: Receiver
) -> None:
    receiver.text = ALL
    id_ = make(api, queue, f"{receiver.url}?a=<img/src=x/onerror=alert(1)>", description=ALL[:256], disabled=True)
    api.post(f"{queue.path}/webhooks/{id_}/test")
    dashboard.open("webhooks")
    expect(dashboard(f"webhook-row-{id_}")).to_contain_text("<img/src=x/onerror=alert(1)>")
    open_one(dashboard, queue, id_)
    expect(dashboard("deliveries-table")).to_contain_text("<script>")
    act(dashboard, id_, "delete")
    expect(dashboard("dialog")).to_contain_text("<img/src=x")


def test_the_page_is_used_by_keyboard_alone(
    dashboard: Dashboard, api: httpx.Client, queue: Queue, receiver: Receiver
) -> None:
    id_ = make(api, queue, receiver.url)
    dashboard.open("webhooks")
    keyboard = dashboard.page.keyboard
    dashboard(f"webhook-actions-{id_}").focus()
    keyboard.press("Enter")
    expect(dashboard("webhook-action-log")).to_be_focused()
    for _ in range(3):
        keyboard.press("ArrowDown")
    expect(dashboard("webhook-action-disable")).to_be_focused()
    keyboard.press("Enter")
    expect(dashboard("dialog-cancel")).to_be_focused()
    keyboard.press("Escape")
    expect(dashboard(f"webhook-actions-{id_}")).to_be_focused()
    assert look(api, queue, id_)["disabled"] is False


def test_in_portuguese_it_speaks_portuguese(visit: Visit, api: httpx.Client, queue: Queue, receiver: Receiver) -> None:
    id_ = make(api, queue, receiver.url, disabled=True)
    tab = visit(locale="pt-BR")
    tab.open("webhooks")
    expect(tab(f"webhook-row-{id_}").get_by_test_id("webhook-status")).to_have_text("desativado")
