"""What executes GraphQL is loaded when somebody asks for the first time, and then for all who ask meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

PROGRAM = """
import asyncio, json, sys
import httpx
from websockets.asyncio.client import connect
from streambroker import Broker

def loaded():
    return [name in sys.modules for name in ("graphql", "strawberry", "streambroker.transport.openapi")]

async def over_http(api):
    return (await api.post("/graphql", json={"query": "{ __typename }"})).json()

async def over_websocket(url, token):
    async with connect(url, subprotocols=["graphql-transport-ws"]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
        return json.loads(await socket.recv())["type"]

async def main():
    async with Broker(":memory:") as broker:
        async with broker.serve() as server:
            headers = {"Authorization": f"Bearer {server.token}"}
            async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as api:
                assert (await api.post("/queues/a/messages", json={"content": 1})).status_code == 201
                print(loaded())
                socket = over_websocket(f"ws{server.url.removeprefix('http')}/graphql", server.token)
                print(await asyncio.gather(over_http(api), over_http(api), socket))
                print(loaded())
                assert (await api.get("/openapi.json")).status_code == 200
                print(loaded())

asyncio.run(main())
"""


def test_nothing_of_it_is_there_before() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    answer = {"data": {"__typename": "Query"}}
    assert done.stdout.splitlines() == [
        "[False, False, False]",
        f"{[answer, answer, 'connection_ack']}",
        "[True, True, False]",
        "[True, True, True]",
    ], done.stderr
