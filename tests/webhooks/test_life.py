"""From being made to being deleted, through restarts and stops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.webhooks.receiver import Receiver
from tests.webhooks.world import LATER, World, broker, eventually


async def test_what_was_asked_for_is_what_is_shown_but_for_secrets(world: World, receiver: Receiver) -> None:
    asked: dict[str, Any] = {
        "url": receiver.url,
        "description": "orders for the shop",
        "headers": {"X-Key": "of mine"},
        "concurrency": 3,
        "timeout_ms": 2_000,
        "disable_after_ms": 0,
        "disabled": True,
    }
    made = await world.make(**asked)
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    shown = await world.look(made)
    assert shown == made
    assert {name: shown[name] for name in asked} == {**asked, "headers": {"X-Key": "***"}}
    assert (shown["queue"], shown["username"], shown["status"], shown["reason"]) == ("q", "admin", "disabled", None)
    listed = (await world.api.get(world.path())).json()
    assert listed == {"items": [shown], "next_cursor": None}


async def test_a_list_comes_in_pages(world: World, receiver: Receiver) -> None:
    ids = [(await world.make(receiver.url))["id"] for _ in range(5)]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await world.api.get(world.path(), params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(found) == sorted(ids)
    assert found == sorted(found)


async def test_changes_hold_at_once_and_the_rest_stays(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, description="a", headers={"X-A": "1"})
    changed = await world.change(made, url=receiver.url + "2", description=None, timeout_ms=500)
    assert (changed["url"], changed["description"], changed["timeout_ms"]) == (receiver.url + "2", None, 500)
    assert (changed["concurrency"], changed["headers"]) == (10, {"X-A": "***"})
    await world.publish()
    request = await receiver.one()
    assert (request.line, request.headers["x-a"]) == ("POST /hook2 HTTP/1.1", "1")


async def test_a_change_lets_requests_under_way_come_to_their_end(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    receiver.open.clear()
    number = await world.publish()
    await receiver.one()
    await world.change(made, disabled=True)
    assert (await world.message(number))["status"] == "processing"
    receiver.open.set()
    await world.settled(number, "processed")
    assert (await world.message(await world.publish()))["status"] == "pending"
    assert len(receiver.seen) == 1


async def test_a_deleted_one_is_gone_with_its_log(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    await world.settled(await world.publish(), "processed")
    await world.logged(made, 1)
    assert (await world.api.delete(world.path(made))).status_code == 204
    for path in (world.path(made), f"{world.path(made)}/deliveries"):
        assert (await world.api.get(path)).status_code == 404
    assert (await world.api.delete(world.path(made))).status_code == 404
    assert (await world.message(await world.publish()))["status"] == "pending"


@pytest.mark.parametrize("disabled", [False, True])
async def test_it_goes_with_its_queue_and_does_not_come_back_with_another_of_that_name(
    world: World, receiver: Receiver, disabled: bool
) -> None:
    made = await world.make(receiver.url, disabled=disabled)
    assert (await world.api.delete("/queues/q")).status_code == 204
    assert (await world.api.get(world.path())).status_code == 404
    number = await world.publish()
    assert (await world.api.get(world.path())).json()["items"] == []
    assert (await world.api.get(world.path(made))).status_code == 404
    assert (await world.message(number))["status"] == "pending"
    assert (await world.api.get("/consumers")).json()["items"] == []


async def test_no_queue_is_made_where_queues_are_not_made_by_use(tmp_path: Path, receiver: Receiver) -> None:
    async with broker(tmp_path, auto_create_queues=False) as world:
        answer = await world.api.post(world.path(), json={"url": receiver.url})
        assert answer.status_code == 404


async def test_a_restart_in_mid_delivery_loses_nothing_and_it_goes_on(tmp_path: Path, receiver: Receiver) -> None:
    async with broker(tmp_path) as world:
        made = await world.make(receiver.url, concurrency=2)
        receiver.open.clear()
        numbers = [await world.publish(n) for n in range(5)]
        await receiver.until(2)
    receiver.open.set()
    receiver.seen.clear()
    async with broker(tmp_path) as world:
        for number in numbers:
            message = await world.settled(number, "processed")
            assert message["error"] is None
        contents = [request.verified(made["secret"])["content"] for request in receiver.seen]
        assert sorted(contents) == [0, 1, 2, 3, 4]


async def test_a_stop_gives_requests_under_way_their_time(tmp_path: Path, receiver: Receiver) -> None:
    async with broker(tmp_path) as world:
        await world.make(receiver.url)
        receiver.open.clear()
        number = await world.publish()
        await receiver.one()
        drain = asyncio.create_task(world.node.drain(asyncio.Event()))
        await eventually(lambda: _later(world.node.broker.draining))
        assert not drain.done()
        receiver.open.set()
        await drain
        assert (await world.message(number))["status"] == "processed"
        # And nothing more is pushed.
        assert len(receiver.seen) == 1


async def test_a_stop_that_cannot_wait_gives_messages_back(tmp_path: Path, receiver: Receiver) -> None:
    async with broker(tmp_path, drain_timeout_ms=0) as world:
        await world.make(receiver.url)
        receiver.open.clear()
        number = await world.publish()
        await receiver.one()
        await world.node.drain(asyncio.Event())
        message = await world.settled(number, "pending")
        assert message["error"] is None


async def _later(value: Any) -> Any:
    return value


async def test_a_run_of_failures_is_remembered_over_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    receiver.otherwise = 500
    async with broker(tmp_path) as world:
        await world.config(backoff={"kind": "fixed", "base_ms": 1, "jitter": False}, max_attempts=0)
        made = await world.make(receiver.url)
        await world.publish()
        since = (await world.has_become(made, "slowed"))["failing_since"]
    async with broker(tmp_path) as world:
        shown = await world.look(made)
        assert (shown["status"], shown["failing_since"]) == ("slowed", since)


async def test_where_they_are_off_none_is_made_and_none_runs(tmp_path: Path, receiver: Receiver) -> None:
    async with broker(tmp_path) as world:
        made = await world.make(receiver.url)
    async with broker(tmp_path, webhooks=False) as world:
        answer = await world.api.post(world.path(), json={"url": receiver.url})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "webhooks = on" in answer.json()["detail"]
        shown = await world.look(made)
        assert (shown["status"], shown["reason"]) == ("stopped", answer.json()["detail"])
        assert (await world.api.post(f"{world.path(made)}/test")).status_code == 403
        assert (await world.message(await world.publish()))["status"] == "pending"
        assert (await world.api.delete(world.path(made))).status_code == 204


async def test_where_the_extra_is_missing_it_says_what_to_install(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streambroker.transport.webhooks.opening.find_spec", lambda name: None)
    async with broker(tmp_path) as world:
        answer = await world.api.post(world.path(), json={"url": receiver.url})
        assert answer.status_code == 403
        assert "pip install 'streambroker[webhooks]'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"url": 1}, "/url"),
        ({}, "/url"),
        ({"url": "{url}", "colour": 1}, "/colour"),
        ({"url": "{url}", "secret": "short"}, "/secret"),
        ({"url": "{url}", "secret": "whsec_c2hvcnQ="}, "/secret"),
        ({"url": "{url}", "secret": "whsec_" + "!" * 40}, "/secret"),
        ({"url": "{url}", "concurrency": 0}, "/concurrency"),
        ({"url": "{url}", "concurrency": 51}, "/concurrency"),
        ({"url": "{url}", "timeout_ms": 99}, "/timeout_ms"),
        ({"url": "{url}", "timeout_ms": 60_001}, "/timeout_ms"),
        ({"url": "{url}", "headers": {"Host": "x"}}, "/headers/Host"),
        ({"url": "{url}", "headers": {"Webhook-Signature": "x"}}, "/headers/Webhook-Signature"),
        ({"url": "{url}", "headers": {"Transfer-Encoding": "x"}}, "/headers/Transfer-Encoding"),
        ({"url": "{url}", "headers": {"a b": "x"}}, "/headers"),
        ({"url": "{url}", "headers": {"X": "a\r\nY: b"}}, "/headers/X"),
        ({"url": "{url}", "headers": {"X": ""}}, "/headers/X"),
        ({"url": "{url}", "headers": {"X": "1", "x": "2"}}, "/headers/x"),
        ({"url": "{url}", "headers": {f"x{n}": "1" for n in range(21)}}, "/headers"),
        ({"url": "{url}", "description": "d" * 257}, "/description"),
    ],
)
async def test_a_wrong_member_is_named(world: World, receiver: Receiver, members: Any, pointer: str) -> None:
    asked = {name: receiver.url if value == "{url}" else value for name, value in members.items()}
    answer = await world.api.post(world.path(), json=asked)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_to_give_a_secret_and_to_have_one_made_exclude_each_other(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    answer = await world.api.patch(world.path(made), json={"secret": made["secret"], "rotate_secret": True})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/rotate_secret")


async def test_metrics_count_requests_by_what_came_of_them(world: World, receiver: Receiver) -> None:
    await world.config(**LATER)
    made = await world.make(receiver.url)
    receiver.answers.append(400)
    await world.failed_once(await world.publish())
    await world.settled(await world.publish(), "processed")
    await world.logged(made, 2)
    lines = (await world.api.get("/metrics")).text.splitlines()
    assert 'streambroker_webhook_deliveries_total{outcome="delivered"} 1' in lines
    assert 'streambroker_webhook_deliveries_total{outcome="refused"} 1' in lines
    assert 'streambroker_webhook_deliveries_total{outcome="gone"} 0' in lines
    assert "streambroker_webhook_requests 0" in lines
