"""One account of what clients do not read, whichever door it was written at."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from streambroker.config import Settings
from streambroker.core.errors import StorageFailed
from streambroker.node import FRAME_OVERHEAD, Node
from streambroker.transport import server
from streambroker.transport.server.unread import Backlog
from tests.transport.server.world import Client, frame, request, upgrade

PASSWORD = "correct-horse-battery-staple"
PATIENCE_S = 40
GRAPHQL = '{ messages(queue: "q") { items { a: content b: content } } }'


class Place(NamedTuple):
    """A node that serves on sockets for which the system keeps little. `api` is the admin's client."""

    address: tuple[str, int]
    api: httpx.AsyncClient
    node: Node
    backlog: Backlog
    token: bytes
    clients: list[Client]
    """Kept: one that nobody refers to would be closed."""

    async def stuck(self, *first: bytes) -> Client:
        """Connect, send the first, and each other one when the answer to the one before has come; then read no more."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        client = Client(*await asyncio.open_connection(sock=sock, limit=1))
        self.clients.append(client)
        for data in first:
            client.send(data)
            if data is not first[-1]:
                async with asyncio.timeout(PATIENCE_S):
                    await client.reader.read(1)
        return client

    async def behind(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not len(self.backlog):
                await asyncio.sleep(0.01)

    @property
    def login(self) -> bytes:
        return b"Authorization: Bearer " + self.token


@asynccontextmanager
async def opened(directory: Path, unread: float) -> AsyncIterator[Place]:
    """Who takes nothing for `unread` seconds is cut off."""

    def failed(error: StorageFailed) -> None:
        raise AssertionError(f"the storage failed: {error}")

    off = {f"rate_limit_{kind}": "off" for kind in ("default", "login", "messages")}
    settings = Settings(data_dir=str(directory / "data"), admin_password=PASSWORD, **off)  # type: ignore[arg-type]
    node = await Node.open(settings, failed)
    sock = server.listen("127.0.0.1", 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # those that it accepts have it too
    config = server.configured(
        node.application(cut_off=lambda: front.cut_off()),
        60_000,
        settings.max_message_bytes + FRAME_OVERHEAD,
        deadlines=server.Deadlines(unread=unread),
    )
    front = server.Server(config)
    serving = asyncio.create_task(front.serve(sockets=[sock]))
    await asyncio.wait_for(front.listening.wait(), PATIENCE_S)
    address = sock.getsockname()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", timeout=PATIENCE_S, trust_env=False) as api:
        login = await api.post("/login", json={"username": "admin", "password": PASSWORD})
        token = login.json()["access_token"]
        api.headers["Authorization"] = f"Bearer {token}"
        assert (await api.post("/queues", json={"name": "q"})).status_code == 201
        yield Place(address, api, node, config.watch.backlog, token.encode(), [])
        for protocol in list(front.server_state.connections):
            protocol.transport.abort()
    front.should_exit = True
    await serving
    await node.close()
    sock.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path, unread=3_600) as place:
        yield place


Door = Callable[[Place], Awaitable[Client]]


def said(value: Any) -> bytes:
    """A frame of a WebSocket."""
    return frame(json.dumps(value).encode())


async def publish(place: Place, count: int, size: int) -> None:
    for _ in range(count):
        (await place.api.post("/queues/q/messages", json={"content": "x" * size})).raise_for_status()


async def rest(place: Place) -> Client:
    await publish(place, 2, 500_000)
    return await place.stuck(request("/queues/q/messages", b"", place.login, method="GET"))


async def graphql(place: Place) -> Client:
    await publish(place, 2, 500_000)
    body = json.dumps({"query": GRAPHQL}).encode()
    return await place.stuck(request("/graphql", body, place.login, b"Content-Type: application/json"))


async def websocket(place: Place) -> Client:
    client = await place.stuck(upgrade("/ws", place.login), said({"op": "subscribe", "id": 1, "queue": "q"}))
    await publish(place, 2, 500_000)
    return client


async def graphql_websocket(place: Place) -> Client:
    await publish(place, 2, 500_000)
    opening = upgrade("/graphql", place.login, b"Sec-WebSocket-Protocol: graphql-transport-ws")
    query = {"id": "1", "type": "subscribe", "payload": {"query": GRAPHQL}}
    return await place.stuck(opening, said({"type": "connection_init"}) + said(query))


async def events(place: Place) -> Client:
    client = await place.stuck(request("/queues/q/events", b"", place.login, method="GET"))
    drafts = {"messages": [{"content": 1}] * 200}
    (await place.api.post("/queues/q/messages/batch", json=drafts)).raise_for_status()
    return client


async def dashboard(place: Place) -> Client:
    for number in range(100):
        (await place.api.post("/queues", json={"name": f"{number}-" + "n" * 90})).raise_for_status()
    return await place.stuck(upgrade("/dashboard/ws", place.login), said({"op": "watch", "topics": ["queues"]}))


DOORS = [rest, graphql, websocket, graphql_websocket, events, dashboard]


@pytest.mark.parametrize("door", DOORS)
async def test_who_reads_nothing_is_cut_off_at_every_door_and_counted_and_what_it_held_is_given_back(
    tmp_path: Path, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, unread=0.5) as place:
        await door(place)
        async with asyncio.timeout(PATIENCE_S):
            while not place.backlog.cut_off["stalled"]:
                await asyncio.sleep(0.01)
            while await place.node.broker.processing():
                await asyncio.sleep(0.01)
            while any((await place.api.get("/stats")).json()["connections"].values()):
                await asyncio.sleep(0.01)
        assert place.backlog.cut_off == {"stalled": 1, "slow": 0, "memory": 0}
        assert "is cut off, 127.0.0.1 port " in caplog.text and "it read nothing for 0.5 s" in caplog.text
        metrics = (await place.api.get("/metrics")).text
        assert 'streambroker_slow_clients_cut_off_total{reason="stalled"} 1' in metrics
        assert 'streambroker_slow_clients_cut_off_total{reason="slow"} 0' in metrics


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_not_read_counts_at_every_door_and_whoever_has_most_is_cut_off(
    place: Place, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    await door(place)
    await place.behind()
    waits = place.backlog.most = place.backlog.count()
    assert waits > 0
    await publish(place, 4, 500_000)
    await place.stuck(request("/queues/q/messages", b"", place.login, method="GET"))
    async with asyncio.timeout(PATIENCE_S):
        while "has most of the" not in caplog.text:
            await asyncio.sleep(0.01)
    assert len(place.backlog) == 1  # who had less is not
    assert 0 < place.backlog.count() <= waits
    assert place.backlog.cut_off == {"stalled": 0, "slow": 0, "memory": 1}
