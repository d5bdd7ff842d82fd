"""One queue: its figures, finding a message in it, publishing into it, and what happens in it as it happens."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.wire.doors import Messages, Queue


def expect_found(dashboard: Dashboard, *ids: str) -> None:
    """Exactly these messages are in the table, whatever their order."""
    for id_ in ids:
        expect(dashboard(f"message-row-{id_}")).to_be_visible()
    expect(dashboard.rows("message-row-")).to_have_count(len(ids))


def test_the_figures_and_the_configuration_are_the_broker_s(
    dashboard: Dashboard, queue: Queue, api: httpx.Client
) -> None:
    queue.publish_many(*range(6))
    Messages(api).ack(queue.take())
    Messages(api).nack(queue.take())
    queue.take()
    dashboard.open_queue(queue.name)
    for figure, value in {"pending": "3", "processing": "1", "failed": "1", "processed": "1"}.items():
        expect(dashboard(f"queue-figure-{figure}")).to_have_text(value)
    expect(dashboard("queue-config")).to_contain_text("1 h")


def test_a_search_by_status_finds_those_in_it(dashboard: Dashboard, queue: Queue, api: httpx.Client) -> None:
    queue.publish_many(*range(4))
    failed = queue.take()
    Messages(api).nack(failed)
    held = queue.take()
    dashboard.open_queue(queue.name)
    expect(dashboard.rows("message-row-")).to_have_count(4)
    dashboard("message-search-status").select_option("failed")
    expect_found(dashboard, failed["message_id"])
    dashboard("message-search-status").select_option("processing")
    expect_found(dashboard, held["message_id"])
    dashboard("message-search-status").select_option("processed")
    expect(dashboard("messages").get_by_test_id("state-empty")).to_be_visible()


def test_a_search_by_key_id_and_text_finds_the_message(dashboard: Dashboard, queue: Queue) -> None:
    keyed = queue.publish({"text": "an order"}, key="customer <7>")
    worded = queue.publish({"text": "a needle in it"})
    queue.publish({"text": "hay"})
    dashboard.open_queue(queue.name)
    dashboard.fill(message_search_key="customer <7>")
    dashboard("message-search-key").press("Enter")
    expect_found(dashboard, keyed)
    dashboard.fill(message_search_key="", message_search_contains="needle")
    dashboard("message-search-submit").click()
    expect_found(dashboard, worded)
    dashboard.fill(message_search_contains="", message_search_id=keyed)
    dashboard("message-search-submit").click()
    expect_found(dashboard, keyed)
    dashboard.fill(message_search_id="no such id")
    dashboard("message-search-submit").click()
    expect(dashboard("messages").get_by_test_id("state-empty")).to_be_visible()


def test_one_pages_through_what_is_found(dashboard: Dashboard, queue: Queue) -> None:
    queue.publish_many(*range(30))
    dashboard.open_queue(queue.name)
    expect(dashboard.rows("message-row-")).to_have_count(25)
    dashboard("message-page-next").click()
    expect(dashboard.rows("message-row-")).to_have_count(5)
    dashboard("message-page-back").click()
    expect(dashboard.rows("message-row-")).to_have_count(25)


def test_a_published_message_is_on_the_broker_to_the_letter(dashboard: Dashboard, queue: Queue) -> None:
    content = '{"n": 12345678901234567890123, "zero": -0, "twice": 1, "twice": 2}'
    dashboard.open_queue(queue.name)
    dashboard("publish-open").click()
    dashboard.fill(publish_content=content, publish_key="k", publish_headers='{"big": 98765432109876543210}')
    dashboard("publish-priority").select_option("7")
    dashboard("publish-form").locator("summary").click()
    dashboard.fill(publish_correlation_id="c-1")
    dashboard.confirm()
    expect(dashboard.rows("message-row-")).to_have_count(1)
    raw = queue.api.get(f"{queue.path}/messages").text
    assert content in raw
    assert "98765432109876543210" in raw
    message = queue.take()
    assert (message["priority"], message["key"], message["correlation_id"]) == (7, "k", "c-1")


def test_a_published_message_may_wait_and_end(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_queue(queue.name)
    dashboard("publish-open").click()
    dashboard.fill(publish_delay="1 h", publish_ttl="2 h")
    dashboard.confirm()
    expect(dashboard("queue-figure-delayed")).to_contain_text("1")
    assert queue.counts()["delayed"] == 1
    assert queue.browse()[0]["expires_at"] is not None


def test_text_and_a_file_are_published_as_their_bytes(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_queue(queue.name)
    dashboard("publish-open").click()
    dashboard("publish-mode").select_option("text")
    dashboard.fill(publish_content="olá <b>")
    dashboard.confirm()
    dashboard("publish-open").click()
    dashboard("publish-mode").select_option("file")
    dashboard("publish-file").set_input_files({"name": "a.bin", "mimeType": "", "buffer": b"\x00\xff\r\n"})
    dashboard.confirm()
    expect(dashboard.rows("message-row-")).to_have_count(2)
    first, second = queue.take_many(2)
    assert (first["content_base64"], first["content_type"]) == ("b2zDoSA8Yj4=", "text/plain; charset=utf-8")
    assert second["content_base64"] == "AP8NCg=="


def test_what_is_not_json_is_not_published_and_says_so(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_queue(queue.name)
    dashboard("publish-open").click()
    dashboard.fill(publish_content="{bad", publish_delay="soon")
    dashboard.confirm_in_vain()
    expect(dashboard("publish-content")).to_have_attribute("aria-invalid", "true")
    assert queue.counts()["pending"] == 0


def test_the_tail_shows_events_as_they_happen(dashboard: Dashboard, queue: Queue, api: httpx.Client) -> None:
    messages = Messages(api)
    dashboard.open_queue(queue.name)
    expect(dashboard("events-none")).to_be_visible()
    lines = dashboard("events-list").locator("li")
    # What happened before the broker took the watch on is not told: hence one until the first is seen.
    dashboard.until(lambda: (queue.publish("first"), lines.count())[1])
    messages.ack(queue.take())
    messages.nack(queue.take() if queue.counts()["pending"] else _another(queue), reason="no")
    for word in ("published", "delivered", "processed", "failed"):
        expect(lines.filter(has_text=word).first).to_be_visible()


def _another(queue: Queue) -> dict[str, object]:
    queue.publish("another")
    return queue.take()


def test_a_paused_tail_stands_still_and_can_be_emptied(dashboard: Dashboard, queue: Queue) -> None:
    dashboard.open_queue(queue.name)
    lines = dashboard("events-list").locator("li")
    dashboard.until(lambda: (queue.publish("first"), lines.count())[1])
    dashboard("events-pause").click()
    dashboard("events-clear").click()
    expect(dashboard("events-none")).to_be_visible()
    pending = queue.counts()["pending"]
    queue.publish("unseen")
    # The same tick brings both, the figure and the events.
    expect(dashboard("queue-figure-pending")).to_have_text(str(pending + 1))
    expect(lines).to_have_count(0)
    dashboard("events-pause").click()
    dashboard.until(lambda: (queue.publish("seen"), lines.count())[1])


def test_a_queue_that_is_deleted_leads_back_to_the_others(
    dashboard: Dashboard, queue: Queue, api: httpx.Client
) -> None:
    dashboard.open_queue(queue.name)
    dashboard.queue_action(queue.name, "delete")
    dashboard.fill(dialog_typed=queue.name)
    dashboard.confirm()
    dashboard.expect_route("queues")
    assert api.get(queue.path).status_code == 404


def test_a_queue_that_is_not_there_says_so(dashboard: Dashboard) -> None:
    dashboard.open_queue("no-such-queue")
    expect(dashboard("state-error")).to_be_visible()
    expect(dashboard("state-retry")).to_be_visible()
