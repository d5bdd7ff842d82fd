"""Who consumes now, and disconnecting one."""

from __future__ import annotations

import threading

import httpx
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.harness import BrokerProcess
from tests.wire.doors import Queue
from tests.wire.sockets import open_socket


def test_a_subscription_is_shown_and_disconnected(dashboard: Dashboard, broker: BrokerProcess, queue: Queue) -> None:
    queue.publish_many(1, 2, 3)
    dashboard.open("consumers")
    with open_socket(broker.ws_url + "/ws", token=broker.token()) as socket:
        socket.op("welcome")
        socket.ok("subscribe", queue=queue.name, sub="worker <1>", credit=50)
        socket.deliveries(3)
        row = dashboard.rows("consumer-row-").filter(has_text=queue.name)
        for text in ("admin", "worker <1>", "50"):
            expect(row).to_contain_text(text)
        expect(row.locator("td.num").first).to_have_text("3")
        row.get_by_role("button").click()
        assert dashboard.concerned() == 3
        dashboard.confirm()
        assert socket.close_code() == 4403
    expect(row).to_have_count(0)


def test_a_parked_poll_is_shown_and_ended(dashboard: Dashboard, broker: BrokerProcess, queue: Queue) -> None:
    answers: list[httpx.Response] = []

    def poll() -> None:
        with broker.client() as client:
            answers.append(client.get(f"{queue.path}/messages/consume", params={"wait_ms": 60_000}))

    polling = threading.Thread(target=poll, daemon=True)
    polling.start()
    dashboard.open("consumers")
    row = dashboard.rows("consumer-row-").filter(has_text=queue.name)
    row.get_by_role("button").click()
    dashboard.confirm()
    polling.join(60)
    assert [answer.json() for answer in answers] == [None]
    expect(row).to_have_count(0)


def test_the_filter_finds_by_queue_and_user(dashboard: Dashboard, broker: BrokerProcess, queue: Queue) -> None:
    dashboard.open("consumers")
    with open_socket(broker.ws_url + "/ws", token=broker.token()) as socket:
        socket.op("welcome")
        socket.ok("subscribe", queue=queue.name)
        row = dashboard.rows("consumer-row-").filter(has_text=queue.name)
        expect(row).to_be_visible()
        dashboard.fill(consumer_filter="nobody is called this")
        expect(dashboard("page-consumers").get_by_test_id("state-empty")).to_be_visible()
        dashboard.fill(consumer_filter=queue.name)
        expect(row).to_be_visible()
