"""An id that one frame names twice: settled once, and answered for each mention, as over REST."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.wire.doors import Queue
from tests.wire.sockets import Socket


@pytest.mark.parametrize(
    ("op", "fields", "counts"),
    [
        ("ack", {}, {"processed": 2, "pending": 0}),
        ("nack", {"requeue": False}, {"failed": 2, "pending": 0}),
        ("extend", {"lease_ms": 60_000}, {"processing": 2, "pending": 0}),
    ],
)
def test_each_mention_is_answered_in_its_place(
    ws: Socket, queue: Queue, op: str, fields: dict[str, Any], counts: dict[str, int]
) -> None:
    first, second = queue.publish_many(1, 2)
    ws.ok("subscribe", queue=queue.name, lease_mode="fixed")
    ws.deliveries(2)
    asked = [first, "no-such-message", second, first, "no-such-message"]
    results = ws.ok(op, ids=asked, **fields)["results"]
    assert [one["message_id"] for one in results] == asked
    assert [one["ok"] for one in results] == [True, False, True, True, False]
    assert [one.get("code") for one in results] == [None, "lease_lost", None, None, "lease_lost"]
    assert counts.items() <= queue.counts().items()


def test_rest_answers_each_mention_too(api: httpx.Client, queue: Queue) -> None:
    message_id = queue.publish()
    lease = queue.take()["lease"]
    reply = api.post("/messages/ack", json={"items": [{"message_id": message_id, "lease": lease}] * 2})
    assert [(one["message_id"], one["ok"]) for one in reply.json()["results"]] == [(message_id, True)] * 2
