"""Who consumes, and how one is disconnected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.wire.doors import JSON, Queue, body, eventually, instant
from tests.wire.people import Person, grant, somebody
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket

Connect = Callable[..., Socket]
FIELDS = {
    *("id", "kind", "user", "queue", "sub", "credit", "in_flight", "delivered_per_s", "paused", "address", "since"),
    "lease_mode",
}
UNKNOWN = "f" * 18


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def consumers(api: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    reply = api.get("/consumers", params=params)
    assert reply.status_code == 200, reply.text
    items: list[dict[str, Any]] = reply.json()["items"]
    return items


def only(api: httpx.Client, queue: Queue) -> dict[str, Any]:
    """The one consumer of the queue."""
    (one,) = several(api, queue, 1)
    return one


def several(api: httpx.Client, queue: Queue, count: int) -> list[dict[str, Any]]:
    """The consumers of the queue, once there are so many; the first of them may have to make the queue yet."""

    def look() -> list[dict[str, Any]]:
        reply = api.get("/consumers", params={"queue": queue.name})
        return reply.json()["items"] if reply.status_code == 200 else []

    return eventually(look, lambda found: len(found) == count)


def test_a_subscription_tells_how_it_stands(api: httpx.Client, ws: Socket, queue: Queue) -> None:
    queue.publish_many(1, 2, 3)
    ws.ok("subscribe", queue=queue.name, sub="mine", credit=2)
    ws.deliveries(2)
    one = only(api, queue)
    assert one.keys() == FIELDS
    assert instant(one["since"]) > 0
    assert one["address"] == "127.0.0.1"
    expected = {"kind": "websocket", "user": "admin", "queue": queue.name, "sub": "mine", "lease_mode": "session"}
    assert expected.items() <= one.items()
    assert (one["credit"], one["in_flight"], one["paused"]) == (2, 2, False)
    ws.ok("pause", sub="mine")
    assert only(api, queue)["paused"] is True
    ws.ok("subscribe", queue=queue.name, sub="other", lease_mode="fixed")
    modes = {one["sub"]: one["lease_mode"] for one in consumers(api, queue=queue.name)}
    assert modes == {"mine": "session", "other": "fixed"}
    ws.ok("unsubscribe", sub="mine")
    assert only(api, queue)["sub"] == "other"


def test_a_parked_poll_is_a_consumer_of_each_of_its_queues(api: httpx.Client, pool: ThreadPoolExecutor) -> None:
    first, second = Queue(api), Queue(api)
    asked = {"queues": [first.name, second.name], "max": 7, "wait_ms": 30_000}
    poll = pool.submit(api.post, "/consume", content=body(asked), headers=JSON)
    for queue in (first, second):
        one = only(api, queue)
        assert (one["kind"], one["sub"], one["credit"], one["in_flight"]) == ("long_poll", None, 7, 0)
        assert one["lease_mode"] == "fixed"
    message_id = second.publish()
    assert [message["message_id"] for message in poll.result(60).json()["messages"]] == [message_id]
    several(api, first, 0)


def test_who_has_left_is_not_listed(api: httpx.Client, connect: Connect, queue: Queue) -> None:
    ws = connect(f"/queues/{queue.name}/ws")
    only(api, queue)
    ws.close()
    several(api, queue, 0)
    connect().ok("subscribe", queue=queue.name)
    only(api, queue)
    assert api.delete(queue.path).is_success
    check_refusal(api.get("/consumers", params={"queue": queue.name}), "not_found")
    assert queue.name not in {one["queue"] for one in consumers(api, limit=500)}


def test_the_list_comes_in_pages(api: httpx.Client, ws: Socket, queue: Queue) -> None:
    for number in range(5):
        ws.ok("subscribe", queue=queue.name, sub=f"s{number}")
    seen, cursor = [], None
    while True:
        params: dict[str, Any] = {"queue": queue.name, "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = api.get("/consumers", params=params).json()
        assert len(page["items"]) <= 2
        seen += [one["sub"] for one in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [f"s{number}" for number in range(5)]
    check_refusal(api.get("/consumers", params={"cursor": "nonsense"}), "invalid")
    check_refusal(api.get("/consumers", params={"queue": "not a name"}), "invalid")
    check_refusal(api.get("/consumers", params={"limit": "501"}), "invalid")


def test_a_disconnected_socket_is_closed_with_4403_and_its_messages_are_back_without_a_failure(
    api: httpx.Client, ws: Socket
) -> None:
    queue = Queue(api, max_attempts=1)
    message_id = queue.publish()
    ws.ok("subscribe", queue=queue.name)
    ws.deliveries(1)
    assert api.delete(f"/consumers/{only(api, queue)['id']}").status_code == 204
    assert ws.close_code() == 4403
    assert queue.take()["message_id"] == message_id  # one failure would have been the last
    several(api, queue, 0)


def test_a_disconnected_poll_is_answered_with_nothing(
    api: httpx.Client, queue: Queue, pool: ThreadPoolExecutor
) -> None:
    one, many = pool.submit(queue.consume, 30_000), pool.submit(queue.take_many, 5, 30_000)
    for found in several(api, queue, 2):
        assert api.delete(f"/consumers/{found['id']}").status_code == 204
    assert one.result(60) is None
    assert many.result(60) == []
    message_id = queue.publish()
    assert queue.take()["message_id"] == message_id


def test_who_is_not_there_cannot_be_disconnected(api: httpx.Client, ws: Socket, queue: Queue) -> None:
    ws.ok("subscribe", queue=queue.name)
    path = f"/consumers/{only(api, queue)['id']}"
    assert api.delete(path).status_code == 204
    assert ws.close_code() == 4403
    several(api, queue, 0)
    for gone in (path, f"/consumers/{UNKNOWN}", "/consumers/nonsense"):
        check_refusal(api.delete(gone), "not_found")


# -- D12: what one may not see, and not do


@pytest.fixture
def viewer(api: httpx.Client) -> Iterator[Person]:
    with somebody(api, grants=[grant("shown.*", "view"), grant("worked.*", "consume")]) as person:
        yield person


@pytest.fixture
def manager(api: httpx.Client) -> Iterator[Person]:
    with somebody(api, grants=[grant("shown.*", "manage")]) as person:
        yield person


def test_d12_consumers_of_queues_that_one_may_not_view_are_not_there(
    api: httpx.Client, ws: Socket, viewer: Person
) -> None:
    for name in ("shown.c", "worked.c", "hidden.c"):
        ws.ok("subscribe", queue=name)
    assert {one["queue"] for one in consumers(viewer.client, limit=500)} == {"shown.c"}
    check_refusal(viewer.client.get("/consumers", params={"queue": "worked.c"}), "forbidden")
    check_refusal(viewer.client.get("/consumers", params={"queue": "hidden.c"}), "not_found")
    check_refusal(viewer.client.get("/consumers", params={"queue": "hidden.none"}), "not_found")


def test_d12_only_who_manages_the_queue_disconnects(
    api: httpx.Client, connect: Connect, viewer: Person, manager: Person
) -> None:
    shown, hidden = Queue(api, "shown.d"), Queue(api, "hidden.d")
    ws, other = connect(), connect()
    ws.ok("subscribe", queue=shown.name)
    other.ok("subscribe", queue=hidden.name)
    there, not_to_be_seen = only(api, shown)["id"], only(api, hidden)["id"]
    check_refusal(viewer.client.delete(f"/consumers/{there}"), "forbidden")
    for person in (viewer, manager):
        secret = person.client.delete(f"/consumers/{not_to_be_seen}")
        absent = person.client.delete(f"/consumers/{UNKNOWN}")
        assert check_refusal(secret, "not_found")["detail"] == check_refusal(absent, "not_found")["detail"]
    for socket in (ws, other):
        socket.settle_down()
    assert manager.client.delete(f"/consumers/{there}").status_code == 204
    assert ws.close_code() == 4403
    other.settle_down()
