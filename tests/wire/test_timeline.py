"""What happened to one message, and trying it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.wire.doors import Messages, Queue, eventually, instant
from tests.wire.people import grant, somebody
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket


def timeline(api: httpx.Client, message_id: str) -> list[dict[str, Any]]:
    reply = api.get(f"/messages/{message_id}/timeline")
    assert reply.status_code == 200, reply.text
    assert set(reply.json()) == {"items"}
    items: list[dict[str, Any]] = reply.json()["items"]
    for item in items:
        assert set(item) == {"at", "event", "attempt", "consumer", "lease_expires_at", "error"}
    times = [instant(item["at"]) for item in items]
    assert times == sorted(times)
    return items


def events(api: httpx.Client, message_id: str) -> list[tuple[str, int]]:
    return [(item["event"], item["attempt"]) for item in timeline(api, message_id)]


# ---- the timeline


def test_a_message_that_goes_well_tells_its_way(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    message_id = queue.publish()
    assert events(api, message_id) == [("published", 0)]
    held = queue.take()
    published, delivered = timeline(api, message_id)
    assert published["at"] == held["created_at"]
    assert delivered == {
        "at": held["updated_at"],
        "event": "delivered",
        "attempt": 1,
        "consumer": "admin",
        "lease_expires_at": held["lease_expires_at"],
        "error": None,
    }
    messages.ack(held)
    assert events(api, message_id) == [("published", 0), ("delivered", 1), ("processed", 1)]
    _, again, processed = timeline(api, message_id)
    assert again == {**delivered, "lease_expires_at": None}
    assert (processed["consumer"], processed["lease_expires_at"]) == ("admin", None)


def test_each_attempt_says_who_had_it_until_when_and_why_it_ended(
    api: httpx.Client, queue: Queue, messages: Messages
) -> None:
    message_id = queue.publish()
    first = queue.take()
    messages.nack(first, requeue=True, delay_ms=0, reason="no stamp ☃")
    second = queue.take(lease_ms=20)
    eventually(lambda: messages.status(message_id), lambda status: status == "pending")
    messages.nack(queue.take(), reason="<b>bad</b>")
    told = timeline(api, message_id)
    assert [(item["event"], item["attempt"], item["error"]) for item in told] == [
        ("published", 0, None),
        ("delivered", 1, None),
        ("requeued", 1, "no stamp ☃"),
        ("delivered", 2, None),
        ("expired", 2, "lease expired"),
        ("delivered", 3, None),
        ("failed", 3, "<b>bad</b>"),
    ]
    assert [item["consumer"] for item in told] == [None] + ["admin"] * 6
    assert told[1]["lease_expires_at"] == told[2]["lease_expires_at"] == first["lease_expires_at"]
    assert told[3]["lease_expires_at"] == told[4]["lease_expires_at"] == second["lease_expires_at"]
    assert instant(told[4]["at"]) >= instant(second["lease_expires_at"])


@pytest.mark.parametrize(("clean", "event"), [(True, "released"), (False, "lost")])
def test_a_connection_that_ends_is_told_of(
    api: httpx.Client, queue: Queue, messages: Messages, connect: Callable[..., Socket], clean: bool, event: str
) -> None:
    message_id = queue.publish()
    ws = connect()
    ws.ok("subscribe", queue=queue.name, credit=1)
    ws.deliveries(1)
    assert timeline(api, message_id)[-1]["lease_expires_at"] is None  # as long as the connection lives
    ws.connection.close(1000 if clean else 4000)
    eventually(lambda: messages.status(message_id), lambda status: status == "pending")
    assert events(api, message_id) == [("published", 0), ("delivered", 1), (event, 1)]


def test_the_timeline_goes_with_the_message_to_its_dead_letter_queue_and_home(
    api: httpx.Client, messages: Messages
) -> None:
    dead = Queue(api)
    queue = Queue(api, dead_letter_queue=dead.name)
    message_id = queue.publish()
    messages.nack(queue.take(), reason="bad")
    assert messages.get(message_id)["queue"] == dead.name
    assert queue.post("/redrive", {"from": dead.name}).json() == {"redriven": 1}
    messages.ack(queue.take())
    assert [event for event, _ in events(api, message_id)] == [
        "published",
        "delivered",
        "dead_lettered",
        "redriven",
        "delivered",
        "processed",
    ]


def test_the_timeline_of_what_is_gone_is_gone(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    message_id = queue.publish()
    messages.nack(queue.take(), requeue=True, delay_ms=0)
    assert api.delete(f"/messages/{message_id}").status_code == 200
    for number in (message_id, "0000000000000001", "no-id"):
        check_refusal(api.get(f"/messages/{number}/timeline"), "not_found")


# ---- retry


def retry(api: httpx.Client, message_id: str) -> httpx.Response:
    return api.post(f"/messages/{message_id}/retry")


def test_a_failed_message_is_tried_again_at_once_with_all_its_attempts(
    api: httpx.Client, messages: Messages, connect: Callable[..., Socket]
) -> None:
    queue = Queue(api, max_attempts=2)
    ws = connect()
    message_id = queue.publish()
    messages.nack(queue.take(), requeue=True, delay_ms=0)
    messages.nack(queue.take(), requeue=True, delay_ms=0, reason="again")
    assert messages.status(message_id) == "failed"
    ws.ok("subscribe", queue=queue.name, credit=1)
    reply = retry(api, message_id)
    assert reply.status_code == 200
    assert reply.json() == {"message_id": message_id, "status": "pending", "queue": queue.name, "attempt": 2}
    (message,) = ws.deliveries(1)  # who waits is woken
    assert (message["message_id"], message["attempt"]) == (message_id, 3)
    ws.ok("nack", ids=[message_id], requeue=True, delay_ms=0)  # the first failure of two
    (message,) = ws.deliveries(1)
    ws.ok("ack", ids=[message_id])
    told = [event for event, _ in events(api, message_id)]
    assert told == [
        "published",
        "delivered",
        "requeued",
        "delivered",
        "failed",
        "redriven",
        "delivered",
        "requeued",
        "delivered",
        "processed",
    ]


def test_only_a_failed_message_is_tried_again(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    pending = queue.publish(delay_ms=60_000)
    processing, processed = queue.publish(), queue.publish()
    held = queue.take_many(2)
    messages.ack(held[1])
    for message_id, status in ((pending, "pending"), (processing, "processing"), (processed, "processed")):
        problem = check_refusal(retry(api, message_id), "conflict")
        assert f"is {status}" in problem["detail"]
        assert messages.status(message_id) == status
    for number in ("0000000000000001", "no-id"):
        check_refusal(retry(api, number), "not_found")


def test_a_dead_letter_that_waits_has_not_failed_and_keeps_its_note(api: httpx.Client, messages: Messages) -> None:
    dead = Queue(api)
    queue = Queue(api, dead_letter_queue=dead.name)
    message_id = queue.publish()
    messages.nack(queue.take(), reason="bad")
    check_refusal(retry(api, message_id), "conflict")
    note = messages.get(message_id)["dead_letter"]
    messages.nack(dead.take(), reason="worse")
    assert retry(api, message_id).json()["queue"] == dead.name
    after = messages.get(message_id)
    assert (after["status"], after["queue"], after["dead_letter"]) == ("pending", dead.name, note)


# ---- who may


@pytest.mark.parametrize("action", ["publish", "consume", "view", "manage"])
def test_to_look_takes_view_and_to_try_again_takes_manage(
    api: httpx.Client, queue: Queue, messages: Messages, action: str
) -> None:
    message_id = queue.publish()
    messages.nack(queue.take())
    with somebody(api, grants=[grant(queue.name, action)]) as person:
        looked = person.client.get(f"/messages/{message_id}/timeline")
        assert looked.status_code == (200 if action == "view" else 403)
        retried = retry(person.client, message_id)
        assert retried.status_code == (200 if action == "manage" else 403)
    assert messages.status(message_id) == ("pending" if action == "manage" else "failed")


def test_who_may_not_know_of_a_queue_learns_nothing_of_its_messages(
    api: httpx.Client, stranger: httpx.Client, queue: Queue, messages: Messages
) -> None:
    message_id = queue.publish()
    with somebody(api, grants=[grant("elsewhere", "view", "manage")]) as person:
        for number in (message_id, "0000000000000001"):
            looked = check_refusal(person.client.get(f"/messages/{number}/timeline"), "not_found")
            retried = check_refusal(retry(person.client, number), "not_found")
            assert looked["detail"] == retried["detail"] == "there is no such message"
    check_refusal(stranger.get(f"/messages/{message_id}/timeline"), "unauthenticated")
    check_refusal(retry(stranger, message_id), "unauthenticated")
