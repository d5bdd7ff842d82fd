"""Every way to get a WebSocket op wrong: an error frame with the exact problem, and the connection goes on (§5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness import BrokerProcess
from tests.wire import bad_values
from tests.wire.bad_values import BAD_NAMES, MISSING, Row, laid_over, row_id
from tests.wire.doors import Queue
from tests.wire.problems import check_problem
from tests.wire.sockets import Socket, open_socket

GOOD: dict[str, dict[str, Any]] = {
    "publish": {"queue": "never-made", "messages": [{"content": 1}]},
    "subscribe": {"queue": "never-made"},
    "unsubscribe": {"sub": "s"},
    "pause": {"sub": "s"},
    "resume": {"sub": "s"},
    "ack": {"ids": ["x"]},
    "nack": {"ids": ["x"]},
    "extend": {"ids": ["x"], "lease_ms": 1000},
    "refresh": {"token": "x"},
    "hello": {"token": "x"},
}


def each(field: str, *values: Any) -> list[Row]:
    return [({field: value}, f"/{field}") for value in values]


NOT_IDS: list[Row] = [
    *each("ids", "x", 5, {}, True),
    ({"ids": MISSING}, ""),
    ({"ids": [5]}, "/ids/0"),
    ({"ids": ["x", None]}, "/ids/1"),
]
NOT_A_SUB: list[Row] = each("sub", 5, [], {}, True)

BAD: dict[str, list[Row]] = {
    "publish": [
        ({"queue": MISSING}, ""),
        *bad_values.name("queue"),
        ({"messages": MISSING}, ""),
        *each("messages", "x", 5, {}, True),
        ({"messages": [5]}, "/messages/0"),
    ],
    "subscribe": [
        ({"queue": MISSING}, ""),
        *bad_values.name("queue"),
        *bad_values.count("credit", 0),
        *bad_values.count("lease_ms"),
        *each("lease_mode", 5, "forever", "", True),
        *NOT_A_SUB,
    ],
    "unsubscribe": [({"sub": MISSING}, ""), *NOT_A_SUB],
    "pause": [({"sub": MISSING}, ""), *NOT_A_SUB],
    "resume": [({"sub": MISSING}, ""), *NOT_A_SUB],
    "ack": NOT_IDS,
    "nack": [
        *NOT_IDS,
        *each("requeue", 5, "yes", []),
        *bad_values.count("delay_ms"),
        *each("reason", 5, [], True),
    ],
    "extend": [*NOT_IDS, ({"lease_ms": MISSING}, ""), *bad_values.count("lease_ms")],
    "refresh": [({"token": MISSING}, ""), *each("token", 5, [], True)],
    "hello": each("token", 5, [], True),
}


@pytest.fixture(scope="module")
def connection(broker: BrokerProcess) -> Iterator[Socket]:
    """One connection for all of these: that it survives each of them is part of the test."""
    with open_socket(broker.ws_url + "/ws", token=broker.token()) as opened:
        opened.op("welcome")
        yield opened


@pytest.fixture
def socket(connection: Socket) -> Socket:
    connection.settle_down()
    connection.inbox.clear()
    return connection


@pytest.mark.parametrize(("op", "row"), [(op, row) for op, rows in BAD.items() for row in rows], ids=row_id)
def test_a_bad_field_is_pointed_at(socket: Socket, op: str, row: Row) -> None:
    fields, pointer = row
    names = "" if pointer else next(iter(fields))
    problem = socket.error(op, **laid_over(GOOD[op], fields))
    check_problem(problem, "invalid", pointer=pointer, names=names)


@pytest.mark.parametrize("op", [*GOOD, "ping"])
def test_an_unknown_field_is_named(socket: Socket, op: str) -> None:
    problem = socket.error(op, **GOOD.get(op, {}), no_such_field=1)
    check_problem(problem, "invalid", pointer="/no_such_field")


@pytest.mark.parametrize("row", bad_values.DRAFT, ids=row_id)
def test_a_bad_field_of_a_message_is_pointed_at(socket: Socket, row: Row) -> None:
    fields, pointer = row
    names = "" if pointer else next(iter(fields))
    drafts = [{"content": 1}, laid_over({"content": 1}, fields)]
    problem = socket.error("publish", queue="never-made", messages=drafts)
    check_problem(problem, "invalid", pointer=pointer and "/messages/1" + pointer, names=names)


@pytest.mark.parametrize("op", ["dance", "", "PUBLISH", "welcome", "deliver", "pong", 5, None, ["publish"], {}, True])
def test_an_unknown_op_is_an_error_and_not_the_end(socket: Socket, op: Any) -> None:
    socket.send({"op": op, "id": "unknown"})
    frame = socket.answer("unknown")
    assert frame["op"] == "error"
    check_problem(frame["problem"], "invalid", names="op")
    socket.settle_down()


def test_a_frame_without_an_op_is_an_error_and_not_the_end(socket: Socket) -> None:
    socket.send({"id": "nothing"})
    check_problem(socket.answer("nothing")["problem"], "invalid", names="op")
    socket.send({})
    check_problem(socket.op("error")["problem"], "invalid", names="op")
    socket.settle_down()


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_no_queue_is_made_by_a_bad_name(socket: Socket, name: str) -> None:
    check_problem(socket.error("subscribe", queue=name), "invalid", pointer="/queue")
    check_problem(socket.error("publish", queue=name, messages=[{"content": 1}]), "invalid", pointer="/queue")


def test_an_error_without_an_id_is_still_told(socket: Socket) -> None:
    socket.send({"op": "subscribe", "queue": 5})
    frame = socket.op("error")
    assert frame.get("id") is None
    check_problem(frame["problem"], "invalid", pointer="/queue")


def test_an_error_in_the_middle_of_an_array_does_not_stop_the_rest(ws: Socket, queue: Queue) -> None:
    publish = {"op": "publish", "queue": queue.name, "messages": [{"content": 1}]}
    ws.send(
        {**publish, "id": "a"},
        {"op": "dance", "id": "b"},
        {"op": "publish", "id": "c", "queue": "not a name", "messages": []},
        {"op": "ack", "id": "d", "ids": 5},
        {},
        {**publish, "id": "e"},
    )
    answers = {id_: ws.answer(id_) for id_ in "abcde"}
    assert {id_: answer["op"] for id_, answer in answers.items()} == {
        "a": "ok",
        "b": "error",
        "c": "error",
        "d": "error",
        "e": "ok",
    }
    check_problem(ws.op("error")["problem"], "invalid", names="op")
    ids = [*answers["a"]["message_ids"], *answers["e"]["message_ids"]]
    assert [message["message_id"] for message in queue.take_many(10)] == ids


def test_a_bad_message_in_a_publish_stores_none_of_it(ws: Socket, queue: Queue) -> None:
    queue.publish("first")
    problem = ws.error("publish", queue=queue.name, messages=[{"content": 1}, {"content": 2, "priority": 77}])
    check_problem(problem, "invalid", pointer="/messages/1/priority")
    assert queue.counts()["pending"] == 1


@pytest.mark.parametrize("op", ["unsubscribe", "pause", "resume"])
def test_a_subscription_that_is_not_there_is_an_error(socket: Socket, op: str) -> None:
    check_problem(socket.error(op, sub="nobody"), {"not_found", "invalid", "conflict"})


@pytest.mark.parametrize(("op", "fields"), [("ack", {}), ("nack", {}), ("extend", {"lease_ms": 1000})])
def test_an_id_that_was_never_delivered_here_fails_alone(socket: Socket, op: str, fields: dict[str, Any]) -> None:
    reply = socket.ok(op, ids=["no-such-message"], **fields)
    [result] = reply["results"]
    assert result["message_id"] == "no-such-message"
    assert result["ok"] is False
    assert result["code"] in {"lease_lost", "not_found"}


def test_a_sub_in_use_is_a_conflict_and_leaves_the_first_alone(ws: Socket, queue: Queue) -> None:
    ws.ok("subscribe", sub="s1", queue=queue.name, credit=1)
    check_problem(ws.error("subscribe", sub="s1", queue=queue.name), "conflict")
    check_problem(ws.error("subscribe", sub="s1", queue="another"), "conflict")
    message_id = queue.publish()
    assert ws.deliveries(1, "s1")[0]["message_id"] == message_id


def test_the_name_of_a_queue_is_its_default_sub_and_can_be_in_use_too(
    connect: Callable[..., Socket], queue: Queue
) -> None:
    first, second = connect(), connect()
    first.ok("subscribe", queue=queue.name)
    check_problem(first.error("subscribe", queue=queue.name), "conflict")
    second.ok("subscribe", queue=queue.name)  # a name is per connection
