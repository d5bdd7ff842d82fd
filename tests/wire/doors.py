"""The broker as its clients use it: one queue over REST, and the few waits that the tests share."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import httpx

Message = dict[str, Any]
T = TypeVar("T")

JSON = {"Content-Type": "application/json"}
MESSAGE_FIELDS = {
    "message_id",
    "queue",
    "status",
    "content",
    "content_type",
    "headers",
    "priority",
    "attempt",
    "max_attempts",
    "created_at",
    "updated_at",
    "available_at",
    "expires_at",
    "key",
    "dedup_id",
    "correlation_id",
    "reply_to",
    "traceparent",
    "error",
}
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
_numbers = itertools.count(1)


def fresh_name(prefix: str = "q") -> str:
    """A queue name that no other test uses on this broker."""
    return f"{prefix}-{next(_numbers)}"


def body(value: Any) -> bytes:
    """JSON as ASCII, so that lone surrogates and control characters travel as escapes."""
    return json.dumps(value).encode()


def instant(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time as the broker must write it: UTC with milliseconds."""
    assert _TIME.match(text), text
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def eventually(look: Callable[[], T], wanted: Callable[[T], bool] = bool, timeout: float = 40) -> T:
    """Look again until the answer is ``wanted``; for what the broker does by itself and announces to nobody."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        seen = look()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, f"still {seen!r}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Queue:
    """One queue over REST, logged in as the admin. Methods assert success and return what a test wants to know."""

    def __init__(self, api: httpx.Client, name: str = "", **config: Any) -> None:
        self.api = api
        self.name = name or fresh_name()
        self.path = f"/queues/{self.name}"
        if config:
            reply = api.post("/queues", content=body({"name": self.name, **config}), headers=JSON)
            assert reply.status_code == 201, reply.text

    def post(self, path: str, value: Any = None, **options: Any) -> httpx.Response:
        if value is None:
            return self.api.post(self.path + path, **options)
        headers = {**JSON, **options.pop("headers", {})}
        return self.api.post(self.path + path, content=body(value), headers=headers, **options)

    def publish(self, content: Any = "hello", **options: Any) -> str:
        reply = self.post("/messages", {"content": content, **options})
        assert reply.status_code == 201, reply.text
        message_id: str = reply.json()["message_id"]
        return message_id

    def publish_many(self, *contents: Any, **options: Any) -> list[str]:
        reply = self.post("/messages/batch", {"messages": [{"content": c, **options} for c in contents]})
        assert reply.status_code == 201, reply.text
        ids: list[str] = reply.json()["message_ids"]
        return ids

    def consume(self, wait_ms: int = 0, **params: Any) -> Message | None:
        reply = self.api.get(f"{self.path}/messages/consume", params={"wait_ms": wait_ms, **params})
        assert reply.status_code == 200, reply.text
        message: Message | None = reply.json()
        return message

    def take(self, **params: Any) -> Message:
        """The next message, which must come."""
        message = self.consume(**{"wait_ms": 40_000, **params})
        assert message is not None, self.info()
        return message

    def take_many(self, max_: int, wait_ms: int = 0, **options: Any) -> list[Message]:
        reply = self.post("/messages/consume", {"max": max_, "wait_ms": wait_ms, **options})
        assert reply.status_code == 200, reply.text
        messages: list[Message] = reply.json()["messages"]
        return messages

    def browse(self, **params: Any) -> list[Message]:
        reply = self.api.get(f"{self.path}/messages", params=params)
        assert reply.status_code == 200, reply.text
        items: list[Message] = reply.json()["items"]
        return items

    def info(self) -> dict[str, Any]:
        reply = self.api.get(self.path)
        assert reply.status_code == 200, reply.text
        info: dict[str, Any] = reply.json()
        return info

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.info()["counts"]
        return counts

    def await_consumers(self, count: int) -> None:
        """Until so many subscriptions and parked polls are there; the first of them may have to make the queue yet."""

        def consumers() -> int:
            reply = self.api.get(self.path)
            return reply.json()["consumers"] if reply.status_code == 200 else 0

        eventually(consumers, lambda seen: seen == count)


class Messages:
    """Single messages over REST."""

    def __init__(self, api: httpx.Client) -> None:
        self.api = api

    def reply(self, message_id: str, verb: str, params: dict[str, Any] | None = None, **fields: Any) -> httpx.Response:
        path = f"/messages/{message_id}/{verb}"
        if not fields:
            return self.api.post(path, params=params)
        return self.api.post(path, content=body(fields), headers=JSON, params=params)

    def settle(self, message_id: str, verb: str, params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        reply = self.reply(message_id, verb, params, **fields)
        assert reply.status_code == 200, reply.text
        result: dict[str, Any] = reply.json()
        assert result["message_id"] == message_id
        return result

    def ack(self, message: Message) -> dict[str, Any]:
        return self.settle(message["message_id"], "ack", lease=message["lease"])

    def nack(self, message: Message, **fields: Any) -> dict[str, Any]:
        return self.settle(message["message_id"], "nack", lease=message["lease"], **fields)

    def get(self, message_id: str) -> Message:
        reply = self.api.get(f"/messages/{message_id}")
        assert reply.status_code == 200, reply.text
        message: Message = reply.json()
        return message

    def status(self, message_id: str) -> str:
        status: str = self.get(message_id)["status"]
        return status
