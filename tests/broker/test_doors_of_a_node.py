"""A whole node in this process, on SQLite and behind the real server: users with grants, a peer that never reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streambroker.config import Settings
from streambroker.core.access import Action, Grant, Role
from streambroker.core.errors import StorageFailed
from streambroker.node import FRAME_OVERHEAD, Node
from streambroker.transport import server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "correct-horse-battery-staple"
GRANTS = (
    Grant("open.*", tuple(Action)),
    Grant("seen.*", (Action.VIEW,)),
    Grant("worked.*", (Action.CONSUME, Action.VIEW)),
)
UNKNOWN_ID = "344071f1ca800000"


class House(NamedTuple):
    """A node that serves, and two users of it."""

    node: Node
    url: str
    admin: httpx.AsyncClient
    mia: httpx.AsyncClient
    tokens: dict[str, str]

    async def publish(self, queue: str, content: Any = 1) -> str:
        reply = await self.admin.post(f"/queues/{queue}/messages", json={"content": content})
        assert reply.status_code == 201, reply.text
        return str(reply.json()["message_id"])

    async def take(self, queue: str) -> dict[str, Any]:
        message = (await self.admin.get(f"/queues/{queue}/messages/consume?wait_ms=40000")).json()
        assert isinstance(message, dict)
        return message


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    def failed(error: StorageFailed) -> None:
        raise AssertionError(f"the storage failed: {error}")

    data_dir: Path = tmp_path_factory.mktemp("node") / "data"
    settings = Settings(
        data_dir=str(data_dir),
        admin_password=PASSWORD,
        rate_limit_default="off",
        rate_limit_login="off",
        rate_limit_messages="off",
    )
    node = await Node.open(settings, failed)
    await node._auth.users.add("mia", PASSWORD, Role.MEMBER, GRANTS)
    sock = server.listen("127.0.0.1", 0)
    max_frame = settings.max_message_bytes + FRAME_OVERHEAD
    front = server.Server(server.configured(node.application(), settings.heartbeat_ms, max_frame))
    serving = asyncio.create_task(front.serve(sockets=[sock]))
    await asyncio.wait_for(front.listening.wait(), 60)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with contextlib.AsyncExitStack() as stack:
        clients: dict[str, httpx.AsyncClient] = {}
        tokens = {}
        for user in ("admin", "mia"):
            tokens[user] = (await node._auth.login(user, PASSWORD, "")).access_token
            headers = {"Authorization": f"Bearer {tokens[user]}"}
            client = httpx.AsyncClient(base_url=url, headers=headers, timeout=20, trust_env=False)
            clients[user] = await stack.enter_async_context(client)
        yield House(node, url, clients["admin"], clients["mia"], tokens)
    await node.sockets.close_all(4503, "the test is over")
    front.should_exit = True
    await serving
    await node.close()
    sock.close()


def told(reply: httpx.Response, message_id: str = "") -> tuple[int, dict[str, Any], dict[str, str]]:
    """All that a client can learn from an answer, but for what differs between any two requests."""
    problem = reply.json()
    del problem["instance"]
    text = json.dumps(problem).replace(message_id or "\0", UNKNOWN_ID)
    return reply.status_code, json.loads(text), {k: v for k, v in reply.headers.items() if k != "x-request-id"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/ack", None),
        ("POST", "/ack", {"lease": "x"}),
        ("POST", "/ack", {"no such field": 1}),
        ("POST", "/nack", {"requeue": True}),
        ("POST", "/nack?requeue=nonsense", None),
        ("POST", "/extend", {"lease_ms": 1_000}),
        ("POST", "/extend", None),
    ],
    ids=str,
)
async def test_a_message_of_a_hidden_queue_looks_exactly_like_one_that_is_not_there(
    house: House, method: str, path: str, body: Any
) -> None:
    message_id = await house.publish("hidden.q")
    there = await house.mia.request(method, f"/messages/{message_id}{path}", json=body)
    absent = await house.mia.request(method, f"/messages/{UNKNOWN_ID}{path}", json=body)
    assert there.status_code == 404
    assert told(there, message_id) == told(absent)
    assert (await house.admin.get(f"/messages/{message_id}")).json()["status"] == "pending"


async def test_not_even_the_right_lease_settles_a_message_of_a_hidden_queue(house: House) -> None:
    await house.publish("hidden.lease")
    message = await house.take("hidden.lease")
    answer = await house.mia.post(f"/messages/{message['message_id']}/ack", json={"lease": message["lease"]})
    absent = await house.mia.post(f"/messages/{UNKNOWN_ID}/ack", json={"lease": message["lease"]})
    assert told(answer, message["message_id"]) == told(absent)
    assert (await house.admin.get(f"/messages/{message['message_id']}")).json()["status"] == "processing"


@pytest.mark.parametrize(("verb", "more"), [("ack", {}), ("nack", {}), ("extend", {"lease_ms": 1_000})])
async def test_in_a_list_a_hidden_message_is_not_found_and_the_others_are_settled(
    house: House, verb: str, more: dict[str, Any]
) -> None:
    queues = [f"open.{verb}", f"hidden.{verb}", f"seen.{verb}"]
    taken = []
    for queue in queues:
        await house.publish(queue)
        taken.append(await house.take(queue))
    items = [{"message_id": m["message_id"], "lease": m["lease"], **more} for m in taken]
    items.append({"message_id": UNKNOWN_ID, "lease": "x", **more})
    results = (await house.mia.post(f"/messages/{verb}", json={"items": items})).json()["results"]
    assert [(r["ok"], r.get("code")) for r in results] == [
        (True, None), (False, "not_found"), (False, "forbidden"), (False, "not_found"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("PATCH", "", {"lease_ms": 5}),
        ("POST", "/purge", None),
        ("POST", "/pause", None),
        ("POST", "/redrive", None),
        ("GET", "/messages", None),
    ],
    ids=str,
)
async def test_a_hidden_queue_looks_like_one_that_is_not_there(house: House, method: str, path: str, body: Any) -> None:
    await house.publish("hidden.q")
    there = await house.mia.request(method, f"/queues/hidden.q{path}", json=body)
    absent = await house.mia.request(method, f"/queues/hidden.p{path}", json=body)
    assert there.status_code == 404
    told_there, told_absent = told(there), told(absent)
    assert json.dumps(told_there[1]).replace("hidden.q", "hidden.p") == json.dumps(told_absent[1])
    assert told_there[2] == told_absent[2]


async def test_what_the_grants_do_not_allow_on_a_queue_that_they_name_is_forbidden(house: House) -> None:
    message_id = await house.publish("seen.q")
    assert (await house.mia.get(f"/messages/{message_id}")).status_code == 200
    assert (await house.mia.get("/queues/seen.q")).status_code == 200
    for method, path in (
        ("DELETE", f"/messages/{message_id}"),
        ("POST", f"/messages/{message_id}/ack"),
        ("GET", "/queues/seen.q/messages/consume"),
        ("DELETE", "/queues/seen.q"),
    ):
        reply = await house.mia.request(method, path)
        assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), path


async def test_a_member_may_do_what_the_grants_say_and_sees_only_that(house: House) -> None:
    await house.publish("hidden.q")
    await house.publish("worked.q")
    message = (await house.mia.get("/queues/worked.q/messages/consume")).json()
    assert (await house.mia.post(f"/messages/{message['message_id']}/ack")).status_code == 200
    names = [queue["name"] for queue in (await house.mia.get("/queues?limit=500")).json()["items"]]
    assert "worked.q" in names
    assert not [name for name in names if name.startswith("hidden.")]
    assert not [name for name in (await house.mia.get("/stats")).json()["queues"] if name.startswith("hidden.")]


@pytest.mark.parametrize(("queue", "code"), [("seen.q", 4403), ("hidden.q", 4404), ("hidden.none", 4404)])
async def test_a_members_queue_socket_without_the_grant_is_closed(house: House, queue: str, code: int) -> None:
    await house.publish("seen.q")
    await house.publish("hidden.q")
    url = f"ws{house.url.removeprefix('http')}/queues/{queue}/ws"
    headers = {"Authorization": f"Bearer {house.tokens['mia']}"}
    async with connect(url, additional_headers=headers, proxy=None) as opened:
        async with asyncio.timeout(60):
            said = [json.loads(text)["op"] async for text in closing(opened)]
        assert said == ["welcome"]
        assert opened.close_code == code


async def closing(connection: ClientConnection) -> AsyncIterator[str | bytes]:
    """What comes until the connection is closed, with whatever code."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await connection.recv()
