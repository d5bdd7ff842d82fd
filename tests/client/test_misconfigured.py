"""A client that was told something wrong hears so at once, at both of the broker's doors, with what helps."""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from streambroker.certificates import Pair, make
from streambroker.client import Client, ConnectionLost, Unauthenticated, Untrusted
from streambroker.client.retrying import NO_RETRY
from streambroker.client.unreachable import unreachable
from tests.client.scripted import Conversation, ScriptedBroker, Waits, client_of, subscribed

Call = Callable[[Client], Awaitable[object]]


async def _publish(client: Client) -> object:
    return await client.publish("q", 1, timeout=None)


async def _consume(client: Client) -> object:
    return await anext(client.consume("q"))


async def _receive(client: Client) -> object:
    return await client.receive("q")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A self-signed certificate for localhost, and its key."""
    return make(tmp_path_factory.mktemp("tls"), [], 1, datetime.datetime.now(datetime.UTC))


def _speaking_tls(pair: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    return context


@asynccontextmanager
async def _silent_server(context: ssl.SSLContext | None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """The port of a server that takes connections, and closes them at the first bytes that it reads."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(close, host, 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("token", [None, "", " \n"])
@pytest.mark.parametrize("call", [_publish, _consume])
async def test_who_gives_no_token_is_told_at_once(waits: Waits, call: Call, token: str | None) -> None:
    async def script(conversation: Conversation) -> None:
        raise AssertionError("nobody is to connect")

    async with ScriptedBroker(script) as broker, client_of(broker, waits, token=token) as client:
        with pytest.raises(Unauthenticated, match="STREAMBROKER_TOKEN"):
            await call(client)
    assert waits.seconds == []


@pytest.mark.parametrize("call", [_publish, _consume, _receive])
async def test_a_certificate_of_an_unknown_authority_is_told_with_the_way_to_trust_it(pair: Pair, call: Call) -> None:
    async with (
        _silent_server(_speaking_tls(pair)) as port,
        Client(f"https://localhost:{port}", token="t", environment={}) as client,
    ):
        with pytest.raises(Untrusted, match=r"self-signed certificate; .*verify=.*SSL_CERT_FILE") as told:
            await call(client)
    assert not told.value.outcome_unknown and not told.value.retryable


@pytest.mark.parametrize("call", [_publish, _consume, _receive])
async def test_a_certificate_of_another_name_is_told(pair: Pair, call: Call) -> None:
    trust = ssl.create_default_context(cafile=str(pair.cert_file))
    async with _silent_server(_speaking_tls(pair), "127.0.0.2") as port:
        url = f"https://127.0.0.2:{port}"
        async with Client(url, token="t", verify=trust, environment={}) as client:
            with pytest.raises(Untrusted, match="mismatch, certificate is not valid for"):
                await call(client)


@pytest.mark.parametrize(
    ("scheme", "why", "advice"),
    [
        ("https", "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "its URL begins with http:"),
        ("wss", "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "its URL begins with http:"),
        ("ws", "did not receive a valid HTTP response", "its URL begins with https:"),
    ],
)
def test_tls_on_one_side_only_is_told_with_the_url_that_it_takes(scheme: str, why: str, advice: str) -> None:
    lost = unreachable(scheme, "broker:1", why)
    assert why in lost.detail and lost.detail.endswith(advice) and not lost.outcome_unknown


async def test_http_to_a_broker_that_speaks_tls_is_told_with_the_url_that_it_takes(pair: Pair) -> None:
    async with (
        _silent_server(_speaking_tls(pair)) as port,
        Client(f"http://localhost:{port}", token="t", environment={}, retry=NO_RETRY) as client,
    ):
        with pytest.raises(ConnectionLost, match="if the broker speaks TLS, its URL begins with https:"):
            await client.queues.get("q")


async def test_a_broker_that_stays_away_is_logged_once_as_a_warning(
    waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number < 8:
            conversation.cut()
        else:
            await subscribed(conversation, "m1")
            await conversation.ended()

    caplog.set_level(logging.INFO, logger="streambroker.client")
    async with ScriptedBroker(script) as broker, client_of(broker, waits) as client:
        await anext(client.consume("q"))
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().partition(" (")[0] for record in warnings] == ["no connection to the broker"]
