"""Publishing: one message, a batch, raw bytes; the same twice is once (contract §4)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.wire.doors import JSON, MESSAGE_FIELDS, Messages, Queue, body, eventually, fresh_name, instant
from tests.wire.problems import check_problem, check_refusal
from tests.wire.sockets import Socket

OPTIONS: dict[str, Any] = {
    "headers": {"kind": "invoice", "ünï": "cödé ☃"},
    "priority": 7,
    "ttl_ms": 600_000,
    "key": "customer-42",
    "dedup_id": "once",
    "correlation_id": "call-1",
    "reply_to": "answers",
    "max_attempts": 9,
}


def test_a_published_message_is_pending(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    reply = queue.post("/messages", {"content": {"n": 1}})
    assert reply.status_code == 201
    answer = reply.json()
    assert {**answer, "status": "pending", "duplicate": False} == answer
    message = messages.get(answer["message_id"])
    assert set(message) >= MESSAGE_FIELDS
    assert not message.get("lease")
    assert not message.get("dead_letter")
    assert not message.get("content_base64")
    expected = {
        "queue": queue.name,
        "status": "pending",
        "content": {"n": 1},
        "priority": 0,
        "attempt": 0,
        "max_attempts": 5,
    }
    assert {field: message[field] for field in expected} == expected
    assert message["content_type"].startswith("application/json")
    assert not message["headers"]
    for field in ("key", "dedup_id", "correlation_id", "reply_to", "traceparent", "error", "expires_at"):
        assert message[field] is None, field


def check_options(message: dict[str, Any]) -> None:
    for field, value in OPTIONS.items():
        if field != "ttl_ms":
            assert message[field] == value, field
    assert abs(instant(message["expires_at"]) - instant(message["created_at"]) - 600) < 0.005


def test_every_option_is_kept_on_every_door(api: httpx.Client, messages: Messages, ws: Socket) -> None:
    draft = {"content": [1], **OPTIONS}
    queues = [Queue(api) for _ in range(4)]
    for reply in (
        queues[0].post("/messages", draft),
        queues[1].post("/messages/batch", {"messages": [draft]}),
        api.post("/publish", content=body({"queue": queues[2].name, **draft}), headers=JSON),
    ):
        assert reply.status_code == 201, reply.text
    ws.ok("publish", queue=queues[3].name, messages=[draft])
    for queue in queues:
        check_options(queue.browse()[0])
        check_options(messages.get(queue.browse()[0]["message_id"]))
        check_options(queue.take())


def test_publish_names_its_queue_in_the_body(api: httpx.Client, queue: Queue) -> None:
    reply = api.post("/publish", content=body({"queue": queue.name, "content": "x"}), headers=JSON)
    assert reply.status_code == 201
    assert reply.json()["duplicate"] is False
    assert queue.take()["message_id"] == reply.json()["message_id"]
    check_refusal(api.post("/publish", content=b'{"content": "x"}', headers=JSON), "invalid", names="queue")


@pytest.mark.parametrize("content", [None, False, 0, "", [], {}, "text", [1, [2]], {"a": {"b": None}}, -1.5e300])
def test_content_is_any_json_value(queue: Queue, content: Any) -> None:
    queue.publish(content)
    message = queue.take()
    assert message["content"] == content
    assert type(message["content"]) is type(content)


@pytest.mark.parametrize("field", ["key", "dedup_id", "correlation_id", "reply_to"])
def test_a_text_may_have_any_letter(queue: Queue, field: str) -> None:
    text = "ü ☃ 𝄞 \" \\ / \t ' ; --"
    queue.publish(**{field: text})
    assert queue.take()[field] == text


def test_null_is_as_good_as_absent_for_an_option_without_a_value(queue: Queue) -> None:
    queue.publish(key=None, correlation_id=None, reply_to=None, dedup_id=None)
    assert queue.take()["key"] is None


# ---- delay and time to live: more of them in test_retries


def test_a_delayed_message_is_pending_and_not_delivered(queue: Queue, messages: Messages) -> None:
    later = queue.publish("later", delay_ms=600_000)
    when = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    at = queue.publish("at", available_at=when)
    now = queue.publish("now", available_at="2001-01-01T00:00:00.000Z")
    assert messages.status(later) == "pending"
    assert messages.get(at)["available_at"] == when
    message = messages.get(later)
    assert abs(instant(message["available_at"]) - instant(message["created_at"]) - 600) < 0.005
    assert queue.take()["message_id"] == now
    assert queue.consume(wait_ms=50) is None


def test_a_delayed_message_comes_when_its_time_has_come(queue: Queue) -> None:
    delayed = queue.publish("delayed", delay_ms=300)
    message = queue.take()
    assert message["message_id"] == delayed
    assert message["attempt"] == 1
    # never early, by the broker's own clock
    assert instant(message["updated_at"]) >= instant(message["created_at"]) + 0.3


def test_a_batch_keeps_its_order(queue: Queue) -> None:
    ids = queue.publish_many(*range(1000))
    assert len(set(ids)) == 1000
    taken = queue.take_many(1000)
    assert [message["message_id"] for message in taken] == ids
    assert [message["content"] for message in taken] == list(range(1000))


def test_a_batch_of_one_answers_like_a_batch(queue: Queue) -> None:
    reply = queue.post("/messages/batch", {"messages": [{"content": 1}]})
    assert reply.status_code == 201
    answer = reply.json()
    assert len(answer["message_ids"]) == 1
    assert answer["duplicates"] == []


# ---- raw bytes


def test_raw_bytes_come_out_as_base64_on_json_doors(api: httpx.Client, queue: Queue) -> None:
    headers = {
        "Content-Type": "image/png",
        "X-Message-Priority": "3",
        "X-Message-Ttl-Ms": "600000",
        "X-Message-Key": "picture",
        "X-Message-Dedup-Id": "raw-1",
        "X-Message-Correlation-Id": "call-7",
        "X-Message-Reply-To": "answers",
        "X-Message-Max-Attempts": "2",
    }
    reply = api.post(queue.path + "/messages", content=b"\x89PNG\x00\xff", headers=headers)
    assert reply.status_code == 201, reply.text
    assert reply.json()["duplicate"] is False
    message = queue.take()
    assert message["content"] is None
    assert message["content_base64"] == "iVBORwD/"
    assert message["content_type"] == "image/png"
    expected = {
        "priority": 3,
        "key": "picture",
        "dedup_id": "raw-1",
        "correlation_id": "call-7",
        "reply_to": "answers",
        "max_attempts": 2,
    }
    assert {field: message[field] for field in expected} == expected
    assert message["expires_at"] is not None
    assert api.post(queue.path + "/messages", content=b"\x89PNG\x00\xff", headers=headers).json()["duplicate"] is True


def test_raw_bytes_can_be_delayed(api: httpx.Client, queue: Queue) -> None:
    headers = {"Content-Type": "text/plain", "X-Message-Delay-Ms": "600000"}
    assert api.post(queue.path + "/messages", content=b"x", headers=headers).status_code == 201
    assert queue.counts()["delayed"] == 1


def test_json_sent_as_text_is_raw_bytes(api: httpx.Client, queue: Queue) -> None:
    api.post(queue.path + "/messages", content=b'{"content": 1}', headers={"Content-Type": "text/plain"})
    message = queue.take()
    assert message["content"] is None
    assert message["content_base64"] == "eyJjb250ZW50IjogMX0="


# ---- the same twice


def publish_once(queue: Queue, dedup_id: str, content: Any = "x", **headers: str) -> httpx.Response:
    return queue.post("/messages", {"content": content, "dedup_id": dedup_id}, headers=headers)


def test_the_same_dedup_id_is_stored_once(queue: Queue) -> None:
    first = publish_once(queue, "d1")
    again = publish_once(queue, "d1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["message_id"] == first.json()["message_id"]
    assert again.json()["duplicate"] is True
    assert queue.counts()["pending"] == 1
    assert publish_once(queue, "d2").status_code == 201


def test_a_duplicate_is_known_whatever_became_of_the_first(queue: Queue, messages: Messages) -> None:
    first = publish_once(queue, "d").json()["message_id"]
    message = queue.take()
    for settle in (None, messages.ack):
        if settle:
            settle(message)
        again = publish_once(queue, "d")
        assert again.status_code == 200
        assert again.json()["message_id"] == first
    assert queue.counts()["pending"] == 0


def test_a_dedup_id_with_other_content_is_invalid(queue: Queue) -> None:
    publish_once(queue, "d", {"a": 1})
    check_refusal(publish_once(queue, "d", {"a": 2}), "invalid")
    assert queue.counts()["pending"] == 1


def test_a_dedup_id_belongs_to_its_queue(api: httpx.Client) -> None:
    first, second = Queue(api), Queue(api)
    assert publish_once(first, "d", 1).status_code == 201
    assert publish_once(second, "d", 2).status_code == 201


def test_an_idempotency_key_is_a_dedup_id(queue: Queue) -> None:
    first = queue.post("/messages", {"content": "x"}, headers={"Idempotency-Key": "k"})
    again = queue.post("/messages", {"content": "x"}, headers={"Idempotency-Key": "k"})
    by_field = publish_once(queue, "k")
    both = publish_once(queue, "k", **{"Idempotency-Key": "k"})
    assert [reply.status_code for reply in (first, again, by_field, both)] == [201, 200, 200, 200]
    assert {reply.json()["message_id"] for reply in (first, again, by_field, both)} == {first.json()["message_id"]}
    check_refusal(queue.post("/messages", {"content": "y"}, headers={"Idempotency-Key": "k"}), "invalid")
    check_refusal(publish_once(queue, "k", **{"Idempotency-Key": "other"}), "invalid")


def test_an_idempotency_key_works_for_raw_bytes_and_for_the_alias(api: httpx.Client, queue: Queue) -> None:
    headers = {"Content-Type": "text/plain", "Idempotency-Key": "raw"}
    replies = [api.post(queue.path + "/messages", content=b"raw", headers=headers) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [201, 200]
    check_refusal(api.post(queue.path + "/messages", content=b"other", headers=headers), "invalid")
    content, headers = body({"queue": queue.name, "content": 1}), {**JSON, "Idempotency-Key": "alias"}
    replies = [api.post("/publish", content=content, headers=headers) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [201, 200]


def test_of_the_same_publish_many_times_at_once_one_is_stored(queue: Queue) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: publish_once(queue, "race"), range(16)))
    assert sorted(reply.status_code for reply in replies) == [200] * 15 + [201]
    assert len({reply.json()["message_id"] for reply in replies}) == 1
    assert queue.counts()["pending"] == 1


def test_after_the_window_the_same_dedup_id_is_a_new_message(api: httpx.Client) -> None:
    queue, nobody = Queue(api, dedup_window_ms=50), Queue(api)
    first = publish_once(queue, "d").json()["message_id"]
    nobody.consume(wait_ms=100)
    again = eventually(lambda: publish_once(queue, "d"), lambda reply: reply.status_code == 201)
    assert again.json()["message_id"] != first
    assert queue.counts()["pending"] == 2


def test_a_batch_tells_which_of_its_messages_are_duplicates(queue: Queue, ws: Socket) -> None:
    first = publish_once(queue, "a", 1).json()["message_id"]
    batch = [{"content": 0}, {"content": 1, "dedup_id": "a"}, {"content": 2, "dedup_id": "b"}]
    reply = queue.post("/messages/batch", {"messages": batch})
    assert reply.status_code == 201
    answer = reply.json()
    assert answer["duplicates"] == [1]
    assert answer["message_ids"][1] == first
    assert queue.counts()["pending"] == 3
    again = queue.post("/messages/batch", {"messages": batch[1:]})
    assert again.status_code == 200
    assert again.json()["duplicates"] == [0, 1]
    assert again.json()["message_ids"] == answer["message_ids"][1:]
    by_socket = ws.ok("publish", queue=queue.name, messages=batch[1:])
    assert by_socket["duplicates"] == [0, 1]
    assert by_socket["message_ids"] == answer["message_ids"][1:]
    assert queue.counts()["pending"] == 3


def test_a_dedup_id_twice_in_one_batch_is_one_message(queue: Queue, ws: Socket) -> None:
    batch = [{"content": 1, "dedup_id": "x"}, {"content": 2}, {"content": 1, "dedup_id": "x"}]
    answer = queue.post("/messages/batch", {"messages": batch}).json()
    assert answer["duplicates"] == [2]
    assert answer["message_ids"][0] == answer["message_ids"][2]
    assert queue.counts()["pending"] == 2
    answer = ws.ok("publish", queue=fresh_name(), messages=batch)
    assert answer["duplicates"] == [2]


def test_other_content_under_a_dedup_id_fails_the_whole_batch(queue: Queue, ws: Socket) -> None:
    publish_once(queue, "a", 1)
    batch = [{"content": 0}, {"content": 99, "dedup_id": "a"}]
    check_refusal(queue.post("/messages/batch", {"messages": batch}), "invalid")
    check_problem(ws.error("publish", queue=queue.name, messages=batch), "invalid")
    twice = [{"content": 1, "dedup_id": "b"}, {"content": 2, "dedup_id": "b"}]
    check_refusal(queue.post("/messages/batch", {"messages": twice}), "invalid")
    assert queue.counts()["pending"] == 1


def test_an_idempotency_key_on_a_batch_replays_its_answer(queue: Queue) -> None:
    batch = {"messages": [{"content": 1}, {"content": 2, "dedup_id": "two"}, {"content": 3}]}
    headers = {"Idempotency-Key": "whole"}
    first = queue.post("/messages/batch", batch, headers=headers)
    again = queue.post("/messages/batch", batch, headers=headers)
    assert first.status_code == 201
    assert again.status_code in (200, 201)
    assert again.json()["message_ids"] == first.json()["message_ids"]
    assert queue.counts()["pending"] == 3
    other = {"messages": [{"content": "other"}]}
    check_refusal(queue.post("/messages/batch", other, headers=headers), "invalid")
    assert queue.counts()["pending"] == 3


def test_of_the_same_batch_many_times_at_once_one_is_stored(queue: Queue) -> None:
    batch = {"messages": [{"content": n} for n in range(5)]}
    headers = {"Idempotency-Key": "batch-race"}
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: queue.post("/messages/batch", batch, headers=headers), range(6)))
    assert {reply.status_code for reply in replies} <= {200, 201}
    assert len({tuple(reply.json()["message_ids"]) for reply in replies}) == 1
    assert queue.counts()["pending"] == 5
