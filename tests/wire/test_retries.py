"""Failures: leases that end, attempts, backoff, time to live, dead letters and the way back (§4, §7.7, §7.10)."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.wire.doors import Message, Messages, Queue, eventually, fresh_name, instant
from tests.wire.sockets import Socket


def fail(queue: Queue, messages: Messages, reason: str = "boom") -> dict[str, Any]:
    """One delivery that fails and asks to be tried again at once."""
    return messages.nack(queue.take(), requeue=True, delay_ms=0, reason=reason)


# ---- leases


def test_an_expired_lease_is_ready_at_once_and_counts_an_attempt(queue: Queue, messages: Messages) -> None:
    message_id = queue.publish()
    first = queue.take(lease_ms=100)
    second = queue.take()
    assert second["message_id"] == message_id
    assert second["attempt"] == 2
    assert instant(second["updated_at"]) >= instant(first["lease_expires_at"]) - 0.001  # never early
    assert messages.ack(second)["status"] == "processed"


def test_an_expired_lease_keeps_its_old_place(queue: Queue) -> None:
    queue.publish_many(1, 2, 3)
    first = queue.take(lease_ms=20)
    eventually(lambda: queue.counts()["pending"], lambda pending: pending == 3)
    assert [message["content"] for message in queue.take_many(3)] == [first["content"], 2, 3]


def test_an_expired_lease_is_a_failure(queue: Queue, messages: Messages) -> None:
    message_id = queue.publish(max_attempts=1)
    queue.take(lease_ms=20)
    eventually(lambda: messages.status(message_id), lambda status: status == "failed")
    assert messages.get(message_id)["error"]
    assert queue.consume() is None


def test_an_expired_lease_of_a_queue_setting_comes_back_too(api: httpx.Client) -> None:
    queue = Queue(api, lease_ms=50)
    queue.publish()
    queue.take()
    assert queue.take()["attempt"] == 2


# ---- attempts


@pytest.mark.parametrize("by_message", [True, False], ids=["of the message", "of the queue"])
def test_attempts_that_are_used_up_make_it_failed(api: httpx.Client, messages: Messages, by_message: bool) -> None:
    queue = Queue(api, max_attempts=9 if by_message else 3)
    message_id = queue.publish(**({"max_attempts": 3} if by_message else {}))
    assert [fail(queue, messages, f"no {n}")["status"] for n in range(3)] == ["pending", "pending", "failed"]
    message = messages.get(message_id)
    assert message["error"] == "no 2"
    assert message["attempt"] == 3
    assert message["max_attempts"] == 3
    assert queue.consume() is None


def test_no_limit_of_attempts_means_none(api: httpx.Client, messages: Messages) -> None:
    queue = Queue(api, max_attempts=0)
    queue.publish()
    assert {fail(queue, messages)["status"] for _ in range(8)} == {"pending"}
    assert queue.take()["attempt"] == 9


def test_a_clean_release_is_not_a_failure(queue: Queue, messages: Messages, ws: Socket) -> None:
    message_id = queue.publish(max_attempts=1)
    for attempt in range(1, 4):
        ws.ok("subscribe", queue=queue.name)
        assert ws.deliveries(1)[0]["attempt"] == attempt
        ws.ok("unsubscribe", sub=queue.name)
        eventually(lambda: messages.status(message_id), lambda status: status == "pending")
    assert queue.take()["attempt"] == 4


# ---- backoff


def test_a_requeue_waits_for_the_backoff_which_grows_up_to_its_limit(api: httpx.Client, messages: Messages) -> None:
    backoff = {"kind": "exponential", "base_ms": 1, "factor": 100, "max_ms": 5000, "jitter": False}
    queue = Queue(api, backoff=backoff, max_attempts=0)
    message_id = queue.publish()
    for wait in (0.001, 0.1, 5.0):
        message = queue.take()
        before = time.time()
        assert messages.nack(message, requeue=True)["status"] == "pending"
        after = time.time()
        assert before + wait - 0.003 <= instant(messages.get(message_id)["available_at"]) <= after + wait + 0.003
    assert queue.counts()["delayed"] == 1


def test_jitter_keeps_a_backoff_under_its_limit(api: httpx.Client, messages: Messages) -> None:
    backoff = {"kind": "exponential", "base_ms": 60_000, "factor": 2, "max_ms": 60_000, "jitter": True}
    queue = Queue(api, backoff=backoff)
    ids = queue.publish_many(*range(20))
    for message in queue.take_many(20):
        messages.nack(message, requeue=True)
    now = time.time()
    waits = [instant(messages.get(message_id)["available_at"]) - now for message_id in ids]
    assert max(waits) <= 66
    assert len({round(wait, 3) for wait in waits}) > 10, waits


def test_a_nack_may_say_itself_how_long_to_wait(queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2)
    first, second = queue.take_many(2)
    messages.nack(first, requeue=True, delay_ms=600_000)
    messages.nack(second, requeue=True, delay_ms=50)
    assert queue.take()["message_id"] == second["message_id"]
    wait = instant(messages.get(first["message_id"])["available_at"]) - time.time()
    assert 590 < wait <= 601


# ---- time to live


@pytest.mark.parametrize("by_message", [True, False], ids=["of the message", "of the queue"])
def test_what_nobody_took_in_time_is_failed(api: httpx.Client, messages: Messages, by_message: bool) -> None:
    queue = Queue(api, message_ttl_ms=0 if by_message else 30)
    message_id = queue.publish(**({"ttl_ms": 30} if by_message else {}))
    assert messages.get(message_id)["expires_at"] is not None
    eventually(lambda: messages.status(message_id), lambda status: status == "failed")
    assert messages.get(message_id)["error"] == "expired"
    assert queue.consume() is None
    assert queue.counts()["failed"] == 1


def test_an_expired_message_is_never_delivered(api: httpx.Client, messages: Messages) -> None:
    queue = Queue(api, message_ttl_ms=1)
    ids = queue.publish_many(*range(10))
    Queue(api).consume(wait_ms=20)
    assert queue.take_many(100) == []
    eventually(lambda: {messages.status(message_id) for message_id in ids}, lambda seen: seen == {"failed"})


def test_what_is_held_does_not_expire_under_its_consumer(queue: Queue, messages: Messages) -> None:
    queue.publish(ttl_ms=2_000)
    message = queue.take()
    Queue(queue.api).consume(wait_ms=2_500)
    assert messages.ack(message)["status"] == "processed"


# ---- dead letters


def with_dead_letters(api: httpx.Client, **config: Any) -> tuple[Queue, Queue]:
    dead = Queue(api, lease_ms=30_000)
    return Queue(api, dead_letter_queue=dead.name, **config), dead


def check_dead_letter(
    message: Message, queue: Queue, dead: Queue, reason: str, error: str | None, attempts: int
) -> None:
    assert message["queue"] == dead.name
    note = message["dead_letter"]
    assert set(note) >= {"queue", "reason", "error", "attempts", "at"}
    assert note["queue"] == queue.name
    assert note["reason"] == reason
    assert note["attempts"] == attempts
    if error is not None:
        assert note["error"] == error
    instant(note["at"])


def test_a_rejected_message_is_moved(api: httpx.Client, messages: Messages) -> None:
    queue, dead = with_dead_letters(api)
    message_id = queue.publish({"keep": [1.0, "x"]}, key="k", headers={"h": "v"}, priority=3, correlation_id="c")
    messages.nack(queue.take(), reason="no such customer")
    assert queue.counts() == {"pending": 0, "delayed": 0, "processing": 0, "processed": 0, "failed": 0}
    moved = messages.get(message_id)
    assert moved["status"] == "pending"
    check_dead_letter(moved, queue, dead, "rejected", "no such customer", 1)
    delivered = dead.take()
    assert delivered["message_id"] == message_id
    assert delivered["attempt"] == 1
    check_dead_letter(delivered, queue, dead, "rejected", "no such customer", 1)
    kept = {"content": {"keep": [1.0, "x"]}, "key": "k", "headers": {"h": "v"}, "priority": 3, "correlation_id": "c"}
    assert {field: delivered[field] for field in kept} == kept
    assert messages.ack(delivered)["status"] == "processed"


def test_a_message_whose_attempts_are_used_up_is_moved(api: httpx.Client, messages: Messages) -> None:
    queue, dead = with_dead_letters(api, max_attempts=2)
    queue.publish()
    fail(queue, messages, "first")
    fail(queue, messages, "second")
    check_dead_letter(dead.take(), queue, dead, "attempts", "second", 2)


def test_a_lease_that_expires_for_the_last_time_moves_its_message(api: httpx.Client) -> None:
    queue, dead = with_dead_letters(api, max_attempts=1)
    queue.publish()
    queue.take(lease_ms=20)
    check_dead_letter(dead.take(), queue, dead, "attempts", None, 1)


def test_an_expired_message_is_moved(api: httpx.Client) -> None:
    queue, dead = with_dead_letters(api)
    message_id = queue.publish(ttl_ms=20)
    message = dead.take()
    assert message["message_id"] == message_id
    check_dead_letter(message, queue, dead, "expired", None, 0)


def test_a_moved_message_wakes_who_waits_for_dead_letters(api: httpx.Client, messages: Messages, ws: Socket) -> None:
    queue, dead = with_dead_letters(api)
    ws.ok("subscribe", queue=dead.name)
    message_id = queue.publish()
    messages.nack(queue.take())
    assert ws.deliveries(1)[0]["message_id"] == message_id


def test_a_dead_letter_queue_is_made_when_it_is_needed(api: httpx.Client, messages: Messages) -> None:
    name = fresh_name("dead")
    queue = Queue(api, dead_letter_queue=name)
    message_id = queue.publish()
    messages.nack(queue.take())
    assert Queue(api, name).take()["message_id"] == message_id


def test_the_verdict_on_a_moved_message_can_be_heard_again(api: httpx.Client, messages: Messages) -> None:
    queue, dead = with_dead_letters(api)
    queue.publish()
    message = queue.take()
    messages.nack(message)
    assert messages.nack(message)["already_nacked"] is True
    assert dead.counts()["pending"] == 1


# ---- the way back


def test_failed_messages_are_redriven(queue: Queue, messages: Messages) -> None:
    ids = queue.publish_many(1, 2, 3, max_attempts=1)
    for message in queue.take_many(3):
        messages.nack(message, requeue=True, reason="boom")
    assert queue.counts()["failed"] == 3
    assert queue.post("/redrive", {"from": "failed", "limit": 2}).json()["redriven"] == 2
    assert queue.counts() == {"pending": 2, "delayed": 0, "processing": 0, "processed": 0, "failed": 1}
    assert queue.post("/redrive", {}).json()["redriven"] == 1
    assert queue.post("/redrive").json()["redriven"] == 0
    assert sorted(message["message_id"] for message in queue.take_many(5)) == sorted(ids)


def test_a_redriven_message_starts_with_no_failures(queue: Queue, messages: Messages) -> None:
    message_id = queue.publish(max_attempts=2)
    for _ in range(2):
        assert [fail(queue, messages)["status"] for _ in range(2)] == ["pending", "failed"]
        assert queue.post("/redrive").json()["redriven"] == 1
    assert queue.take()["message_id"] == message_id


def test_dead_letters_are_redriven_home(api: httpx.Client, messages: Messages) -> None:
    queue, dead = with_dead_letters(api, max_attempts=1)
    other = Queue(api, dead_letter_queue=dead.name, max_attempts=1)
    ids = queue.publish_many(1, 2, 3)
    other.publish("foreign")
    for message in [*queue.take_many(3), other.take()]:
        messages.nack(message, requeue=True, delay_ms=0, reason="boom")
    assert dead.counts()["pending"] == 4
    assert queue.post("/redrive", {"from": dead.name, "limit": 1}).json()["redriven"] == 1
    assert queue.counts()["pending"] == 1
    assert queue.post("/redrive", {"from": dead.name}).json()["redriven"] == 2  # its own, not another queue's
    assert sorted(message["message_id"] for message in queue.browse()) == sorted(ids)
    message = queue.take()
    assert message["queue"] == queue.name
    assert message["dead_letter"]["queue"] == queue.name
    assert message["dead_letter"]["reason"] == "attempts"
    messages.nack(message, requeue=True, delay_ms=0)
    assert messages.get(message["message_id"])["queue"] == dead.name


def test_a_redrive_wakes_who_waits(queue: Queue, messages: Messages, ws: Socket) -> None:
    message_id = queue.publish()
    messages.nack(queue.take())
    ws.ok("subscribe", queue=queue.name)
    queue.post("/redrive")
    assert ws.deliveries(1)[0]["message_id"] == message_id


def test_what_is_held_in_a_dead_letter_queue_is_not_redriven(api: httpx.Client, messages: Messages) -> None:
    queue, dead = with_dead_letters(api)
    queue.publish()
    messages.nack(queue.take())
    held = dead.take()
    assert queue.post("/redrive", {"from": dead.name}).json()["redriven"] == 0
    assert messages.ack(held)["status"] == "processed"
