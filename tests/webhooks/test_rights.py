"""A webhook may do what the one may do that it acts for, and no longer than that one may."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.webhooks.receiver import Receiver, receiving
from tests.webhooks.world import PASSWORD, Json, World, broker, eventually


@pytest.mark.parametrize(
    "actions", [a for n in range(5) for a in itertools.combinations(("publish", "consume", "manage", "view"), n)]
)
async def test_d12_to_make_one_takes_manage_and_consume(
    world: World, receiver: Receiver, actions: tuple[str, ...]
) -> None:
    api = await world.user("ann", *actions, queues="q")
    answer = await api.post("/queues/q/webhooks", json={"url": receiver.url})
    expected = 404 if not actions else 201 if {"manage", "consume"} <= {*actions} else 403
    assert answer.status_code == expected, answer.text
    assert (await world.client().post("/queues/q/webhooks", json={"url": receiver.url})).status_code == 401


async def test_d12_to_look_at_them_takes_manage_and_their_queue_alone(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    viewer = await world.user("vic", "view", "consume", "publish")
    manager = await world.user("max", "manage", queues="other")
    for path in (world.path(), world.path(made), f"{world.path(made)}/deliveries"):
        assert (await viewer.get(path)).status_code == 403
        assert (await manager.get(path)).status_code == 404
    # The id alone opens nothing: under another queue it is not there.
    assert (await manager.get(f"/queues/other/webhooks/{made['id']}")).status_code == 404
    assert (await manager.delete(f"/queues/other/webhooks/{made['id']}")).status_code == 404


async def grants(world: World, *actions: str) -> httpx.Response:
    given = [{"queues": "*", "actions": list(actions)}] if actions else []
    return await world.api.patch("/users/ann", json={"grants": given})


async def stopped(world: World, made: Json, reason: str) -> None:
    """It takes nothing any more, and says why."""
    shown = await world.look(made)
    assert (shown["status"], shown["reason"]) == ("stopped", reason)
    assert (await world.api.get("/queues/q")).json()["consumers"] == 0
    assert (await world.message(await world.publish()))["status"] == "pending"


async def test_it_stops_with_its_users_right_and_goes_on_with_it(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, await world.user("ann", "manage", "consume"))
    await grants(world, "manage")
    await stopped(world, made, "ann, for whom it acts, may no longer consume from q")
    assert receiver.seen == []
    await grants(world, "consume")
    await world.has_become(made, "active")
    await receiver.one()


async def test_it_stops_while_its_user_is_disabled(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, await world.user("ann", "manage", "consume"))
    await world.api.patch("/users/ann", json={"disabled": True})
    await stopped(world, made, "the user ann, for whom it acts, is disabled")
    await world.api.patch("/users/ann", json={"disabled": False})
    await receiver.one()


async def test_a_request_under_way_is_broken_off_and_its_message_goes_back_without_a_failure(
    world: World, receiver: Receiver
) -> None:
    await world.config(max_attempts=1)
    await world.make(receiver.url, await world.user("ann", "manage", "consume"))
    receiver.open.clear()
    number = await world.publish()
    await receiver.one()
    await grants(world)
    message = await world.settled(number, "pending")
    assert (message["attempt"], message["error"]) == (1, None)


async def test_a_logout_of_its_maker_changes_nothing(world: World, receiver: Receiver) -> None:
    ann = await world.user("ann", "manage", "consume")
    await world.make(receiver.url, ann)
    assert (await ann.post("/logout")).status_code == 204
    await world.settled(await world.publish(), "processed")


async def test_it_does_not_pass_to_the_next_user_of_that_name(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, await world.user("ann", "manage", "consume"))
    assert (await world.api.delete("/users/ann")).status_code == 204
    await world.user("ann2", "manage", "consume")
    made_again = {"username": "ann", "password": PASSWORD, "role": "admin", "grants": []}
    assert (await world.api.post("/users", json=made_again)).status_code == 201
    shown = await world.look(made)
    assert (shown["status"], shown["reason"]) == ("disabled", "the user ann, for whom it acted, was deleted")
    assert (await world.message(await world.publish()))["status"] == "pending"
    assert receiver.seen == []


async def key(api: httpx.AsyncClient, **options: Any) -> tuple[Json, dict[str, str]]:
    made = (await api.post("/api-keys", json={"name": "k", **options})).json()
    return made, {"Authorization": f"Bearer {made['key']}"}


async def test_one_that_a_key_made_ends_with_the_key(world: World, receiver: Receiver) -> None:
    ann = await world.user("ann", "manage", "consume")
    made_key, headers = await key(ann)
    answer = await world.client().post("/queues/q/webhooks", json={"url": receiver.url}, headers=headers)
    assert answer.status_code == 201
    await world.settled(await world.publish(), "processed")
    assert (await ann.delete(f"/api-keys/{made_key['id']}")).status_code == 204
    shown = await world.look(answer.json())
    assert (shown["status"], shown["reason"]) == ("disabled", "the API key for which it acted was deleted")
    assert (await world.message(await world.publish()))["status"] == "pending"


async def test_one_that_a_key_made_can_do_no_more_than_the_key(world: World, receiver: Receiver) -> None:
    _, headers = await key(world.api, grants=[{"queues": "mine", "actions": ["manage", "consume"]}])
    client = world.client()
    assert (await client.post("/queues/q/webhooks", json={"url": receiver.url}, headers=headers)).status_code == 404
    assert (await client.post("/queues/mine/webhooks", json={"url": receiver.url}, headers=headers)).status_code == 201


async def test_whoever_points_it_elsewhere_needs_the_right_and_is_whom_it_acts_for(
    world: World, receiver: Receiver
) -> None:
    made = await world.make(receiver.url)
    path, bob = world.path(made), await world.user("bob", "manage")
    further: list[Json] = [{"url": receiver.url}, {"headers": {}}, {"rotate_secret": True}, {"disabled": False}]
    for change in further:
        assert (await bob.patch(path, json=change)).status_code == 403, change
    assert (await bob.patch(path, json={"concurrency": 1, "disabled": True})).json()["username"] == "admin"
    cat = await world.user("cat", "manage", "consume")
    assert (await cat.patch(path, json={"disabled": False})).json()["username"] == "cat"
    assert (await world.api.delete("/users/cat")).status_code == 204
    await world.has_become(made, "disabled")
    # Whoever enables it again takes it over.
    assert (await world.change(made, disabled=False))["status"] == "active"
    await world.settled(await world.publish(), "processed")


async def test_d32_a_user_has_so_many_and_no_more(world: World, receiver: Receiver) -> None:
    made = [await world.make(receiver.url) for _ in range(20)]
    answer = await world.api.post(world.path(), json={"url": receiver.url})
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert "max_webhooks_per_user" in answer.json()["detail"]
    ann = await world.user("ann", "manage", "consume")
    one = await world.make(receiver.url, ann)
    # Nor by taking over somebody else's.
    assert (await world.api.patch(world.path(one), json={"url": receiver.url})).status_code == 429
    assert (await world.api.delete(world.path(made[0]))).status_code == 204
    await world.make(receiver.url)


async def test_disconnecting_it_as_a_consumer_disables_it(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, concurrency=7)
    (one,) = (await world.api.get("/consumers")).json()["items"]
    assert (one["kind"], one["sub"], one["user"], one["credit"]) == ("webhook", made["id"], "admin", 7)
    assert (one["address"], one["lease_mode"]) == (f"127.0.0.1:{receiver.port}", "session")
    assert (await world.api.get("/queues/q")).json()["consumers"] == 1
    assert (await world.api.delete(f"/consumers/{one['id']}")).status_code == 204
    shown = await eventually(lambda: world.look(made), lambda seen: seen["disabled"])
    assert shown["reason"] == "disconnected by an administrator"
    assert (await world.api.get("/consumers")).json()["items"] == []


async def test_one_that_a_key_made_ends_when_the_keys_time_is_over(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody changes anything then: it is seen when the next message comes."""
    ahead = 0
    monkeypatch.setattr("streambroker.node.wall_ms", lambda: time.time_ns() // 1_000_000 + ahead)
    async with broker(tmp_path) as world:
        expires_at = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        _, headers = await key(world.api, expires_at=expires_at)
        made = await world.client().post("/queues/q/webhooks", json={"url": receiver.url}, headers=headers)
        ahead = 600_000
        number = await world.publish()
        await eventually(lambda: world.api.get("/queues/q"), lambda seen: seen.json()["consumers"] == 0)
        assert (await world.settled(number, "pending"))["attempt"] == 0
        assert receiver.seen == []
        shown = await world.look(made.json())
        assert (shown["status"], shown["reason"]) == ("stopped", "the API key for which it acts has expired")


async def test_a_url_at_another_host_does_not_get_the_headers_of_the_one_before(world: World) -> None:
    """They may hold a password that whoever changes the URL was never shown."""
    async with receiving() as theirs, receiving() as mallorys:
        made = await world.make(theirs.url, headers={"Authorization": "Bearer of the receiver"})
        mallory = await world.user("mallory", "manage", "consume")
        refused = await mallory.patch(world.path(made), json={"url": mallorys.url})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/headers")
        assert (await world.look(made))["url"] == theirs.url
        changed = await mallory.patch(world.path(made), json={"url": mallorys.url, "headers": {"X-Own": "1"}})
        assert changed.status_code == 200
        await mallory.post(f"{world.path(made)}/test")
        seen = (await mallorys.one()).headers
        assert ("authorization" in seen, seen["x-own"]) == (False, "1")


async def test_another_path_at_the_same_host_keeps_the_headers(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, headers={"X-Own": "1"})
    await world.change(made, url=f"{receiver.url}/other")
    await world.publish()
    assert (await receiver.one()).headers["x-own"] == "1"
