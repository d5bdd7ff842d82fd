"""The WebSocket conversation: publishing, subscribing, settling, pausing, giving back (contract §5)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.doors import MESSAGE_FIELDS, Messages, Queue, eventually, fresh_name, instant
from tests.wire.problems import check_problem, check_refusal
from tests.wire.sockets import Closed, Socket, open_socket

Connect = Callable[..., Socket]


def ids(messages: list[dict[str, Any]]) -> list[str]:
    return [message["message_id"] for message in messages]


def nothing_more(socket: Socket, *ops: str) -> None:
    """No frame of these ops is there or in flight after a round trip."""
    socket.settle_down()
    assert not set(socket.ops()) & set(ops), socket.inbox


# ---- frames


def test_a_ping_is_answered(ws: Socket) -> None:
    ws.send({"op": "ping"})
    assert ws.op("pong")["op"] == "pong"


def test_any_json_scalar_an_id_may_be_comes_back(ws: Socket) -> None:
    for id_ in ("text", 7, 2**53 - 1, "ü☃"):
        ws.send({"op": "publish", "id": id_, "queue": "ids", "messages": [{"content": 1}]})
        assert ws.answer(id_)["op"] == "ok"


def test_an_array_is_a_batch_and_each_op_is_answered(ws: Socket, queue: Queue) -> None:
    ws.send(*[{"op": "publish", "id": n, "queue": queue.name, "messages": [{"content": n}]} for n in range(20)])
    answers = [ws.answer(n) for n in range(20)]
    assert all(answer["op"] == "ok" for answer in answers)
    assert [m["message_id"] for m in queue.take_many(20)] == [answer["message_ids"][0] for answer in answers]


def test_an_array_is_handled_in_order(ws: Socket, queue: Queue) -> None:
    ws.send(
        {"op": "subscribe", "id": 1, "sub": "s", "queue": queue.name},
        {"op": "publish", "id": 2, "queue": queue.name, "messages": [{"content": 1}]},
        {"op": "unsubscribe", "id": 3, "sub": "s"},
        {"op": "unsubscribe", "id": 4, "sub": "s"},
        {"op": "subscribe", "id": 5, "sub": "s", "queue": queue.name},
    )
    assert [ws.answer(n)["op"] for n in range(1, 6)] == ["ok", "ok", "ok", "error", "ok"]


def test_an_array_of_one_and_a_binary_frame_are_fine(ws: Socket, queue: Queue) -> None:
    ws.send_raw('[{"op":"ping"}]')
    ws.op("pong")
    ws.send_raw(b'{"op":"ping"}')
    ws.op("pong")
    ws.send_raw(b' \n[ {"op" : "ping"} , {"op":"ping"} ]\t')
    ws.op("pong")
    ws.op("pong")


# ---- publish


def test_a_publish_is_answered_after_it_is_stored(ws: Socket, queue: Queue, messages: Messages) -> None:
    reply = ws.ok("publish", queue=queue.name, messages=[{"content": n} for n in range(3)])
    assert reply["duplicates"] == []
    assert [messages.status(message_id) for message_id in reply["message_ids"]] == ["pending"] * 3
    assert ids(queue.take_many(10)) == reply["message_ids"]


def test_a_publish_without_an_id_is_stored_too(ws: Socket, queue: Queue) -> None:
    ws.send({"op": "publish", "queue": queue.name, "messages": [{"content": "quiet"}]})
    assert queue.take()["content"] == "quiet"


def test_a_full_queue_is_told(ws: Socket, api: httpx.Client) -> None:
    queue = Queue(api, max_messages=1)
    problem = ws.error("publish", queue=queue.name, messages=[{"content": 1}, {"content": 2}])
    check_problem(problem, "queue_full")
    ws.ok("publish", queue=queue.name, messages=[{"content": 1}])


# ---- subscribe and deliver


def test_a_subscription_is_given_what_is_there_and_what_comes(ws: Socket, queue: Queue) -> None:
    before = queue.publish("before")
    ws.ok("subscribe", sub="s1", queue=queue.name, credit=10)
    after = queue.publish("after")
    first, second = ws.deliveries(2, "s1")
    assert [first["message_id"], second["message_id"]] == [before, after]
    for message in (first, second):
        assert set(message) >= MESSAGE_FIELDS | {"lease", "lease_expires_at"}
        assert message["status"] == "processing"
        assert message["queue"] == queue.name
        assert message["attempt"] == 1


def test_the_queue_is_the_default_name_of_a_subscription(ws: Socket, queue: Queue) -> None:
    ws.ok("subscribe", queue=queue.name)
    queue.publish()
    assert ws.op("deliver")["sub"] == queue.name


def test_one_socket_holds_several_subscriptions(ws: Socket, api: httpx.Client) -> None:
    first, second = Queue(api), Queue(api)
    ws.ok("subscribe", sub="a", queue=first.name)
    ws.ok("subscribe", sub="b", queue=second.name)
    ws.ok("subscribe", sub="c", queue=second.name, credit=1)
    in_first, in_second = first.publish(), second.publish()
    assert ids(ws.deliveries(1, "a")) == [in_first]
    frame = ws.take(lambda f: f["op"] == "deliver" and f["sub"] in ("b", "c"))
    assert ids(frame["messages"]) == [in_second]


def test_deliveries_come_by_priority_then_publish_order(ws: Socket, queue: Queue) -> None:
    for n, priority in enumerate([0, 5, 9, 5, 0]):
        queue.publish(n, priority=priority)
    ws.ok("subscribe", queue=queue.name)
    assert [message["content"] for message in ws.deliveries(5)] == [2, 1, 3, 0, 4]


def test_many_deliveries_share_frames(ws: Socket, queue: Queue) -> None:
    queue.publish_many(*range(1000))
    ws.ok("subscribe", queue=queue.name, credit=1000)
    assert [message["content"] for message in ws.deliveries(1000)] == list(range(1000))
    assert len(ws.texts) < 500, "a thousand waiting messages came one by one"


def test_the_default_credit_is_a_hundred(ws: Socket, queue: Queue) -> None:
    queue.publish_many(*range(150))
    ws.ok("subscribe", queue=queue.name)
    ws.deliveries(100)
    nothing_more(ws, "deliver")
    assert queue.counts()["processing"] == 100


def test_a_socket_of_its_own_queue_subscribes_by_itself(connect: Connect, queue: Queue) -> None:
    queue.publish_many(*range(15))
    socket = connect(queue.path + "/ws?credit=10")
    held = socket.deliveries(10)
    assert {frame["sub"] for frame in socket.inbox if frame["op"] == "deliver"} <= {queue.name}
    nothing_more(socket, "deliver")
    socket.send({"op": "ack", "ids": ids(held[:3])})
    assert [message["content"] for message in socket.deliveries(3)] == [10, 11, 12]


def test_a_socket_of_its_own_queue_has_a_default_credit(connect: Connect, queue: Queue) -> None:
    queue.publish_many(*range(150))
    socket = connect(queue.path + "/ws")
    socket.deliveries(100)
    nothing_more(socket, "deliver")


def test_a_socket_of_its_own_queue_waits_for_the_hello(broker: BrokerProcess, token: str, queue: Queue) -> None:
    message_id = queue.publish()
    with open_socket(broker.ws_url + queue.path + "/ws?credit=1") as socket:
        socket.send({"op": "hello", "id": 1, "token": token})
        assert socket.op("welcome")["id"] == 1
        assert ids(socket.deliveries(1)) == [message_id]


# ---- ack, nack, extend


def test_an_ack_is_answered_only_when_it_has_an_id(ws: Socket, queue: Queue, messages: Messages) -> None:
    queue.publish_many(*range(4))
    ws.ok("subscribe", queue=queue.name)
    held = ids(ws.deliveries(4))
    ws.send({"op": "ack", "ids": held[:2]})
    reply = ws.ok("ack", ids=held[2:])
    assert reply["results"] == [{"message_id": message_id, "ok": True} for message_id in held[2:]]
    nothing_more(ws, "ok", "error")
    assert [messages.status(message_id) for message_id in held] == ["processed"] * 4


def test_a_nack_fails_unless_told_and_keeps_its_reason(ws: Socket, queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2)
    ws.ok("subscribe", queue=queue.name)
    first, second = ids(ws.deliveries(2))
    ws.ok("nack", ids=[first], reason="bad")
    ws.send({"op": "nack", "ids": [second], "requeue": False})
    ws.settle_down()
    assert messages.get(first)["error"] == "bad"
    eventually(lambda: messages.status(second), lambda status: status == "failed")


def test_a_nack_with_requeue_brings_it_again(ws: Socket, queue: Queue) -> None:
    message_id = queue.publish(max_attempts=0)
    ws.ok("subscribe", queue=queue.name, credit=1)
    for attempt in range(1, 6):
        [message] = ws.deliveries(1)
        assert (message["message_id"], message["attempt"]) == (message_id, attempt)
        assert message["error"] == (None if attempt == 1 else "busy")
        ws.send({"op": "nack", "ids": [message_id], "requeue": True, "delay_ms": 0, "reason": "busy"})


def test_a_requeue_waits_for_the_backoff_of_the_queue(ws: Socket, api: httpx.Client) -> None:
    queue = Queue(api, backoff={"kind": "fixed", "base_ms": 600_000, "jitter": False})
    queue.publish()
    ws.ok("subscribe", queue=queue.name)
    ws.ok("nack", ids=ids(ws.deliveries(1)), requeue=True)
    assert queue.counts() == {"pending": 1, "delayed": 1, "processing": 0, "processed": 0, "failed": 0}


def test_results_are_in_the_order_of_the_ids_and_each_for_itself(ws: Socket, queue: Queue) -> None:
    queue.publish_many(1, 2)
    ws.ok("subscribe", queue=queue.name)
    first, second = ids(ws.deliveries(2))
    results = ws.ok("ack", ids=[first, "no-such-message", second])["results"]
    assert [result["message_id"] for result in results] == [first, "no-such-message", second]
    assert [result["ok"] for result in results] == [True, False, True]
    assert results[1]["code"] in ("lease_lost", "not_found")


def test_an_ack_again_is_not_an_error_and_another_verdict_is(ws: Socket, queue: Queue) -> None:
    queue.publish()
    ws.ok("subscribe", queue=queue.name)
    [message_id] = ids(ws.deliveries(1))
    ws.ok("ack", ids=[message_id])
    # The connection may have forgotten the token by now; then it says that the lease is lost, but never "failed".
    [again] = ws.ok("ack", ids=[message_id])["results"]
    assert again["ok"] or again["code"] in ("lease_lost", "already_settled")
    [other] = ws.ok("nack", ids=[message_id])["results"]
    assert not other["ok"]
    assert other["code"] in ("lease_lost", "already_settled")
    assert queue.counts()["processed"] == 1


def test_another_connection_can_not_settle_by_id(connect: Connect, queue: Queue, messages: Messages) -> None:
    holder, other = connect(), connect()
    queue.publish()
    holder.ok("subscribe", queue=queue.name)
    [message_id] = ids(holder.deliveries(1))
    for op, fields in (("ack", {}), ("nack", {}), ("extend", {"lease_ms": 1000})):
        [result] = other.ok(op, ids=[message_id], **fields)["results"]
        assert not result["ok"]
        assert result["code"] == "lease_lost"
    assert messages.status(message_id) == "processing"
    assert holder.ok("ack", ids=[message_id])["results"][0]["ok"]


def test_an_old_delivery_on_the_same_connection_is_not_mixed_up_with_the_new(
    connect: Connect, queue: Queue, messages: Messages
) -> None:
    first, second = connect(), connect()
    first.ok("subscribe", queue=queue.name, credit=1)
    queue.publish()
    [message] = first.deliveries(1)
    first.ok("pause", sub=queue.name)
    first.ok("nack", ids=[message["message_id"]], requeue=True, delay_ms=0)
    second.ok("subscribe", queue=queue.name)
    second.deliveries(1)
    [result] = first.ok("ack", ids=[message["message_id"]])["results"]
    assert not result["ok"]
    assert result["code"] in ("lease_lost", "already_settled")
    check_refusal(messages.reply(message["message_id"], "ack", lease=message["lease"]), "lease_lost")
    assert messages.status(message["message_id"]) == "processing"


def test_a_fixed_lease_is_extended(ws: Socket, queue: Queue, messages: Messages) -> None:
    queue.publish()
    ws.ok("subscribe", queue=queue.name, lease_mode="fixed", lease_ms=2000, credit=1)
    [message] = ws.deliveries(1)
    results = ws.ok("extend", ids=[message["message_id"]], lease_ms=60_000)["results"]
    assert results[0]["message_id"] == message["message_id"]
    assert results[0]["ok"] is True
    assert queue.consume(wait_ms=3000) is None
    nothing_more(ws, "lease_lost", "deliver")
    assert ws.ok("ack", ids=[message["message_id"]])["results"][0]["ok"]


def test_a_session_lease_lives_longer_than_its_milliseconds(ws: Socket, queue: Queue) -> None:
    queue.publish()
    ws.ok("subscribe", queue=queue.name, lease_ms=50)
    [message] = ws.deliveries(1)
    assert queue.consume(wait_ms=1000) is None  # twenty times as long
    nothing_more(ws, "lease_lost", "deliver")
    assert ws.ok("ack", ids=[message["message_id"]])["results"][0]["ok"]


# ---- lost leases


def test_a_lease_that_expired_is_told_and_its_credit_comes_back(ws: Socket, queue: Queue) -> None:
    queue.publish_many(1, 2)
    ws.ok("subscribe", sub="s", queue=queue.name, lease_mode="fixed", lease_ms=1000, credit=1)
    [message] = ws.deliveries(1)
    lost = ws.op("lease_lost")
    assert lost["sub"] == "s"
    assert lost["ids"] == [message["message_id"]]
    assert lost["reason"] == "expired"
    [again] = ws.deliveries(1)
    assert again["message_id"] == message["message_id"]  # its old place
    assert again["attempt"] == 2
    assert ws.ok("ack", ids=[again["message_id"]])["results"][0]["ok"]


def test_a_message_that_is_deleted_is_told_and_its_credit_comes_back(
    ws: Socket, queue: Queue, api: httpx.Client
) -> None:
    queue.publish_many(1, 2)
    ws.ok("subscribe", sub="s", queue=queue.name, credit=1)
    [message] = ws.deliveries(1)
    api.delete(f"/messages/{message['message_id']}")
    lost = ws.op("lease_lost")
    assert (lost["sub"], lost["ids"], lost["reason"]) == ("s", [message["message_id"]], "deleted")
    assert ws.deliveries(1)[0]["content"] == 2


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_a_message_that_another_door_settled_is_told_and_its_credit_comes_back(
    ws: Socket, queue: Queue, messages: Messages, verb: str
) -> None:
    queue.publish_many(1, 2)
    ws.ok("subscribe", sub="s", queue=queue.name, credit=1)
    [message] = ws.deliveries(1)
    messages.settle(message["message_id"], verb, lease=message["lease"])
    lost = ws.op("lease_lost")
    assert (lost["sub"], lost["ids"], lost["reason"]) == ("s", [message["message_id"]], "settled")
    assert ws.deliveries(1)[0]["content"] == 2


def test_a_deleted_queue_takes_what_is_held_with_it(ws: Socket, queue: Queue, api: httpx.Client) -> None:
    queue.publish_many(1, 2)
    ws.ok("subscribe", sub="s", queue=queue.name)
    held = ids(ws.deliveries(2))
    api.delete(queue.path)
    lost: list[str] = []
    try:
        while len(lost) < 2:
            frame = ws.op("lease_lost")
            assert frame["reason"] == "deleted"
            lost += frame["ids"]
        assert sorted(lost) == sorted(held)
    except Closed:
        assert ws.close_code() == 4404


# ---- pause, resume, unsubscribe


def test_a_paused_subscription_is_given_nothing_until_resumed(ws: Socket, queue: Queue) -> None:
    ws.ok("subscribe", sub="s", queue=queue.name)
    held = queue.publish("held")
    ws.deliveries(1)
    ws.ok("pause", sub="s")
    second = queue.publish("second")
    taken = queue.take()
    assert taken["message_id"] == second
    third = queue.publish("third")
    assert ws.ok("ack", ids=[held])["results"][0]["ok"]
    nothing_more(ws, "deliver")
    ws.ok("resume", sub="s")
    assert ids(ws.deliveries(1)) == [third]


def test_pausing_twice_and_resuming_twice_is_fine(ws: Socket, queue: Queue) -> None:
    ws.ok("subscribe", sub="s", queue=queue.name, credit=2)
    for op in ("pause", "pause", "resume", "resume"):
        ws.ok(op, sub="s")
    queue.publish_many(1, 2, 3)
    ws.deliveries(2)
    nothing_more(ws, "deliver")


def test_pausing_one_subscription_leaves_the_others(ws: Socket, api: httpx.Client) -> None:
    first, second = Queue(api), Queue(api)
    ws.ok("subscribe", sub="a", queue=first.name)
    ws.ok("subscribe", sub="b", queue=second.name)
    ws.ok("pause", sub="a")
    first.publish()
    message_id = second.publish()
    assert ids(ws.deliveries(1, "b")) == [message_id]
    nothing_more(ws, "deliver")


def test_an_unsubscribe_gives_back_what_is_held_and_frees_the_name(ws: Socket, queue: Queue) -> None:
    published = queue.publish_many(*range(5), max_attempts=1)
    ws.ok("subscribe", sub="s", queue=queue.name, credit=3)
    ws.deliveries(3)
    ws.ok("unsubscribe", sub="s")
    eventually(queue.counts, lambda counts: counts["pending"] == 5)
    queue.await_consumers(0)
    nothing_more(ws, "deliver")
    check_problem(ws.error("unsubscribe", sub="s"), {"not_found", "invalid", "conflict"})
    ws.ok("subscribe", sub="s", queue=queue.name)
    again = ws.deliveries(5)
    assert ids(again) == published
    assert [message["attempt"] for message in again] == [2, 2, 2, 1, 1]


def test_what_was_given_back_can_not_be_settled_by_its_id_once_another_has_it(ws: Socket, queue: Queue) -> None:
    queue.publish()
    ws.ok("subscribe", sub="s", queue=queue.name)
    [message_id] = ids(ws.deliveries(1))
    ws.ok("unsubscribe", sub="s")
    assert queue.take()["message_id"] == message_id
    [result] = ws.ok("ack", ids=[message_id])["results"]
    assert not result["ok"]
    assert result["code"] == "lease_lost"


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_clean_close_gives_back_and_counts_no_failure(
    connect: Connect, queue: Queue, messages: Messages, code: int
) -> None:
    message_id = queue.publish(max_attempts=1)
    socket = connect()
    socket.ok("subscribe", queue=queue.name)
    socket.deliveries(1)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(queue.take)
        queue.await_consumers(2)
        socket.close(code)
        message = waits.result()
    assert message["message_id"] == message_id
    assert message["attempt"] == 2
    assert messages.nack(message, requeue=True, delay_ms=0)["status"] == "failed"  # the first failure of one


def test_a_connection_that_dies_gives_back_and_counts_a_failure(connect: Connect, queue: Queue) -> None:
    lasting = queue.publish("lasting", max_attempts=2)
    frail = queue.publish("frail", max_attempts=1)
    socket = connect()
    socket.ok("subscribe", queue=queue.name)
    assert ids(socket.deliveries(2)) == [lasting, frail]
    socket.drop()
    again = queue.take()
    assert again["message_id"] == lasting
    assert again["attempt"] == 2
    failed = eventually(lambda: queue.browse(status="failed"))
    assert ids(failed) == [frail]


def test_a_fixed_lease_can_be_settled_by_its_token_after_its_socket_is_closed(
    connect: Connect, queue: Queue, messages: Messages
) -> None:
    queue.publish(max_attempts=1)
    socket = connect()
    socket.ok("subscribe", queue=queue.name, lease_mode="fixed", lease_ms=600_000)
    [message] = socket.deliveries(1)
    assert instant(message["lease_expires_at"]) - instant(message["updated_at"]) > 599
    socket.close(1000)
    queue.await_consumers(0)
    assert messages.ack(message)["status"] == "processed"


def test_a_publish_and_its_socket_gone_is_still_a_publish(connect: Connect, queue: Queue) -> None:
    socket = connect()
    socket.ok("publish", queue=queue.name, messages=[{"content": 1}])
    socket.drop()
    assert queue.take()["content"] == 1


def test_one_socket_may_hold_a_hundred_subscriptions_of_one_queue(ws: Socket) -> None:
    base = fresh_name("many")
    ws.send(*[{"op": "subscribe", "id": n, "sub": f"s{n}", "queue": base, "credit": 1} for n in range(100)])
    assert {ws.answer(n)["op"] for n in range(100)} == {"ok"}
    ws.ok("publish", queue=base, messages=[{"content": n} for n in range(100)])
    assert len({message["message_id"] for message in ws.deliveries(100)}) == 100
