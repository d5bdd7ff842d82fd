"""What came from outside is shown and never run, wherever the dashboard shows it (the page's guard listens)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.dashboard import Dashboard
from tests.browser.guard import FLAG, Guard
from tests.harness import BrokerProcess
from tests.wire.doors import JSON, Messages, Queue, body
from tests.wire.people import SECRET, Person, grant
from tests.wire.sockets import open_socket

Visit = Callable[..., Dashboard]

RUN = f"window.{FLAG}=1;alert(1)"
PAYLOADS = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror='{RUN}'>",
    f'"><svg onload="{RUN}">',
    f"javascript:{RUN}",
    f"</textarea><iframe srcdoc='<script>parent.{FLAG}=1</script>'></iframe>",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    "__proto__",
)
ALL = " ".join(PAYLOADS)


def poison(queue: Queue, content: Any = None) -> str:
    """A message that is hostile in every field that takes text."""
    hostile = {payload: payload for payload in PAYLOADS}
    return queue.publish(
        content if content is not None else {"list": list(PAYLOADS), **hostile},
        headers=hostile,
        key=ALL,
        correlation_id=ALL,
        reply_to=ALL,
        dedup_id=f"{queue.name} {ALL}",
    )


@pytest.fixture
def poisoned(queue: Queue, api: httpx.Client) -> Iterator[str]:
    """The id of a hostile message that failed for a hostile reason, and went to another queue for it."""
    dead = Queue(api, f"{queue.name}.dead", lease_ms=1_000)
    api.patch(queue.path, content=body({"dead_letter_queue": dead.name}), headers=JSON)
    id_ = poison(queue)
    Messages(api).nack(queue.take(), reason=ALL)
    yield id_
    api.delete(dead.path)


def test_the_guard_hears_of_a_script_that_the_policy_refused(browser: Browser, broker: BrokerProcess) -> None:
    guard = Guard(urlsplit(broker.url).netloc)
    context = browser.new_context()
    guard.watch(context)
    page = context.new_page()
    page.goto(f"{broker.url}/dashboard")
    page.evaluate("html => { document.body.innerHTML = html }", PAYLOADS[1])
    policy = "Content Security Policy"
    Dashboard(page, broker.url).until(lambda: any(policy in complaint for complaint in guard.complaints))
    assert page.evaluate(f"window.{FLAG}") is None
    context.close()


def test_the_guard_hears_of_a_script_that_ran(browser: Browser, broker: BrokerProcess) -> None:
    guard = Guard(urlsplit(broker.url).netloc)
    context = browser.new_context(bypass_csp=True)
    guard.watch(context)
    page = context.new_page()
    page.goto(f"{broker.url}/dashboard")
    page.evaluate("html => { document.body.innerHTML = html }", PAYLOADS[1])
    Dashboard(page, broker.url).until(lambda: any(said.startswith("dialog: ") for said in guard.complaints))
    guard.look_for_the_flag(page)
    assert any("a payload ran" in complaint for complaint in guard.complaints)
    context.close()


def test_a_hostile_message_is_text_on_every_page_that_shows_it(
    dashboard: Dashboard, queue: Queue, api: httpx.Client, poisoned: str
) -> None:
    dashboard.open_queue(f"{queue.name}.dead")
    expect(dashboard(f"message-row-{poisoned}")).to_contain_text("<script>")
    dashboard.open_message(poisoned)
    expect(dashboard("field-key")).to_have_text(ALL)
    expect(dashboard("field-dead_letter_error")).to_have_text(ALL)
    expect(dashboard("timeline")).to_contain_text("onerror")
    expect(dashboard("message-headers")).to_contain_text("<script>")
    for tab in ("tree", "pretty", "raw"):
        dashboard(f"content-tab-{tab}").click()
        expect(dashboard(f"content-{tab}")).to_contain_text("<script>")
    dashboard("action-edit").click()
    assert PAYLOADS[0] in dashboard("publish-content").input_value()
    dashboard("dialog-cancel").click()


@pytest.mark.parametrize(
    ("content_type", "tabs"),
    [
        ("text/html", ("text", "hex")),
        ("image/svg+xml", ("text", "hex")),
        ("image/png", ("image", "text", "hex")),
        ("application/xhtml+xml", ("text",)),
        ('text/plain"><script>alert(1)</script>', ("text",)),
    ],
)
def test_a_page_or_a_drawing_in_a_message_is_not_rendered(
    dashboard: Dashboard, queue: Queue, content_type: str, tabs: tuple[str, ...]
) -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{RUN}"><script>{RUN}</script></svg>'
    raw = f"<html><body>{ALL}{svg}</body></html>".encode()
    reply = queue.api.post(f"{queue.path}/messages", content=raw, headers={"Content-Type": content_type})
    assert reply.status_code == 201, reply.text
    dashboard.open_message(reply.json()["message_id"])
    for tab in tabs:
        dashboard(f"content-tab-{tab}").click()
    expect(dashboard("content").locator("svg:not(.icon), iframe, object, embed, script")).to_have_count(0)


def test_a_hostile_content_is_published_and_edited_as_it_was_typed(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_queue(queue.name)
    dashboard("publish-open").click()
    dashboard("publish-mode").select_option("text")
    dashboard.fill(publish_content=ALL, publish_key=ALL)
    dashboard.confirm()
    expect(dashboard.rows("message-row-").first).to_contain_text("<script>")
    assert queue.take()["key"] == ALL


def test_hostile_names_of_keys_subscriptions_and_grants_are_text(
    visit: Visit, api: httpx.Client, broker: BrokerProcess, queue: Queue
) -> None:
    glob = "*<img src=x onerror=alert(1)>*"
    made = api.post("/api-keys", content=body({"name": ALL[:128], "grants": [grant(queue.name, "view")]}), headers=JSON)
    assert made.status_code == 201, made.text
    with open_socket(broker.ws_url + "/ws", token=broker.token()) as socket:
        socket.op("welcome")
        socket.ok("subscribe", queue=queue.name, sub=PAYLOADS[1])
        dashboard = visit()
        dashboard.open("keys")
        row = dashboard(f"key-row-{made.json()['id']}")
        expect(row).to_contain_text("<script>")
        row.get_by_role("button").click()
        expect(dashboard.page.locator("dialog[open]")).to_contain_text("<script>")
        dashboard.confirm()
        dashboard.open("consumers")
        consumer = dashboard.rows("consumer-row-").filter(has_text=queue.name)
        expect(consumer).to_contain_text("onerror")
        consumer.get_by_role("button").click()
        dashboard.confirm()
    refused = api.post(
        "/users", content=body({"username": "globber", "password": SECRET, "grants": [grant(glob, "view")]})
    )
    assert refused.status_code in (415, 422)


def test_a_hostile_name_that_the_broker_refuses_is_text_in_the_refusal(dashboard: Dashboard) -> None:
    dashboard.open("queues")
    dashboard("queue-create").click()
    dashboard.fill(queue_field_name=PAYLOADS[1])
    dashboard.confirm_in_vain()
    dashboard("dialog-cancel").click()
    dashboard.open("users")
    dashboard("user-create").click()
    dashboard.fill(user_field_username=PAYLOADS[1], user_field_password=SECRET)
    dashboard.confirm_in_vain()
    dashboard("dialog-cancel").click()


def test_a_hostile_address_is_text(dashboard: Dashboard) -> None:
    for kind in ("queues", "messages"):
        dashboard.open(f"{kind}/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", kind.removesuffix("s"))
        expect(dashboard.page.get_by_role("heading", level=1)).to_have_text("<img src=x onerror=alert(1)>")
        expect(dashboard.rows("state-e")).to_be_visible()


def test_a_hostile_log_line_is_text(dashboard: Dashboard, api: httpx.Client) -> None:
    name = "<img-src=x-onerror=alert(1)>"
    headers = {"X-Request-ID": name}
    httpx.post(f"{api.base_url}/login", json={"username": "admin", "password": "x"}, headers=headers, trust_env=False)
    member = Person(api, "log.reader", role="admin", grants=[])
    assert member.try_to_log_in("wrong").status_code == 401
    dashboard.open("logs")
    expect(dashboard("log-lines").locator("li").first).to_be_visible()
    expect(dashboard("log-lines").locator("img, script")).to_have_count(0)
    member.change(disabled=True)
