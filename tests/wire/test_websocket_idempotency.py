"""The idempotency key of a WebSocket publish: for all its messages together, and the same one as on REST."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.wire.doors import Queue
from tests.wire.sockets import Socket


def publish(ws: Socket, queue: Queue, key: str, *contents: Any) -> dict[str, Any]:
    messages = [{"content": content} for content in contents]
    return ws.call("publish", queue=queue.name, messages=messages, idempotency_key=key)


def test_the_same_key_again_stores_nothing_and_answers_as_the_first_time(ws: Socket, queue: Queue) -> None:
    first = publish(ws, queue, "k", 1, 2)
    again = publish(ws, queue, "k", 1, 2)
    other = publish(ws, queue, "another", 1, 2)
    assert again["message_ids"] == first["message_ids"]
    assert again["duplicates"] == first["duplicates"] == []
    assert set(other["message_ids"]).isdisjoint(first["message_ids"])


def test_frames_of_one_array_are_told_apart_by_their_keys(ws: Socket, queue: Queue) -> None:
    frames = [
        {"op": "publish", "id": n, "queue": queue.name, "messages": [{"content": 1}], "idempotency_key": key}
        for n, key in enumerate(("a", "b", "a", None), start=1)
    ]
    ws.send(*frames)
    answers = {frame["id"]: frame for frame in (ws.take(lambda frame: frame["op"] == "ok") for _ in frames)}
    ids = [answers[n]["message_ids"][0] for n in range(1, 5)]
    assert ids[0] == ids[2]
    assert len(set(ids)) == 3


def test_the_same_key_with_other_content_is_refused(ws: Socket, queue: Queue) -> None:
    publish(ws, queue, "k", 1, 2)
    for contents in ((1, 3), (1,), (12,)):
        answer = publish(ws, queue, "k", *contents)
        assert answer["op"] == "error" and answer["problem"]["code"] == "invalid"


def test_a_batch_over_rest_knows_the_key_of_a_websocket(ws: Socket, queue: Queue, api: httpx.Client) -> None:
    first = publish(ws, queue, "k", "one", 2)
    again = api.post(
        f"/queues/{queue.name}/messages/batch",
        json={"messages": [{"content": "one"}, {"content": 2}]},
        headers={"Idempotency-Key": "k"},
    )
    assert (again.status_code, again.json()["message_ids"]) == (200, first["message_ids"])


@pytest.mark.parametrize("key", ["", "x" * 513, "a\0b", 7])
def test_a_key_that_is_none_is_refused(ws: Socket, queue: Queue, key: Any) -> None:
    answer = ws.call("publish", queue=queue.name, messages=[{"content": 1}], idempotency_key=key)
    assert answer["op"] == "error" and answer["problem"]["code"] == "invalid"
