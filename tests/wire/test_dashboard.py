"""The dashboard as a browser meets it: its page and files, and its feed over a real WebSocket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.harness import BrokerProcess
from tests.wire.doors import Queue, eventually, fresh_name
from tests.wire.people import grant, post, somebody
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket, open_socket

PROTOCOL = "streambroker.dashboard.v1+json"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def look(stack: ExitStack, broker: BrokerProcess, token: str, **options: Any) -> Socket:
    """An open dashboard, as a browser opens it."""
    offered = [PROTOCOL, f"bearer.{token}"]
    return stack.enter_context(open_socket(f"{broker.ws_url}/dashboard/ws", subprotocols=offered, **options))


# -- its page


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/v1/dashboard"])
def test_the_page_is_public_and_loads_nothing_from_elsewhere(stranger: httpx.Client, path: str) -> None:
    page = stranger.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-request-id"]
    names = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert names and all(name.startswith("/dashboard/assets/") for name in names)
    for name in names:
        asset = stranger.get(name)
        assert asset.status_code == 200, name
        again = stranger.get(name, headers={"If-None-Match": asset.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["..%2f..%2fpyproject.toml", "%2e%2e/%2e%2e/README.md", "none.js", "README.md", ""])
def test_d28_no_other_file_is_served(stranger: httpx.Client, name: str) -> None:
    check_refusal(stranger.get(f"/dashboard/assets/{name}"), "not_found")


# -- its feed


def test_a_browser_logs_in_by_subprotocol_and_is_told_everything_at_once(
    stack: ExitStack, broker: BrokerProcess, token: str, queue: Queue
) -> None:
    queue.publish()
    feed = look(stack, broker, token)
    assert feed.connection.subprotocol == PROTOCOL
    welcome = feed.op("welcome")
    assert (welcome["user"], welcome["may_view_all"]) == ({"username": "admin", "role": "admin"}, True)
    assert 0 < welcome["expires_in"] <= 900
    assert len(feed.op("history")["points"]) <= 300
    feed.send({"op": "watch", "topics": ["queues", "consumers"], "events": queue.name})
    feed.op("ok")
    feed.take(lambda f: f["op"] == "queues" and any(x["name"] == queue.name and x["pending"] for x in f["items"]))
    feed.op("consumers")
    tick = feed.op("tick")
    assert tick["stats"]["pending"] >= 0 and "queues" not in tick["stats"]
    queue.take()
    events = feed.op("events")
    assert (events["queue"], events["items"][0]["event"]) == (queue.name, "message_delivered")
    changed = feed.take(
        lambda f: f["op"] == "queues" and any(x["name"] == queue.name and x["processing"] for x in f["items"])
    )
    assert changed["removed"] == []


def test_the_ages_of_messages_are_told(stack: ExitStack, broker: BrokerProcess, token: str, queue: Queue) -> None:
    queue.publish()
    feed = look(stack, broker, token)
    feed.send({"op": "watch", "topics": ["queues"]})

    def aged(frame: dict[str, Any]) -> bool:
        lines = frame.get("items", ()) if frame["op"] == "queues" else ()
        return any(line["name"] == queue.name and line["oldest_pending_age_ms"] for line in lines)

    feed.take(aged)


def test_the_rates_of_a_point_are_of_what_passed(
    stack: ExitStack, broker: BrokerProcess, token: str, queue: Queue
) -> None:
    feed = look(stack, broker, token)
    feed.op("tick")
    queue.publish_many(*range(100))
    queue.take()
    busy = feed.take(lambda frame: frame["op"] == "tick" and frame["point"]["published"] > 0)["point"]
    assert busy["requests"] >= 1
    assert busy["publish_ms"]["p50"] <= busy["publish_ms"]["p95"] <= busy["publish_ms"]["p99"]


@pytest.mark.parametrize("token", ["", "nonsense", "x.y.z", "sbk_" + "A" * 43])
def test_a_bad_token_does_not_get_in(stack: ExitStack, broker: BrokerProcess, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        look(stack, broker, token)
    assert refused.value.response.status_code == 401


def test_d7_a_token_in_the_url_does_not_get_in(broker: BrokerProcess, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused, open_socket(f"{broker.ws_url}/dashboard/ws?token={token}"):
        pass
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
def test_d13_a_page_of_another_site_does_not_get_in(
    stack: ExitStack, broker: BrokerProcess, token: str, origin: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        look(stack, broker, token, origin=origin)
    assert refused.value.response.status_code == 403
    look(stack, broker, token, origin=broker.url).op("welcome")


def test_d12_a_member_sees_its_own_queues_and_nothing_of_the_others(
    stack: ExitStack, broker: BrokerProcess, api: httpx.Client
) -> None:
    seen, hidden = Queue(api, fresh_name("dash.seen")), Queue(api, fresh_name("dash-hidden"))
    seen.publish()
    hidden.publish()
    with somebody(api, grants=[grant("dash.seen*", "view")]) as person:
        feed = look(stack, broker, person.pair["access_token"])
        assert feed.op("welcome")["may_view_all"] is False
        feed.send({"op": "watch", "topics": ["queues", "consumers"], "events": hidden.name})
        assert feed.op("error")["problem"]["code"] == "not_found"
        feed.send({"op": "watch", "topics": ["queues", "consumers"], "events": seen.name})
        feed.op("ok")
        seen.publish()
        hidden.publish_many(1, 2)
        feed.op("events")
        stats = feed.take(lambda frame: frame["op"] == "tick" and frame["stats"]["pending"] > 0)["stats"]
        assert stats["pending"] <= 2
        told = "".join(text for text in feed.texts if '"op":"error"' not in text)  # which repeats what was asked
        assert seen.name in told and hidden.name not in told


def test_d6_a_logout_ends_an_open_dashboard_and_other_rights_change_it(
    stack: ExitStack, broker: BrokerProcess, api: httpx.Client
) -> None:
    with somebody(api, grants=[]) as person:
        feed = look(stack, broker, person.pair["access_token"])
        assert feed.op("welcome")["may_view_all"] is False
        assert person.change(grants=[grant("*", "view")]).is_success
        assert feed.op("welcome")["may_view_all"] is True
        assert post(person.client, "/logout", None).status_code == 204
        assert feed.close_code() == 4401


def test_dashboards_are_no_consumers_and_no_websockets_of_the_figures(
    stack: ExitStack, broker: BrokerProcess, token: str, api: httpx.Client
) -> None:
    look(stack, broker, token).op("welcome")
    # What other tests have closed is counted for a moment longer.
    eventually(lambda: api.get("/stats").json()["connections"], lambda seen: not any(seen.values()))


def test_a_broker_that_stops_says_goodbye_to_its_dashboards(
    stack: ExitStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with BrokerProcess(tmp_path_factory.mktemp("dashboard") / "data") as broker:
        feed = look(stack, broker, broker.token())
        feed.op("welcome")
        assert broker.process is not None
        broker.process.terminate()
        assert feed.close_code() == 4503
        assert eventually(broker.process.poll, lambda status: status is not None) == 0
        assert not [line for line in broker.output if "Traceback" in line or "Task exception" in line]
