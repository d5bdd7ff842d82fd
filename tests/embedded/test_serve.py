"""The doors of an embedded broker on a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streambroker import Broker
from streambroker.client.rest import Rest
from streambroker.core.errors import ConfigError


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as opened:
        yield opened


async def status_of(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).status_code


async def test_a_client_over_the_network_and_the_program_see_the_same_queue(broker: Broker) -> None:
    async with broker.serve() as served, Rest(served.url, token=served.token) as client:
        await broker.publish("q", "from inside")
        message = await client.receiving.receive("q")
        assert message is not None and message.content == "from inside"
        await client.messages.ack(message.message_id, message.lease)
        assert (await broker.messages.get(message.message_id)).status == "processed"
        me = await client.users.me()
        assert (me.username, me.role) == (served.username, "admin")


async def test_a_message_can_be_settled_on_the_other_side(broker: Broker) -> None:
    await broker.publish("q", 1)
    message = await broker.receive("q")
    assert message is not None
    async with broker.serve() as served, Rest(served.url, token=served.token) as client:
        await client.messages.ack(message.message_id, message.lease)
    await message.ack()  # again, and the same verdict


async def test_websockets_are_served_and_closed_as_by_a_broker_that_stops(broker: Broker) -> None:
    async with broker.serve() as served:
        headers = {"Authorization": f"Bearer {served.token}"}
        async with connect(f"{served.ws_url}/queues/q/ws", additional_headers=headers) as socket:
            assert '"welcome"' in str(await socket.recv())
            await broker.close()
            with suppress(ConnectionClosed):
                async for _ in socket:
                    pass
            assert socket.close_code == 4503


async def test_nothing_listens_any_more_after_the_block(broker: Broker) -> None:
    async with broker.serve() as served:
        assert await status_of(f"{served.url}/healthz") == 200
    with pytest.raises(httpx.ConnectError):
        await status_of(f"{served.url}/healthz")
    async with broker.serve() as again:
        assert await status_of(f"{again.url}/healthz") == 200


async def test_nobody_gets_in_without_the_token(broker: Broker) -> None:
    async with broker.serve() as served:
        assert await status_of(f"{served.url}/queues") == 401


async def test_it_is_served_on_loopback_only(broker: Broker) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        async with broker.serve(host="0.0.0.0"):
            pass


async def test_the_token_does_not_show_where_the_server_is_printed(broker: Broker) -> None:
    async with broker.serve() as served:
        assert served.token not in repr(served)
