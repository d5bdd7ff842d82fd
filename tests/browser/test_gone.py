"""What is shown of a queue ends with the queue, and with the right to see it; and ages go by the broker's clock."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.wire.doors import Queue
from tests.wire.people import SECRET, grant, somebody

Visit = Callable[..., Dashboard]


def test_a_queue_page_ends_with_the_right_to_see_it(visit: Visit, api: httpx.Client, queue: Queue) -> None:
    queue.publish("only for those who may")
    with somebody(api, role="member", grants=[grant(queue.name, "view")]) as member:
        dashboard = visit(log_in=False).log_in(member.name, SECRET)
        dashboard.open_queue(queue.name)
        expect(dashboard.page.get_by_text("only for those who may")).to_be_visible()
        assert member.change(grants=[]).status_code == 200
        expect(dashboard("page-queue").get_by_test_id("state-error")).to_be_visible()
        expect(dashboard("queue-figures")).to_have_count(0)
        expect(dashboard.page.get_by_text("only for those who may")).to_have_count(0)


def test_a_message_page_ends_with_the_right_to_see_it(visit: Visit, api: httpx.Client, queue: Queue) -> None:
    id_ = queue.publish("only for those who may")
    with somebody(api, role="member", grants=[grant(queue.name, "view")]) as member:
        dashboard = visit(log_in=False).log_in(member.name, SECRET)
        dashboard.open_message(id_)
        expect(dashboard("content-tree")).to_be_visible()
        assert member.change(grants=[]).status_code == 200
        expect(dashboard("page-message").get_by_test_id("state-empty")).to_be_visible()
        expect(dashboard("content-tree")).to_have_count(0)


def test_figures_of_the_process_are_not_shown_to_who_may_not_view_all(visit: Visit, api: httpx.Client) -> None:
    with somebody(api, role="member", grants=[grant("mine*", "view")]) as member:
        dashboard = visit(log_in=False).log_in(member.name, SECRET)
        expect(dashboard("card-pending-value")).to_have_text("0")
        for card in ("total-requests", "cpu", "memory"):
            expect(dashboard(f"card-{card}-value")).to_have_text("–")
            expect(dashboard(f"card-{card}").get_by_text("/s")).to_have_count(0)
        for chart in ("status", "rates"):
            expect(dashboard(f"chart-{chart}")).to_be_visible()
        for chart in ("requests", "performance", "latency", "routes", "codes"):
            expect(dashboard(f"chart-{chart}")).to_be_hidden()
        expect(dashboard("connections").locator("dd")).to_have_count(0)


def test_a_queue_page_ends_with_its_queue_and_returns_with_it(
    dashboard: Dashboard, api: httpx.Client, queue: Queue
) -> None:
    queue.publish("gone soon")
    dashboard.open_queue(queue.name)
    queue.publish("and this")
    expect(dashboard("queue-figure-pending")).to_have_text("2")  # which only the feed has told
    assert api.delete(queue.path).status_code == 204
    expect(dashboard("page-queue").get_by_test_id("state-error")).to_be_visible()
    expect(dashboard("queue-figures")).to_have_count(0)
    expect(dashboard("publish-open")).to_be_hidden()
    queue.publish("again")
    expect(dashboard("queue-figure-pending")).to_have_text("1")
    expect(dashboard("publish-open")).to_be_visible()


def test_a_message_page_ends_with_its_message(dashboard: Dashboard, api: httpx.Client, queue: Queue) -> None:
    id_ = queue.publish("gone soon")
    dashboard.open_message(id_)
    expect(dashboard("content-tree")).to_contain_text("gone soon")
    assert api.delete(f"/messages/{id_}").status_code == 200
    expect(dashboard("state-empty")).to_contain_text("This message is no more")
    expect(dashboard("content-tree")).to_have_count(0)
    expect(dashboard.rows("action-")).to_have_count(0)


def test_a_message_page_ends_with_its_queue(dashboard: Dashboard, api: httpx.Client, queue: Queue) -> None:
    dashboard.open_message(queue.publish("gone soon"))
    expect(dashboard("content-tree")).to_contain_text("gone soon")
    assert api.delete(queue.path).status_code == 204
    expect(dashboard("state-empty")).to_contain_text("This message is no more")


def test_a_queue_that_is_not_there_is_shown_once_it_is_made(
    dashboard: Dashboard, api: httpx.Client, queue: Queue
) -> None:
    assert api.delete(queue.path).status_code == 204
    dashboard.open(f"queues/{queue.name}", "queue")
    expect(dashboard("page-queue").get_by_test_id("state-error")).to_be_visible()
    queue.publish("the first")
    expect(dashboard("queue-figure-pending")).to_have_text("1")
    # The events of a queue that was not there are watched from then on too; one is told each time, until it is seen.
    number = dashboard.until(lambda: (queue.publish("another"), dashboard("events-list").locator("li").count())[1])
    assert number > 0


def test_what_turns_the_direction_of_a_text_is_shown_escaped(dashboard: Dashboard, queue: Queue) -> None:
    id_ = queue.publish({"\u202ename": "\u2066evil\u202e"})
    dashboard.open_message(id_)
    for tab in ("tree", "pretty", "raw"):
        dashboard(f"content-tab-{tab}").click()
        expect(dashboard(f"content-{tab}")).to_contain_text("\\u202ename")
        expect(dashboard(f"content-{tab}")).to_contain_text("\\u2066evil\\u202e")


def test_an_age_goes_by_the_clock_of_the_broker(visit: Visit, queue: Queue) -> None:
    id_ = queue.publish("just now")
    dashboard = visit(log_in=False)
    dashboard.page.add_init_script("const at = Date.now; Date.now = () => at() + 3 * 3_600_000;")
    dashboard.log_in().open_queue(queue.name)
    age = dashboard(f"message-row-{id_}").locator("time")
    expect(age).not_to_contain_text("hour")
    expect(age).to_contain_text("second")
