"""Queues: making, changing, pausing, purging and deleting them (contract §3)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.wire.doors import JSON, Messages, Queue, body, eventually, fresh_name
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket

DEFAULTS: dict[str, Any] = {
    "lease_ms": 30_000,
    "max_attempts": 5,
    "backoff": {"kind": "exponential", "base_ms": 1000, "factor": 2, "max_ms": 300_000, "jitter": True},
    "dead_letter_queue": None,
    "message_ttl_ms": 0,
    "max_messages": 0,
    "overflow": "reject",
    "retention_ms": 3_600_000,
    "dedup_window_ms": 86_400_000,
    "durability": "fsync",
}
OTHERS: dict[str, Any] = {
    "lease_ms": 5000,
    "max_attempts": 0,
    "backoff": {"kind": "exponential", "base_ms": 10, "factor": 3, "max_ms": 60_000, "jitter": False},
    "dead_letter_queue": "others-dead",
    "message_ttl_ms": 60_000,
    "max_messages": 7,
    "overflow": "drop_oldest",
    "retention_ms": 1000,
    "dedup_window_ms": 2000,
    "durability": "memory",
}
EMPTY = {"pending": 0, "delayed": 0, "processing": 0, "processed": 0, "failed": 0}


def make(api: httpx.Client, name: str, **config: Any) -> httpx.Response:
    return api.post("/queues", content=body({"name": name, **config}), headers=JSON)


def patch(queue: Queue, **config: Any) -> httpx.Response:
    return queue.api.patch(queue.path, content=body(config), headers=JSON)


def test_a_new_queue_has_the_defaults_and_nothing_in_it(api: httpx.Client, queue: Queue) -> None:
    reply = make(api, queue.name)
    assert reply.status_code == 201
    info = queue.info()
    assert info["name"] == queue.name
    assert info["config"] == DEFAULTS
    assert info["counts"] == EMPTY
    assert info["paused"] is False
    assert info["consumers"] == 0
    assert set(info["rates"]) == {"published", "delivered", "settled"}
    assert info["oldest_pending_age_ms"] in (None, 0)
    assert reply.json()["config"] == DEFAULTS
    assert reply.json()["name"] == queue.name


def test_every_setting_is_kept(api: httpx.Client, queue: Queue) -> None:
    assert make(api, queue.name, **OTHERS).status_code == 201
    assert queue.info()["config"] == OTHERS


def test_making_the_same_queue_again_is_fine(api: httpx.Client, queue: Queue) -> None:
    assert make(api, queue.name, lease_ms=5000).status_code == 201
    again = make(api, queue.name, lease_ms=5000)
    assert again.status_code == 200
    assert again.json()["name"] == queue.name
    assert make(api, queue.name, lease_ms=5000, max_attempts=5).status_code == 200  # a default said aloud


@pytest.mark.parametrize("field", sorted(OTHERS))
def test_making_a_queue_again_with_another_setting_is_a_conflict(api: httpx.Client, field: str) -> None:
    queue = Queue(api, max_messages=3)
    check_refusal(make(api, queue.name, **{"max_messages": 3, field: OTHERS[field]}), "conflict")
    assert queue.info()["config"] == DEFAULTS | {"max_messages": 3}


def test_a_queue_that_publishing_made_has_the_defaults(api: httpx.Client, queue: Queue, ws: Socket) -> None:
    queue.publish()
    assert queue.info()["config"] == DEFAULTS
    assert make(api, queue.name).status_code == 200


def test_every_door_makes_the_queue_that_it_names(api: httpx.Client, ws: Socket) -> None:
    names = [fresh_name("auto") for _ in range(9)]
    api.post(f"/queues/{names[0]}/messages", content=b'{"content": 1}', headers=JSON)
    api.post(f"/queues/{names[1]}/messages", content=b"raw", headers={"Content-Type": "text/plain"})
    api.post(f"/queues/{names[2]}/messages/batch", content=b'{"messages": [{"content": 1}]}', headers=JSON)
    api.post("/publish", content=body({"queue": names[3], "content": 1}), headers=JSON)
    assert api.get(f"/queues/{names[4]}/messages/consume").json() is None
    api.post(f"/queues/{names[5]}/messages/consume", content=b'{"max": 1}', headers=JSON)
    api.post("/consume", content=body({"queues": [names[6]], "max": 1, "wait_ms": 0}), headers=JSON)
    ws.ok("publish", queue=names[7], messages=[{"content": 1}])
    ws.ok("subscribe", queue=names[8])
    for name in names:
        assert api.get(f"/queues/{name}").status_code == 200, name


def test_looking_at_a_queue_does_not_make_it(api: httpx.Client) -> None:
    name = fresh_name("looked-at")
    for path in ("", "/messages"):
        check_refusal(api.get(f"/queues/{name}{path}"), "not_found")
    check_refusal(api.get(f"/queues/{name}"), "not_found")


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9", "x" * 128, "messages", "consume"])
def test_a_good_name_is_taken_as_it_is(api: httpx.Client, name: str) -> None:
    assert make(api, name).status_code in (200, 201)
    assert api.get(f"/queues/{name}").json()["name"] == name
    assert api.delete(f"/queues/{name}").is_success


@pytest.mark.parametrize("field", sorted(set(OTHERS)))
def test_a_setting_is_changed_alone(api: httpx.Client, field: str) -> None:
    queue = Queue(api, max_messages=3)
    reply = patch(queue, **{field: OTHERS[field]})
    if field == "durability" and reply.status_code != 200:
        check_refusal(reply, {"conflict", "invalid"})  # where a message lies may be settled at its queue's birth
        return
    assert reply.status_code == 200, reply.text
    assert reply.json()["config"] == DEFAULTS | {"max_messages": 3, field: OTHERS[field]}
    assert queue.info()["config"] == reply.json()["config"]


def test_an_empty_change_changes_nothing(api: httpx.Client) -> None:
    queue = Queue(api, max_messages=3)
    assert patch(queue).json()["config"] == DEFAULTS | {"max_messages": 3}


def test_a_changed_setting_holds_for_the_next_message(api: httpx.Client, messages: Messages) -> None:
    queue = Queue(api, max_attempts=9)
    assert patch(queue, max_attempts=1, max_messages=1).status_code == 200
    message_id = queue.publish()
    check_refusal(queue.post("/messages", {"content": 2}), "queue_full")
    messages.nack(queue.take(), requeue=True)
    assert messages.status(message_id) == "failed"


def test_counts_follow_the_messages(queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2, 3, 4)
    queue.publish(5, delay_ms=600_000)
    assert queue.counts() == EMPTY | {"pending": 5, "delayed": 1}
    first, second, third = queue.take_many(3)
    assert queue.counts() == EMPTY | {"pending": 2, "delayed": 1, "processing": 3}
    messages.ack(first)
    messages.nack(second)
    messages.nack(third, requeue=True, delay_ms=600_000)
    assert queue.counts() == {"pending": 3, "delayed": 2, "processing": 0, "processed": 1, "failed": 1}
    assert queue.info()["oldest_pending_age_ms"] >= 0


def test_consumers_are_subscriptions_and_parked_polls(queue: Queue, ws: Socket) -> None:
    ws.ok("subscribe", sub="a", queue=queue.name, credit=1)
    ws.ok("subscribe", sub="b", queue=queue.name, credit=1)
    assert queue.info()["consumers"] == 2
    with ThreadPoolExecutor(2) as pool:
        ws.ok("pause", sub="a")
        ws.ok("pause", sub="b")
        polls = [pool.submit(queue.consume, 30_000) for _ in range(2)]
        queue.await_consumers(4)
        queue.publish_many(1, 2)
        assert all(poll.result() for poll in polls)
    queue.await_consumers(2)
    ws.ok("unsubscribe", sub="a")
    queue.await_consumers(1)


def test_a_paused_queue_takes_messages_and_gives_none(api: httpx.Client, queue: Queue, ws: Socket) -> None:
    ws.ok("subscribe", queue=queue.name)
    assert queue.post("/pause").status_code == 200
    assert queue.info()["paused"] is True
    ids = queue.publish_many(1, 2)
    assert queue.consume(wait_ms=100) is None
    assert queue.take_many(5) == []
    ws.settle_down()
    assert "deliver" not in ws.ops()
    assert queue.post("/pause").status_code == 200  # paused twice is paused
    assert queue.post("/resume").status_code == 200
    assert [message["message_id"] for message in ws.deliveries(2)] == ids
    assert queue.info()["paused"] is False
    assert queue.post("/resume").status_code == 200


def test_a_resume_wakes_who_waits(queue: Queue) -> None:
    message_id = queue.publish()
    queue.post("/pause")
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(queue.consume, 30_000)
        queue.await_consumers(1)
        queue.post("/resume")
        message = poll.result()
    assert message is not None
    assert message["message_id"] == message_id


def test_what_is_held_can_be_settled_while_the_queue_is_paused(queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2)
    first, second = queue.take_many(2)
    queue.post("/pause")
    assert messages.ack(first)["status"] == "processed"
    assert messages.nack(second, requeue=True, delay_ms=0)["status"] == "pending"
    assert queue.consume(wait_ms=50) is None


@pytest.mark.parametrize(
    ("what", "purged", "left"),
    [
        (None, 2, {"processing": 1, "processed": 1, "failed": 1}),
        ({}, 2, {"processing": 1, "processed": 1, "failed": 1}),
        ({"status": "pending"}, 2, {"processing": 1, "processed": 1, "failed": 1}),
        ({"status": "failed"}, 1, {"pending": 2, "delayed": 1, "processing": 1, "processed": 1}),
        ({"status": "processed"}, 1, {"pending": 2, "delayed": 1, "processing": 1, "failed": 1}),
        ({"status": "all"}, 4, {"processing": 1}),
    ],
)
def test_a_purge_takes_what_it_names_and_never_what_is_held(
    queue: Queue, messages: Messages, what: dict[str, Any] | None, purged: int, left: dict[str, int]
) -> None:
    queue.publish_many(1, 2, 3, 4)
    queue.publish(5, delay_ms=600_000)
    first, second, third = queue.take_many(3)
    messages.ack(first)
    messages.nack(second)
    reply = queue.post("/purge", what)
    assert reply.status_code == 200
    assert reply.json()["purged"] == purged
    assert queue.counts() == EMPTY | left
    assert messages.ack(third)["status"] == "processed"


def test_a_deleted_queue_is_gone_with_its_messages(api: httpx.Client, queue: Queue) -> None:
    pending, held = queue.publish_many(1, 2)
    queue.take()
    assert api.delete(queue.path).is_success
    check_refusal(api.get(queue.path), "not_found")
    check_refusal(api.delete(queue.path), "not_found")
    for message_id in (pending, held):
        check_refusal(api.get(f"/messages/{message_id}"), "not_found")
    queue.publish("again")
    assert queue.counts() == EMPTY | {"pending": 1}


def test_who_waits_on_a_queue_that_is_deleted_does_not_wait_for_ever(api: httpx.Client, queue: Queue) -> None:
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(api.get, queue.path + "/messages/consume", params={"wait_ms": 30_000})
        queue.await_consumers(1)
        api.delete(queue.path)
        reply = poll.result(timeout=20)
    assert reply.status_code == 404 or (reply.status_code == 200 and reply.json() is None)


# ---- max_messages


def test_a_full_queue_refuses_and_counts_what_is_held(api: httpx.Client, messages: Messages) -> None:
    queue = Queue(api, max_messages=2)
    queue.publish_many(1, 2)
    problem = check_refusal(queue.post("/messages", {"content": 3}), "queue_full")
    assert queue.name in problem["detail"]
    message = queue.take()
    check_refusal(queue.post("/messages", {"content": 3}), "queue_full")
    check_refusal(
        api.post(queue.path + "/messages", content=b"raw", headers={"Content-Type": "text/plain"}), "queue_full"
    )
    messages.ack(message)
    queue.publish(3)
    assert queue.counts() == EMPTY | {"pending": 2, "processed": 1}


def test_a_batch_that_does_not_fit_is_refused_as_a_whole(api: httpx.Client, ws: Socket) -> None:
    queue = Queue(api, max_messages=3)
    queue.publish(0)
    three = [{"content": n} for n in range(3)]
    check_refusal(queue.post("/messages/batch", {"messages": three}), "queue_full")
    assert ws.error("publish", queue=queue.name, messages=three)["code"] == "queue_full"
    assert queue.counts()["pending"] == 1
    queue.publish_many(1, 2)
    assert queue.counts()["pending"] == 3


def test_a_duplicate_fits_into_a_full_queue(api: httpx.Client) -> None:
    queue = Queue(api, max_messages=1)
    message_id = queue.publish(1, dedup_id="d")
    reply = queue.post("/messages", {"content": 1, "dedup_id": "d"})
    assert reply.status_code == 200
    assert reply.json()["message_id"] == message_id


def test_a_full_queue_that_drops_keeps_the_newest(api: httpx.Client, messages: Messages) -> None:
    queue = Queue(api, max_messages=3, overflow="drop_oldest")
    ids = [queue.publish(n) for n in range(5)]
    assert queue.counts()["pending"] == 3
    assert [message["message_id"] for message in queue.take_many(10)] == ids[2:]


def test_a_full_queue_does_not_drop_what_is_held(api: httpx.Client, messages: Messages) -> None:
    queue = Queue(api, max_messages=2, overflow="drop_oldest")
    queue.publish_many(1, 2)
    held = queue.take()
    newest = queue.publish(3)
    assert messages.status(held["message_id"]) == "processing"
    assert [message["message_id"] for message in queue.take_many(10)] == [newest]
    assert messages.ack(held)["status"] == "processed"


# ---- retention and durability


def test_a_processed_message_stays_to_be_looked_at(queue: Queue, messages: Messages) -> None:
    queue.publish()
    message = queue.take()
    messages.ack(message)
    assert messages.get(message["message_id"])["status"] == "processed"
    assert [m["message_id"] for m in queue.browse(status="processed")] == [message["message_id"]]


def test_a_processed_message_is_gone_when_its_time_is_over(api: httpx.Client, messages: Messages) -> None:
    queue = Queue(api, retention_ms=50)
    queue.publish_many(1, 2)
    first, second = queue.take_many(2)
    messages.ack(first)
    messages.nack(second)
    eventually(lambda: api.get(f"/messages/{first['message_id']}").status_code, lambda status: status == 404)
    assert queue.counts() == EMPTY | {"failed": 1}  # a failed message waits for somebody to look


def test_a_memory_queue_works_like_any_other_and_says_what_it_is(
    api: httpx.Client, messages: Messages, ws: Socket
) -> None:
    queue = Queue(api, durability="memory")
    assert queue.info()["config"]["durability"] == "memory"
    reply = queue.post("/messages", {"content": 1})
    assert reply.status_code == 201
    assert "memory" in reply.text
    assert "memory" in queue.post("/messages/batch", {"messages": [{"content": 2}]}).text
    ws.ok("publish", queue=queue.name, messages=[{"content": 3}])
    first, second, third = queue.take_many(3)
    assert [first["content"], second["content"], third["content"]] == [1, 2, 3]
    messages.ack(first)
    messages.nack(second)
    messages.nack(third, requeue=True, delay_ms=0)
    assert queue.counts() == {"pending": 1, "delayed": 0, "processing": 0, "processed": 1, "failed": 1}
    assert queue.take()["attempt"] == 2
