"""The table of queues, and each action on a queue with what it did to the broker, read back by REST."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.wire.doors import Messages, Queue, fresh_name


@pytest.fixture
def queues(dashboard: Dashboard) -> Dashboard:
    """The dashboard at the page of queues."""
    dashboard.open("queues")
    return dashboard


@pytest.fixture
def name(api: httpx.Client) -> Iterator[str]:
    """The name of a queue to be; gone afterwards."""
    name = fresh_name("made")
    yield name
    api.delete(f"/queues/{name}")


def names_shown(dashboard: Dashboard) -> list[str]:
    rows = dashboard.rows("queue-row-").evaluate_all("rows => rows.map((row) => row.dataset.testid)")
    return [row.removeprefix("queue-row-") for row in rows]


def test_create_makes_the_queue_with_its_configuration(queues: Dashboard, api: httpx.Client, name: str) -> None:
    queues("queue-create").click()
    queues.fill(queue_field_name=name)
    queues("queue-form").locator("summary").click()
    queues("queue-field-lease_ms").fill("1 h")
    queues("queue-field-max_attempts").fill("2")
    queues.confirm()
    expect(queues(f"queue-row-{name}")).to_be_visible()
    config = api.get(f"/queues/{name}").json()["config"]
    assert (config["lease_ms"], config["max_attempts"]) == (3_600_000, 2)


def test_create_says_what_is_wrong_at_the_field(queues: Dashboard) -> None:
    queues("queue-create").click()
    queues.fill(queue_field_name="<b>not a name</b>")
    queues.confirm_in_vain()
    expect(queues("queue-field-name")).to_have_attribute("aria-invalid", "true")
    assert queues.focused() == "queue-field-name"


def test_edit_changes_only_what_was_changed(queues: Dashboard, queue: Queue) -> None:
    queue.publish_many(1, 2, 3)
    before = queue.info()["config"]
    queues.queue_action(queue.name, "edit")
    assert queues.concerned() == 3
    queues("queue-field-retention_ms").fill("2 h")
    queues("queue-field-backoff.factor").fill("3")
    queues.confirm()
    changed = {**before, "retention_ms": 7_200_000, "backoff": {**before["backoff"], "factor": 3}}
    assert queue.info()["config"] == changed


def test_pause_stops_deliveries_and_resume_takes_them_up(queues: Dashboard, queue: Queue) -> None:
    queue.publish("waits")
    row = queues(f"queue-row-{queue.name}")
    queues.queue_action(queue.name, "pause")
    assert queues.concerned() == 1
    queues.confirm()
    expect(row.get_by_test_id("paused")).to_be_visible()
    assert queue.info()["paused"] is True
    assert queue.consume() is None
    queues.queue_action(queue.name, "resume")
    queues.confirm()
    expect(row.get_by_test_id("paused")).to_be_hidden()
    assert queue.take()["content"] == "waits"


def test_purge_says_how_many_and_removes_those(queues: Dashboard, queue: Queue, api: httpx.Client) -> None:
    queue.publish_many(*range(5))
    Messages(api).ack(queue.take())
    Messages(api).nack(queue.take())
    held = queue.take()
    queues.queue_action(queue.name, "purge")
    assert queues.concerned() == 2
    queues("purge-status").select_option("failed")
    assert queues.concerned() == 1
    queues("purge-status").select_option("all")
    assert queues.concerned() == 4
    queues("purge-status").select_option("pending")
    queues.confirm()
    expect(queues("toast-done").last).to_contain_text("2")
    assert queue.counts() == {"pending": 0, "delayed": 0, "processing": 1, "processed": 1, "failed": 1}
    assert [message["message_id"] for message in queue.browse(status="processing")] == [held["message_id"]]


def test_redrive_makes_failed_messages_ready_again(queues: Dashboard, queue: Queue, api: httpx.Client) -> None:
    queue.publish_many(*range(3))
    for message in queue.take_many(3):
        Messages(api).nack(message)
    queues.queue_action(queue.name, "redrive")
    assert queues.concerned() == 3
    queues.fill(redrive_limit="2")
    queues.confirm()
    counts = queue.counts()
    assert (counts["pending"], counts["failed"]) == (2, 1)


def test_redrive_brings_home_what_a_dead_letter_queue_has(queues: Dashboard, api: httpx.Client, name: str) -> None:
    dead = Queue(api, f"{name}.dead", lease_ms=1_000)
    home = Queue(api, name, dead_letter_queue=dead.name)
    home.publish("poison")
    Messages(api).nack(home.take())
    assert (home.counts()["pending"], dead.counts()["pending"]) == (0, 1)
    queues.queue_action(name, "redrive")
    queues("redrive-from").select_option(dead.name)
    expect(queues("dialog-count")).to_have_attribute("data-count", "1")
    queues.confirm()
    assert (home.counts()["pending"], dead.counts()["pending"]) == (1, 0)
    api.delete(dead.path)


def test_delete_needs_the_name_typed_and_says_how_many_go(queues: Dashboard, queue: Queue, api: httpx.Client) -> None:
    queue.publish_many(1, 2)
    Messages(api).ack(queue.take())
    queues.queue_action(queue.name, "delete")
    assert queues.concerned() == 2
    expect(queues("dialog-confirm")).to_be_disabled()
    queues.fill(dialog_typed=queue.name[:-1])
    expect(queues("dialog-confirm")).to_be_disabled()
    queues.fill(dialog_typed=queue.name)
    queues.confirm()
    expect(queues(f"queue-row-{queue.name}")).to_have_count(0)
    assert api.get(queue.path).status_code == 404


def test_a_cancelled_question_changes_nothing(queues: Dashboard, queue: Queue) -> None:
    queue.publish(1)
    for action in ("purge", "pause", "delete"):
        queues.queue_action(queue.name, action)
        queues("dialog-cancel").click()
        expect(queues.page.locator("dialog[open]")).to_have_count(0)
    info = queue.info()
    assert (info["paused"], info["counts"]["pending"]) == (False, 1)


def test_the_filter_shows_the_queues_whose_name_has_it(queues: Dashboard, queue: Queue, name: str) -> None:
    Queue(queue.api, name, lease_ms=1_000)
    expect(queues(f"queue-row-{name}")).to_be_visible()
    queues.fill(queue_filter=name.upper())
    expect(queues.rows("queue-row-")).to_have_count(1)
    expect(queues(f"queue-row-{name}")).to_be_visible()
    queues.fill(queue_filter="no queue is called this")
    expect(queues("state-empty")).to_be_visible()
    queues.fill(queue_filter="")
    expect(queues(f"queue-row-{queue.name}")).to_be_visible()


def test_the_table_sorts_by_a_column_both_ways(queues: Dashboard, queue: Queue, name: str) -> None:
    fuller = Queue(queue.api, name, lease_ms=1_000)
    queue.publish_many(*range(300))
    fuller.publish_many(*range(400))
    expect(queues(f"queue-row-{queue.name}")).to_contain_text("300")
    expect(queues(f"queue-row-{name}")).to_contain_text("400")
    queues("queues-table-sort-pending").click()
    expect(queues("queues-table-column-pending")).to_have_attribute("aria-sort", "descending")
    queues.until(lambda: names_shown(queues)[:2], lambda first: first == [name, queue.name])
    queues("queues-table-sort-pending").click()
    expect(queues("queues-table-column-pending")).to_have_attribute("aria-sort", "ascending")
    queues.until(lambda: names_shown(queues)[-2:], lambda last: last == [queue.name, name])


def test_a_row_follows_the_broker(queues: Dashboard, queue: Queue) -> None:
    row = queues(f"queue-row-{queue.name}")
    expect(row).to_be_visible()
    queue.publish_many(*range(17))
    expect(row.locator("td").nth(1)).to_have_text("17")
    queue.take_many(4)
    expect(row.locator("td").nth(1)).to_have_text("13")
    expect(row.locator("td").nth(3)).to_have_text("4")
