"""Consuming over REST: polls that wait, several queues, order, sharing; a client that left takes nothing (§4, §7.8)."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.doors import JSON, MESSAGE_FIELDS, Messages, Queue, body, eventually, instant
from tests.wire.sockets import Socket


def test_a_poll_of_an_empty_queue_answers_null(queue: Queue) -> None:
    reply = queue.api.get(queue.path + "/messages/consume")
    assert reply.status_code == 200
    assert reply.headers["content-type"].split(";")[0] == "application/json"
    assert reply.content.strip() == b"null"
    assert queue.take_many(5) == []
    reply = queue.api.post("/consume", content=body({"queues": [queue.name], "max": 1, "wait_ms": 0}), headers=JSON)
    assert reply.json() == {"messages": []}


def test_a_delivered_message_has_every_field_and_a_lease(queue: Queue, messages: Messages) -> None:
    message_id = queue.publish({"a": 1})
    before = time.time()
    message = queue.take()
    assert set(message) >= MESSAGE_FIELDS | {"lease", "lease_expires_at"}
    assert message["message_id"] == message_id
    assert message["status"] == "processing"
    assert message["attempt"] == 1
    assert isinstance(message["lease"], str)
    assert len(message["lease"]) >= 8
    assert instant(message["lease_expires_at"]) >= before + 30 - 0.002
    assert messages.status(message_id) == "processing"


def test_a_lease_lasts_as_long_as_the_poll_or_the_queue_says(api: httpx.Client) -> None:
    queue = Queue(api, lease_ms=60_000)
    queue.publish_many(1, 2, 3)
    for params, lease in (({}, 60), ({"lease_ms": 5000}, 5)):
        before = time.time()
        message = queue.take(**params)
        assert before + lease - 0.002 <= instant(message["lease_expires_at"]) <= time.time() + lease + 0.002
    before = time.time()
    [message] = queue.take_many(1, lease_ms=7000)
    assert before + 7 - 0.002 <= instant(message["lease_expires_at"]) <= time.time() + 7 + 0.002


def test_a_poll_that_waits_is_answered_by_the_publish(queue: Queue) -> None:
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(queue.consume, 30_000)
        queue.await_consumers(1)
        message_id = queue.publish()
        message = poll.result(timeout=60)
    assert message is not None
    assert message["message_id"] == message_id
    queue.await_consumers(0)


def test_a_poll_that_waits_in_vain_answers_null(queue: Queue) -> None:
    began = time.monotonic()
    assert queue.consume(wait_ms=150) is None
    assert time.monotonic() - began >= 0.15


def test_one_publish_answers_one_of_many_polls(queue: Queue) -> None:
    with ThreadPoolExecutor(4) as pool:
        polls = [pool.submit(queue.consume, 60_000) for _ in range(4)]
        queue.await_consumers(4)
        published = [queue.publish()]
        queue.await_consumers(3)
        published += [queue.publish() for _ in range(3)]
        answers = [poll.result() for poll in polls]
    assert sorted(answer["message_id"] for answer in answers if answer) == sorted(published)


def test_a_poll_for_many_takes_what_is_there(queue: Queue) -> None:
    ids = queue.publish_many(*range(5))
    assert [m["message_id"] for m in queue.take_many(3, wait_ms=10_000)] == ids[:3]
    assert [m["message_id"] for m in queue.take_many(1000, wait_ms=10_000)] == ids[3:]


def test_a_poll_for_many_is_answered_by_the_first_that_comes(queue: Queue) -> None:
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(queue.take_many, 10, 30_000)
        queue.await_consumers(1)
        message_id = queue.publish()
        assert [m["message_id"] for m in poll.result(timeout=60)] == [message_id]


def consume_any(api: httpx.Client, *queues: Queue, max_: int = 10, wait_ms: int = 0) -> list[tuple[str, str]]:
    content = body({"queues": [queue.name for queue in queues], "max": max_, "wait_ms": wait_ms})
    reply = api.post("/consume", content=content, headers=JSON)
    assert reply.status_code == 200, reply.text
    return [(message["queue"], message["message_id"]) for message in reply.json()["messages"]]


def test_several_queues_are_polled_at_once(api: httpx.Client) -> None:
    first, second, third = Queue(api), Queue(api), Queue(api)
    a, b = first.publish(), third.publish()
    # One call may take from one of them only; the next one finds the rest.
    taken = consume_any(api, first, second, third) + consume_any(api, first, second, third)
    assert sorted(taken) == sorted([(first.name, a), (third.name, b)])


def test_max_counts_over_all_queues_of_a_poll(api: httpx.Client) -> None:
    first, second = Queue(api), Queue(api)
    first.publish_many(1, 2, 3)
    second.publish_many(1, 2, 3)
    taken = [len(consume_any(api, first, second, max_=4)) for _ in range(3)]
    assert sum(taken) == 6
    assert max(taken) <= 4


@pytest.mark.parametrize("which", [0, 1])
def test_a_poll_of_several_queues_is_woken_by_any_of_them(api: httpx.Client, which: int) -> None:
    queues = [Queue(api), Queue(api)]
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(consume_any, api, *queues, wait_ms=30_000)
        for queue in queues:
            queue.await_consumers(1)
        message_id = queues[which].publish()
        assert poll.result(timeout=60) == [(queues[which].name, message_id)]
    for queue in queues:
        queue.await_consumers(0)


def test_the_same_queue_twice_in_a_poll_gives_each_message_once(api: httpx.Client, queue: Queue) -> None:
    queue.publish_many(1, 2)
    content = body({"queues": [queue.name, queue.name], "max": 10, "wait_ms": 0})
    reply = api.post("/consume", content=content, headers=JSON)
    if reply.status_code == 200:
        ids = [message["message_id"] for message in reply.json()["messages"]]
        assert len(ids) == len(set(ids)) == 2


# ---- order


def test_higher_priorities_come_first_and_equals_in_publish_order(queue: Queue) -> None:
    for n, priority in enumerate([0, 5, 9, 5, 0, 9, 1]):
        queue.publish(n, priority=priority)
    assert [message["content"] for message in queue.take_many(10)] == [2, 5, 1, 3, 6, 0, 4]


def test_what_is_given_back_keeps_its_old_place(queue: Queue, messages: Messages) -> None:
    queue.publish_many(1, 2, 3)
    first = queue.take()
    messages.nack(first, requeue=True, delay_ms=0)
    assert [message["content"] for message in queue.take_many(10)] == [1, 2, 3]


def test_a_delayed_message_takes_the_place_of_its_publish(queue: Queue) -> None:
    queue.publish("delayed", delay_ms=100)
    queue.publish("ready")
    urgent = queue.publish("urgent", delay_ms=100, priority=9)
    while queue.counts()["delayed"]:
        Queue(queue.api).consume(wait_ms=100)
    assert [message["content"] for message in queue.take_many(10)] == ["urgent", "delayed", "ready"], urgent


# ---- a client that leaves


class Poll:
    """A poll by a client that will not wait for its answer."""

    def __init__(self, broker: BrokerProcess, token: str, queue: Queue, by_post: bool = False) -> None:
        url = httpx.URL(broker.url)
        self.socket = socket.create_connection((url.host, url.port), timeout=10)
        content = b'{"max": 10, "wait_ms": 30000}' if by_post else b""
        line = "POST {}/messages/consume" if by_post else "GET {}/messages/consume?wait_ms=30000"
        head = (
            f"{line.format(queue.path)} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self.socket.sendall(head.encode() + content)

    def leave(self, reset: bool) -> None:
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("by_post", [False, True], ids=["GET", "POST"])
def test_a_client_that_left_while_waiting_takes_no_message_with_it(
    broker: BrokerProcess, token: str, queue: Queue, reset: bool, by_post: bool
) -> None:
    poll = Poll(broker, token, queue, by_post)
    queue.await_consumers(1)
    poll.leave(reset)
    queue.await_consumers(0)
    queue.publish()
    message = queue.consume()
    assert message is not None
    assert message["attempt"] == 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_message_published_as_the_client_leaves_is_not_lost(
    broker: BrokerProcess, token: str, queue: Queue, messages: Messages, reset: bool
) -> None:
    for _ in range(10):
        poll = Poll(broker, token, queue)
        queue.await_consumers(1)
        poll.leave(reset)
        queue.publish()
        message = queue.consume(wait_ms=40_000)
        assert message is not None, queue.counts()
        messages.ack(message)


def test_who_stays_gets_what_a_client_that_left_did_not_take(broker: BrokerProcess, token: str, queue: Queue) -> None:
    poll = Poll(broker, token, queue)
    queue.await_consumers(1)
    with ThreadPoolExecutor(1) as pool:
        stays = pool.submit(queue.consume, 30_000)
        queue.await_consumers(2)
        poll.leave(reset=True)
        message_id = queue.publish()
        message = stays.result(timeout=60)
    assert message is not None
    assert message["message_id"] == message_id


# ---- sharing


def received(sockets: list[Socket]) -> list[int]:
    """How many messages each of these connections was given so far."""
    for each in sockets:
        each.settle_down()
    return [sum(len(f["messages"]) for f in each.inbox if f["op"] == "deliver") for each in sockets]


def test_equal_sockets_get_equal_shares(connect: Callable[..., Socket], queue: Queue) -> None:
    sockets = [connect() for _ in range(4)]
    for each in sockets:
        each.ok("subscribe", queue=queue.name, credit=100)
    for start in range(0, 200, 10):
        queue.publish_many(*range(start, start + 10))
    shares = eventually(lambda: received(sockets), lambda seen: sum(seen) == 200)
    assert min(shares) >= 20, shares


def test_a_backlog_is_shared_by_all_who_come_for_it(connect: Callable[..., Socket], queue: Queue) -> None:
    queue.publish_many(*range(1000))
    sockets = [connect() for _ in range(3)]
    for each in sockets:
        each.ok("subscribe", queue=queue.name, credit=10)
    shares: Counter[int] = Counter()
    for _ in range(10):
        for index, each in enumerate(sockets):
            ids = [message["message_id"] for message in each.deliveries(10)]
            shares[index] += len(ids)
            each.send({"op": "ack", "ids": ids})
    assert all(shares[index] == 100 for index in range(3)), shares


def test_a_parked_poll_is_not_starved_by_sockets_with_credit(connect: Callable[..., Socket], queue: Queue) -> None:
    for _ in range(2):
        connect().ok("subscribe", queue=queue.name, credit=1000)
    with ThreadPoolExecutor(2) as pool:
        polls: list[Future[Any]] = [pool.submit(queue.consume, 30_000), pool.submit(queue.take_many, 1, 30_000)]
        queue.await_consumers(4)
        for n in range(40):
            queue.publish(n)
        queue.await_consumers(2)
        assert all(poll.result() for poll in polls)


def test_pollers_and_sockets_share_a_queue(connect: Callable[..., Socket], queue: Queue, messages: Messages) -> None:
    over = threading.Event()

    def poll_in_a_loop(by_post: bool) -> int:
        count = 0
        while not over.is_set():
            taken = queue.take_many(1, 500) if by_post else [m for m in [queue.consume(500)] if m]
            count += len(taken)
            for message in taken:
                messages.ack(message)
        return count

    sockets = [connect() for _ in range(2)]
    for each in sockets:
        each.ok("subscribe", queue=queue.name, credit=60)
    with ThreadPoolExecutor(4) as pool:
        polls = [pool.submit(poll_in_a_loop, by_post) for by_post in (False, True)]
        queue.await_consumers(4)
        for n in range(100):
            queue.publish(n)
        eventually(queue.counts, lambda counts: counts["pending"] == 0)
        over.set()
        polled = [poll.result() for poll in polls]
    pushed = eventually(lambda: received(sockets), lambda seen: sum(polled) + sum(seen) == 100)
    assert min(polled + pushed) >= 2, (polled, pushed)


def test_sockets_with_credit_do_not_starve_each_other_across_queues(ws: Socket, api: httpx.Client) -> None:
    queues = [Queue(api) for _ in range(3)]
    for queue in queues:
        ws.ok("subscribe", queue=queue.name, credit=2)
        queue.publish_many(1, 2, 3)
    for queue in queues:
        assert len(ws.deliveries(2, queue.name)) == 2
