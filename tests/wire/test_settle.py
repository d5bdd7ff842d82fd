"""Ack, nack and extend: judged by the token, on every door (contract §4, §7.6)."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.wire.doors import JSON, Message, Messages, Queue, body, eventually, instant
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket

VERBS = [("ack", {}), ("nack", {}), ("nack", {"requeue": True}), ("extend", {"lease_ms": 1000})]


@pytest.fixture
def message(queue: Queue) -> Message:
    """A message that this test holds."""
    queue.publish("x")
    return queue.take()


def expired(queue: Queue, messages: Messages) -> Message:
    """A message whose lease is over and that nobody else has got yet."""
    message_id = queue.publish("late")
    held = queue.take(lease_ms=20)
    eventually(lambda: messages.status(message_id), lambda status: status == "pending")
    return held


# ---- the plain way


@pytest.mark.parametrize("by_token", [True, False], ids=["by token", "without"])
def test_an_ack_makes_it_processed(queue: Queue, messages: Messages, message: Message, by_token: bool) -> None:
    fields = {"lease": message["lease"]} if by_token else {}
    result = messages.settle(message["message_id"], "ack", **fields)
    assert result["status"] == "processed"
    assert not result.get("already_acked")
    after = messages.get(message["message_id"])
    assert after["status"] == "processed"
    assert after["attempt"] == 1
    assert not after.get("lease")
    assert queue.consume() is None


@pytest.mark.parametrize("by_token", [True, False], ids=["by token", "without"])
def test_a_nack_makes_it_failed_unless_told(queue: Queue, messages: Messages, message: Message, by_token: bool) -> None:
    fields = {"lease": message["lease"]} if by_token else {}
    assert messages.settle(message["message_id"], "nack", reason="no stamp ☃", **fields)["status"] == "failed"
    after = messages.get(message["message_id"])
    assert after["status"] == "failed"
    assert after["error"] == "no stamp ☃"
    assert queue.consume() is None


@pytest.mark.parametrize("by_token", [True, False], ids=["by token", "without"])
def test_a_nack_with_requeue_makes_it_pending(
    queue: Queue, messages: Messages, message: Message, by_token: bool
) -> None:
    fields = {"lease": message["lease"]} if by_token else {}
    result = messages.settle(message["message_id"], "nack", requeue=True, delay_ms=0, reason="busy", **fields)
    assert result["status"] == "pending"
    again = queue.take()
    assert again["message_id"] == message["message_id"]
    assert again["attempt"] == 2
    assert again["error"] == "busy"
    assert again["lease"] != message["lease"]


@pytest.mark.parametrize("requeue", ["true", "True", "1"])
def test_requeue_may_stand_in_the_query(messages: Messages, message: Message, requeue: str) -> None:
    assert messages.settle(message["message_id"], "nack", {"requeue": requeue})["status"] == "pending"


@pytest.mark.parametrize("requeue", ["false", "False", "0"])
def test_no_requeue_may_stand_in_the_query(messages: Messages, message: Message, requeue: str) -> None:
    assert messages.settle(message["message_id"], "nack", {"requeue": requeue})["status"] == "failed"


def test_an_empty_object_is_as_good_as_no_body(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    for verb, status in (("ack", "processed"), ("nack", "failed")):
        queue.publish()
        reply = api.post(f"/messages/{queue.take()['message_id']}/{verb}", content=b"{}", headers=JSON)
        assert reply.status_code == 200
        assert reply.json()["status"] == status


@pytest.mark.parametrize("by_token", [True, False], ids=["by token", "without"])
def test_an_extend_moves_the_end_of_the_lease(messages: Messages, message: Message, by_token: bool) -> None:
    fields = {"lease": message["lease"]} if by_token else {}
    before = time.time()
    result = messages.settle(message["message_id"], "extend", lease_ms=600_000, **fields)
    assert result["status"] == "processing"
    if "lease_expires_at" in result:
        assert before + 600 - 0.002 <= instant(result["lease_expires_at"]) <= time.time() + 600 + 0.002
    assert messages.ack(message)["status"] == "processed"


def test_an_extended_lease_does_not_end_at_its_old_time(queue: Queue, messages: Messages) -> None:
    queue.publish()
    message = queue.take(lease_ms=2_000)
    messages.settle(message["message_id"], "extend", lease_ms=60_000, lease=message["lease"])
    assert queue.consume(wait_ms=3_000) is None
    assert messages.ack(message)["status"] == "processed"


def test_an_extend_can_shorten_a_lease(queue: Queue, messages: Messages, message: Message) -> None:
    messages.settle(message["message_id"], "extend", lease_ms=20, lease=message["lease"])
    assert queue.take()["attempt"] == 2


# ---- again, and otherwise


def test_an_ack_again_is_already_acked(messages: Messages, message: Message) -> None:
    messages.ack(message)
    for _ in range(2):
        again = messages.ack(message)
        assert again["already_acked"] is True
        assert again["status"] == "processed"


@pytest.mark.parametrize("requeue", [False, True])
def test_a_nack_again_is_already_nacked(messages: Messages, message: Message, requeue: bool) -> None:
    fields = {"requeue": True, "delay_ms": 600_000} if requeue else {}
    first = messages.nack(message, **fields)
    again = messages.nack(message, **fields)
    assert again["already_nacked"] is True
    assert again["status"] == first["status"] == ("pending" if requeue else "failed")


def test_a_nack_again_does_not_count_as_another_failure(queue: Queue, messages: Messages) -> None:
    queue.publish(max_attempts=2)
    message = queue.take()
    for _ in range(5):
        assert messages.nack(message, requeue=True, delay_ms=0)["status"] == "pending"
    assert queue.take()["attempt"] == 2


@pytest.mark.parametrize(
    ("first", "then"),
    [("ack", "nack"), ("nack", "ack"), ("requeue", "ack"), ("ack", "extend"), ("nack", "extend")],
)
def test_another_verdict_by_the_winning_token_is_already_settled(
    messages: Messages, message: Message, first: str, then: str
) -> None:
    if first == "ack":
        messages.ack(message)
    else:
        messages.nack(message, requeue=first == "requeue", delay_ms=600_000)
    before = messages.get(message["message_id"])
    fields: dict[str, Any] = {"lease_ms": 1000} if then == "extend" else {}
    check_refusal(messages.reply(message["message_id"], then, lease=message["lease"], **fields), "already_settled")
    assert messages.get(message["message_id"]) == before


@pytest.mark.parametrize(("verb", "fields"), VERBS)
@pytest.mark.parametrize("state", ["pending", "processed", "failed"])
def test_without_a_token_only_what_is_processing_can_be_settled(
    queue: Queue, messages: Messages, verb: str, fields: dict[str, Any], state: str
) -> None:
    message_id = queue.publish()
    if state != "pending":
        message = queue.take()
        messages.ack(message) if state == "processed" else messages.nack(message)
    check_refusal(messages.reply(message_id, verb, **fields), "not_processing")
    assert messages.status(message_id) == state


# ---- tokens


@pytest.mark.parametrize(("verb", "fields"), VERBS)
@pytest.mark.parametrize("lease", ["", "nonsense", "0", "x" * 1000, "ü☃"])
def test_a_made_up_token_has_lost(
    messages: Messages, message: Message, verb: str, fields: dict[str, Any], lease: str
) -> None:
    codes = {"lease_lost"} if 0 < len(lease) < 100 else {"lease_lost", "invalid"}
    check_refusal(messages.reply(message["message_id"], verb, lease=lease, **fields), codes)
    assert messages.status(message["message_id"]) == "processing"


@pytest.mark.parametrize(("verb", "fields"), VERBS)
def test_the_token_of_another_message_has_lost(
    queue: Queue, messages: Messages, message: Message, verb: str, fields: dict[str, Any]
) -> None:
    queue.publish()
    other = queue.take()
    check_refusal(messages.reply(message["message_id"], verb, lease=other["lease"], **fields), "lease_lost")
    assert messages.status(message["message_id"]) == "processing"


@pytest.mark.parametrize(("verb", "fields"), VERBS)
def test_a_token_before_any_delivery_has_lost(
    queue: Queue, messages: Messages, verb: str, fields: dict[str, Any]
) -> None:
    message_id = queue.publish()
    check_refusal(messages.reply(message_id, verb, lease="nonsense", **fields), "lease_lost")


def test_a_message_never_gets_the_same_token_twice(queue: Queue, messages: Messages) -> None:
    queue.publish_many(*range(50))
    seen: set[tuple[str, str]] = set()
    for _ in range(3):
        for message in queue.take_many(100):
            seen.add((message["message_id"], message["lease"]))
            messages.nack(message, requeue=True, delay_ms=0)
    assert len(seen) == 150


@pytest.mark.parametrize(
    ("verb", "fields", "status"),
    [("ack", {}, "processed"), ("nack", {}, "failed"), ("nack", {"requeue": True}, "pending")],
)
def test_the_newest_token_wins_also_when_its_time_is_over(
    queue: Queue, messages: Messages, verb: str, fields: dict[str, Any], status: str
) -> None:
    message = expired(queue, messages)
    result = messages.settle(message["message_id"], verb, lease=message["lease"], **fields)
    assert result["status"] == status
    assert messages.status(message["message_id"]) == status
    assert queue.consume() is None


def test_an_extend_after_the_end_of_the_lease_takes_it_again_or_has_lost(queue: Queue, messages: Messages) -> None:
    message = expired(queue, messages)
    reply = messages.reply(message["message_id"], "extend", lease=message["lease"], lease_ms=60_000)
    if reply.status_code == 200:
        assert reply.json()["status"] == "processing"
        assert queue.consume() is None
    else:
        check_refusal(reply, "lease_lost")
        assert messages.status(message["message_id"]) == "pending"


@pytest.mark.parametrize(("verb", "fields"), VERBS)
def test_an_old_token_has_lost_once_the_message_is_handed_out_again(
    queue: Queue, messages: Messages, verb: str, fields: dict[str, Any]
) -> None:
    old = expired(queue, messages)
    new = queue.take()
    assert new["message_id"] == old["message_id"]
    check_refusal(messages.reply(old["message_id"], verb, lease=old["lease"], **fields), "lease_lost")
    assert messages.status(old["message_id"]) == "processing"
    assert messages.ack(new)["status"] == "processed"
    check_refusal(messages.reply(old["message_id"], verb, lease=old["lease"], **fields), {"lease_lost"})


@pytest.mark.parametrize("state", ["pending", "processing", "processed", "failed", "delayed"])
def test_a_message_is_deleted_from_any_status(api: httpx.Client, queue: Queue, messages: Messages, state: str) -> None:
    message_id = queue.publish(**({"delay_ms": 600_000} if state == "delayed" else {}))
    message = queue.take() if state in ("processing", "processed", "failed") else {}
    if state == "processed":
        messages.ack(message)
    if state == "failed":
        messages.nack(message)
    assert api.delete(f"/messages/{message_id}").is_success
    check_refusal(api.get(f"/messages/{message_id}"), "not_found")
    check_refusal(api.delete(f"/messages/{message_id}"), "not_found")
    check_refusal(messages.reply(message_id, "ack"), "not_found")
    if message:
        check_refusal(messages.reply(message_id, "ack", lease=message["lease"]), {"not_found", "lease_lost"})
    assert sum(queue.counts().values()) == 0
    assert queue.consume() is None


# ---- any door settles what another delivered


def test_rest_settles_what_a_websocket_was_given(queue: Queue, messages: Messages, ws: Socket) -> None:
    ws.ok("subscribe", queue=queue.name)
    queue.publish_many(1, 2, 3)
    first, second, third = ws.deliveries(3)
    assert messages.ack(first)["status"] == "processed"
    assert messages.settle(second["message_id"], "ack")["status"] == "processed"  # the same user holds it
    assert messages.nack(third)["status"] == "failed"


# ---- batches


def settle_batch(api: httpx.Client, verb: str, *items: dict[str, Any]) -> list[dict[str, Any]]:
    reply = api.post(f"/messages/{verb}", content=body({"items": items}), headers=JSON)
    assert reply.status_code == 200, reply.text
    assert set(reply.json()) == {"results"}
    results: list[dict[str, Any]] = reply.json()["results"]
    assert [result["message_id"] for result in results] == [item["message_id"] for item in items]
    return results


def receipt(message: Message, **fields: Any) -> dict[str, Any]:
    return {"message_id": message["message_id"], "lease": message["lease"], **fields}


def test_a_batch_ack_answers_each_for_itself(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2, 3, 4)
    first, second, third, fourth = queue.take_many(4)
    messages.ack(second)
    messages.nack(third)
    results = settle_batch(
        api,
        "ack",
        receipt(first),
        receipt(second),
        receipt(third),
        {"message_id": fourth["message_id"], "lease": "nonsense"},
        {"message_id": "no-such-message", "lease": "x"},
    )
    assert [result["ok"] for result in results] == [True, True, False, False, False]
    assert [result.get("code") for result in results[2:]] == ["already_settled", "lease_lost", "not_found"]
    assert queue.counts() == {"pending": 0, "delayed": 0, "processing": 1, "processed": 2, "failed": 1}


def test_a_batch_nack_has_its_options_on_each_item(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2, 3)
    first, second, third = queue.take_many(3)
    results = settle_batch(
        api,
        "nack",
        receipt(first, reason="bad"),
        receipt(second, requeue=True, delay_ms=0, reason="later"),
        receipt(third, requeue=True, delay_ms=600_000),
    )
    assert all(result["ok"] for result in results)
    assert messages.get(first["message_id"])["error"] == "bad"
    assert queue.counts() == {"pending": 2, "delayed": 1, "processing": 0, "processed": 0, "failed": 1}
    assert queue.take()["error"] == "later"


def test_a_batch_extend_extends_each(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2)
    first, second = queue.take_many(2, lease_ms=2_000)
    results = settle_batch(
        api, "extend", receipt(first, lease_ms=60_000), {**receipt(second), "lease": "no", "lease_ms": 60_000}
    )
    assert [result["ok"] for result in results] == [True, False]
    assert results[1]["code"] == "lease_lost"
    again = queue.take()
    assert again["message_id"] == second["message_id"]
    assert messages.ack(first)["status"] == "processed"


def test_the_same_receipt_twice_in_a_batch_is_settled_once(api: httpx.Client, queue: Queue) -> None:
    queue.publish()
    message = queue.take()
    results = settle_batch(api, "ack", receipt(message), receipt(message))
    assert [result["ok"] for result in results] == [True, True]
    assert queue.counts()["processed"] == 1


def test_a_batch_of_a_thousand_is_settled(api: httpx.Client, queue: Queue) -> None:
    queue.publish_many(*range(1000))
    results = settle_batch(api, "ack", *[receipt(message) for message in queue.take_many(1000)])
    assert all(result["ok"] for result in results)
    assert queue.counts()["processed"] == 1000
