"""A whole broker in the test's own loop, asked over its ASGI application; receivers are real servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from streambroker.config import Settings
from streambroker.core.errors import StorageFailed
from streambroker.node import Node

PASSWORD = "only for this test"
NO_LIMITS: dict[str, Any] = dict.fromkeys(("rate_limit_default", "rate_limit_login", "rate_limit_messages"), "off")
PATIENCE_S = 40
LATER: dict[str, Any] = {"backoff": {"kind": "fixed", "base_ms": 600_000, "jitter": False}}
"""The configuration of a queue that tries nothing again while a test looks at what failed."""
T = TypeVar("T")
Json = dict[str, Any]


async def eventually(look: Callable[[], Any], wanted: Callable[[Any], bool] = bool) -> Any:
    """Look again until it is as wanted; for what the broker does by itself and announces to nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(seen := await look()):
            await asyncio.sleep(0.01)
    return seen


class World:
    """One broker; `api` is the administrator's client."""

    def __init__(self, node: Node, queue: str = "q") -> None:
        self.node = node
        self.queue = queue
        self.application = node.application()
        self.api = self.client()

    def client(self, token: str = "") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app=self.application)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers, timeout=30)

    async def log_in(self, username: str = "admin", password: str = PASSWORD) -> httpx.AsyncClient:
        answer = await self.client().post("/login", json={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["access_token"])

    async def user(self, username: str, *actions: str, queues: str = "*") -> httpx.AsyncClient:
        """A new member, logged in."""
        grants = [{"queues": queues, "actions": list(actions)}] if actions else []
        made = {"username": username, "password": PASSWORD, "role": "member", "grants": grants}
        assert (await self.api.post("/users", json=made)).status_code == 201
        return await self.log_in(username)

    def path(self, webhook: Json | None = None) -> str:
        return f"/queues/{self.queue}/webhooks" + (f"/{webhook['id']}" if webhook else "")

    async def make(self, url: str, api: httpx.AsyncClient | None = None, **options: Any) -> Json:
        answer = await (api or self.api).post(self.path(), json={"url": url, **options})
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    async def refused(self, url: str, **options: Any) -> Json:
        """The problem with which a webhook is not made."""
        answer = await self.api.post(self.path(), json={"url": url, **options})
        assert answer.status_code == 422, answer.text
        problem: Json = answer.json()
        return problem

    async def look(self, webhook: Json) -> Json:
        answer = await self.api.get(self.path(webhook))
        assert answer.status_code == 200, answer.text
        shown: Json = answer.json()
        return shown

    async def has_become(self, webhook: Json, status: str) -> Json:
        shown: Json = await eventually(lambda: self.look(webhook), lambda seen: seen["status"] == status)
        return shown

    async def change(self, webhook: Json, **members: Any) -> Json:
        answer = await self.api.patch(self.path(webhook), json=members)
        assert answer.status_code == 200, answer.text
        changed: Json = answer.json()
        return changed

    async def log(self, webhook: Json, **params: Any) -> list[Json]:
        answer = await self.api.get(f"{self.path(webhook)}/deliveries", params=params)
        assert answer.status_code == 200, answer.text
        items: list[Json] = answer.json()["items"]
        return items

    async def logged(self, webhook: Json, count: int) -> list[Json]:
        """The log, once it has so many entries, the newest first."""
        found: list[Json] = await eventually(lambda: self.log(webhook), lambda seen: len(seen) >= count)
        assert len(found) == count
        return found

    async def config(self, **config: Any) -> None:
        answer = await self.api.post("/queues", json={"name": self.queue, **config})
        assert answer.status_code == 201, answer.text

    async def publish(self, content: Any = "hello", **options: Any) -> str:
        answer = await self.api.post(f"/queues/{self.queue}/messages", json={"content": content, **options})
        assert answer.status_code == 201, answer.text
        message_id: str = answer.json()["message_id"]
        return message_id

    async def message(self, message_id: str) -> Json:
        answer = await self.api.get(f"/messages/{message_id}")
        assert answer.status_code == 200, answer.text
        message: Json = answer.json()
        return message

    async def settled(self, message_id: str, status: str) -> Json:
        """The message, once it has that status."""
        found: Json = await eventually(lambda: self.message(message_id), lambda seen: seen["status"] == status)
        return found

    async def failed_once(self, message_id: str) -> Json:
        """The message, once it waits after a delivery that failed; a queue that is `LATER` keeps it so."""
        found: Json = await eventually(
            lambda: self.message(message_id), lambda m: m["error"] and m["status"] == "pending"
        )
        return found


@asynccontextmanager
async def broker(data_dir: Path, **settings: Any) -> AsyncIterator[World]:
    """A broker that runs, whose webhooks may go to loopback."""

    def fail(error: StorageFailed) -> None:
        raise error

    options = {**NO_LIMITS, "webhook_allow_private": ("127.0.0.0/8",), "admin_password": PASSWORD, **settings}
    node = await Node.open(Settings(data_dir=str(data_dir), **options), fail)
    try:
        world = World(node)
        world.api = await world.log_in()
        yield world
    finally:
        await node.close()
