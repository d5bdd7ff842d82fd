"""The webhooks of all queues in one list, and how each did of late."""

from __future__ import annotations

from tests.webhooks.receiver import Receiver
from tests.webhooks.world import World


async def test_the_list_of_all_tells_how_each_did_of_late(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, disabled=True)
    fresh = await world.make(receiver.url, disabled=True)
    receiver.answers.extend([200, 500, 404])
    for _ in range(3):
        await world.api.post(f"{world.path(made)}/test")
    first, second = (await world.api.get("/webhooks")).json()["items"]
    assert (first["id"], first["failures"]) == (made["id"], 2)
    assert (first["last_delivery"]["outcome"], first["last_delivery"]["status_code"]) == ("refused", 404)
    assert (second["id"], second["failures"], second["last_delivery"]) == (fresh["id"], 0, None)
    assert "secret" not in first
    await world.api.post(f"{world.path(made)}/test")
    assert (await world.api.get("/webhooks")).json()["items"][0]["failures"] == 0


async def test_it_has_what_one_may_manage_in_pages_and_of_one_queue(world: World, receiver: Receiver) -> None:
    ids = {}
    for queue in ("a.1", "b", "a.2"):
        answer = await world.api.post(f"/queues/{queue}/webhooks", json={"url": receiver.url})
        ids[queue] = answer.json()["id"]
    ana = await world.user("ana", "manage", queues="a.*")
    bea = await world.user("bea", "view", "consume")
    page = (await ana.get("/webhooks", params={"limit": 1})).json()
    rest = (await ana.get("/webhooks", params={"limit": 1, "cursor": page["next_cursor"]})).json()
    found = [item["id"] for item in page["items"] + rest["items"]]
    assert (found, rest["next_cursor"]) == (sorted([ids["a.1"], ids["a.2"]]), None)
    assert (await bea.get("/webhooks")).json() == {"items": [], "next_cursor": None}
    only = (await world.api.get("/webhooks", params={"queue": "b"})).json()["items"]
    assert [item["id"] for item in only] == [ids["b"]]
    assert (await ana.get("/webhooks", params={"queue": "b"})).json()["items"] == []


async def test_connections_are_kept_and_used_again(world: World, receiver: Receiver) -> None:
    await world.make(receiver.url, concurrency=1)
    for number in range(5):
        await world.settled(await world.publish(number), "processed")
    assert (len(receiver.seen), receiver.connections) == (5, 1)
