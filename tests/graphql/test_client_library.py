"""GraphQL as people use it from Python: the `gql` library, over HTTP and over WebSocket."""

from __future__ import annotations

import asyncio

import pytest
from gql import Client, gql
from gql.transport.exceptions import TransportQueryError, TransportServerError
from gql.transport.httpx import HTTPXAsyncTransport, HTTPXTransport
from gql.transport.websockets import WebsocketsTransport

from tests.harness import BrokerProcess
from tests.wire.doors import Queue

EVENTS = "subscription($q: String!) { events(queue: $q) { event messageId status attempt } }"


def over_http(broker: BrokerProcess, token: str = "") -> HTTPXTransport:
    headers = {"Authorization": f"Bearer {token or broker.token()}"}
    return HTTPXTransport(url=f"{broker.url}/graphql", headers=headers, timeout=30)


def over_websocket(broker: BrokerProcess, token: str = "") -> WebsocketsTransport:
    return WebsocketsTransport(
        url=f"{broker.ws_url}/graphql", init_payload={"Authorization": f"Bearer {token or broker.token()}"}
    )


@pytest.fixture
def sockets(broker: BrokerProcess) -> Client:
    return Client(transport=over_websocket(broker))


def test_it_fetches_the_schema_and_checks_queries_by_it(broker: BrokerProcess) -> None:
    with Client(transport=over_http(broker), fetch_schema_from_transport=True) as session:
        assert session.client.schema is not None
        assert session.execute(gql("{ queues(limit: 1) { nextCursor } }"))["queues"].keys() == {"nextCursor"}
        with pytest.raises(Exception, match="Cannot query field 'nothing'"):
            session.execute(gql("{ nothing }"))


def test_a_message_goes_its_way_over_http(broker: BrokerProcess, queue: Queue) -> None:
    with Client(transport=over_http(broker)) as session:
        publish = gql("mutation($q: String!, $c: JSON) { publish(queue: $q, content: $c) { messageId } }")
        publish.variable_values = {"q": queue.name, "c": {"some": ["json"]}}
        number = session.execute(publish)["publish"]["messageId"]
        consume = gql("mutation($q: String!) { consume(queue: $q, waitMs: 5000) { messageId content lease } }")
        consume.variable_values = {"q": queue.name}
        message = session.execute(consume)["consume"]
        assert (message["messageId"], message["content"]) == (number, {"some": ["json"]})
        ack = gql("mutation($m: ID!, $l: String) { ack(messageId: $m, lease: $l) { status } }")
        ack.variable_values = {"m": number, "l": message["lease"]}
        assert session.execute(ack)["ack"] == {"status": "processed"}


async def test_many_at_a_time_over_http(broker: BrokerProcess, queue: Queue) -> None:
    headers = {"Authorization": f"Bearer {broker.token()}"}
    transport = HTTPXAsyncTransport(url=f"{broker.url}/graphql", headers=headers)
    async with Client(transport=transport) as session:

        async def publish(number: int) -> str:
            query = gql("mutation($q: String!, $c: JSON) { publish(queue: $q, content: $c) { messageId } }")
            query.variable_values = {"q": queue.name, "c": number}
            answer = await session.execute(query)
            return str(answer["publish"]["messageId"])

        made = await asyncio.gather(*(publish(number) for number in range(50)))
    assert len(set(made)) == 50


def test_errors_carry_their_codes(broker: BrokerProcess) -> None:
    with Client(transport=over_http(broker)) as session:
        with pytest.raises(TransportQueryError) as refused:
            session.execute(gql('{ queue(name: "nothing") { name } }'))
        assert refused.value.errors is not None
        assert refused.value.errors[0]["extensions"]["code"] == "not_found"
    with Client(transport=over_http(broker, "wrong")) as session, pytest.raises(TransportServerError) as unknown:
        session.execute(gql("{ __typename }"))
    assert unknown.value.code == 401


async def test_events_over_websocket(sockets: Client, queue: Queue) -> None:
    query = gql(EVENTS)
    query.variable_values = {"q": queue.name}
    async with sockets as session:
        events = session.subscribe(query)
        first = asyncio.ensure_future(anext(events))
        look = gql("{ __typename }")
        assert await session.execute(look) == {"__typename": "Query"}  # said after the subscription, and answered after
        number = await asyncio.to_thread(queue.publish, 1)
        event = (await asyncio.wait_for(first, 40))["events"]
        assert event == {"event": "new_message", "messageId": number, "status": "pending", "attempt": 0}
        await asyncio.to_thread(queue.take)
        await asyncio.to_thread(queue.api.post, f"/messages/{number}/ack")
        assert (await asyncio.wait_for(anext(events), 40))["events"]["event"] == "message_processed"
        await events.aclose()


async def test_queries_and_mutations_over_websocket(sockets: Client, queue: Queue) -> None:
    async with sockets as session:
        publish = gql("mutation($q: String!) { publish(queue: $q, content: 1) { duplicate } }")
        publish.variable_values = {"q": queue.name}
        assert (await session.execute(publish))["publish"] == {"duplicate": False}
        with pytest.raises(TransportQueryError):
            await session.execute(gql('{ queue(name: "nothing") { name } }'))


async def test_a_subscription_to_what_one_may_not_see_is_an_error(sockets: Client) -> None:
    query = gql(EVENTS)
    query.variable_values = {"q": "nothing-of-that-name"}
    async with sockets as session:
        with pytest.raises(TransportQueryError, match="not_found"):
            await anext(session.subscribe(query))
