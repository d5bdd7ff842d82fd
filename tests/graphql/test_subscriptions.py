"""graphql-transport-ws, message by message: the protocol, D30's limits of it, and what ends a subscription."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.graphql.conftest import Call, Member
from tests.graphql.talking import Talk, talk
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue, eventually, fresh_name
from tests.wire.people import SECRET, client_of, grant

EVENTS = "subscription($q: String!) { events(queue: $q) { event messageId queue status attempt at dropped } }"


def watch(connection: Talk, queue: Queue, number: str = "1", query: str = EVENTS) -> None:
    """The queue is watched when this returns.

    A document that the broker has not seen is read in a thread, and what is said later overtakes it: so it has read
    this one before, in vain, for a queue that there cannot be.
    """
    connection.subscribe(f"{number}-in-vain", query, q="-")
    connection.hear("error")
    connection.subscribe(number, query, q=queue.name)
    connection.settled()


def next_event(connection: Talk) -> dict[str, Any]:
    event: dict[str, Any] = connection.hear("next")["payload"]["data"]["events"]
    return event


# -- the way in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocols", [(), ("graphql-ws",), ("streambroker.v1+json",), ("graphql-ws", "bearer.x")])
def test_d30_other_subprotocols_are_refused(protocols: tuple[str, ...], broker: BrokerProcess) -> None:
    headers = {"Authorization": f"Bearer {broker.token()}"}
    with pytest.raises(InvalidStatus) as refused, talk(broker.ws_url, protocols, additional_headers=headers):
        pass
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("way", ["header", "subprotocol", "token", "Authorization"])
def test_every_way_to_say_who_one_is(way: str, broker: BrokerProcess, call: Call) -> None:
    token = broker.token()
    options: dict[str, Any] = {}
    payload: dict[str, str] = {}
    match way:
        case "header":
            options["additional_headers"] = {"Authorization": f"Bearer {token}"}
        case "subprotocol":
            options["protocols"] = ("graphql-transport-ws", f"bearer.{token}")
        case "token":
            payload = {"token": token}
        case _:
            payload = {"Authorization": f"Bearer {token}"}
    connection = call(begin=False, **options)
    connection.say("connection_init", payload=payload)
    connection.hear("connection_ack")
    connection.subscribe("1", "{ __typename }")
    assert connection.hear("next", "1")["payload"] == {"data": {"__typename": "Query"}}
    connection.hear("complete", "1")


@pytest.mark.parametrize("payload", [None, {}, {"token": "wrong"}, {"token": 1}, {"Authorization": "Basic x"}])
def test_nobody_is_not_let_in(payload: Any, call: Call) -> None:
    connection = call(begin=False)
    connection.say("connection_init", payload=payload)
    assert connection.closed() == 4401


def test_a_bad_token_in_the_upgrade_is_refused_there(broker: BrokerProcess) -> None:
    headers = {"Authorization": "Bearer wrong"}
    with pytest.raises(InvalidStatus) as refused, talk(broker.ws_url, additional_headers=headers):
        pass
    assert refused.value.response.status_code == 401


def test_a_page_of_another_site_is_refused(broker: BrokerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused, talk(broker.ws_url, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403


def test_d30_who_says_nothing_is_closed_after_five_seconds(call: Call) -> None:
    began = time.monotonic()
    connection = call(begin=False)
    connection.say("ping")
    connection.hear("pong")
    assert connection.closed() == 4408
    assert time.monotonic() - began > 4.9


def test_d30_nothing_can_be_asked_before_the_beginning(call: Call) -> None:
    connection = call(begin=False)
    connection.subscribe("1", "{ __typename }")
    assert connection.closed() == 4401


def test_it_begins_once(broker: BrokerProcess, call: Call) -> None:
    connection = call()
    connection.say("connection_init", payload={"token": broker.token()})
    assert connection.closed() == 4429


@pytest.mark.parametrize(
    "message",
    [
        "x",
        "[]",
        "{}",
        '{"type":"start","id":"1"}',
        '{"type":1}',
        '{"type":"subscribe","payload":{"query":"{a}"}}',
        '{"type":"subscribe","id":5,"payload":{"query":"{a}"}}',
        '{"type":"subscribe","id":"","payload":{"query":"{a}"}}',
        '{"type":"ping","id":"' + "x" * 200 + '"}',
        "\x00",
    ],
)
def test_what_is_no_message_of_the_protocol_closes_it(message: str, call: Call) -> None:
    connection = call()
    connection.connection.send(message)
    assert connection.closed() == 4400


def test_pings_are_answered_with_what_they_hold(call: Call) -> None:
    connection = call()
    connection.connection.send('{"type":"ping","payload":{"n":12345678901234567890123}}')
    assert connection.raw() == '{"type":"pong","payload":{"n":12345678901234567890123}}'
    connection.say("pong")
    connection.settled()


# -- operations --------------------------------------------------------------------------------------------------------


def test_queries_and_mutations_are_answered_once(call: Call, queue: Queue) -> None:
    connection = call()
    content = "[1e400, -0]"
    query = json.dumps("mutation($q: String!, $c: JSON) { publish(queue: $q, content: $c) { messageId } }")
    variables = f'{{"q": "{queue.name}", "c": {content}}}'
    connection.connection.send(
        f'{{"type": "subscribe", "id": "p", "payload": {{"query": {query}, "variables": {variables}}}}}'
    )
    connection.hear("next", "p")
    connection.hear("complete", "p")
    connection.subscribe("c", "mutation($q: String!) { consume(queue: $q) { content } }", q=queue.name)
    assert f'"content":{content}' in connection.raw()
    connection.hear("complete", "c")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"query": "{"}, "malformed"),
        ({"query": "{ nothing }"}, "invalid"),
        ({"query": 1}, "malformed"),
        ({}, "malformed"),
        ([], "malformed"),
        ({"query": "query($n: String!) { queue(name: $n) { name } }"}, "invalid"),
        ({"query": 'subscription { events(queue: "nothing-there") { event } }'}, "not_found"),
        ({"query": 'subscription { events(queue: "../x") { event } }'}, "invalid"),
    ],
)
def test_an_operation_that_cannot_begin_is_an_error_and_the_connection_goes_on(
    payload: Any, code: str, call: Call
) -> None:
    connection = call()
    connection.say("subscribe", id="1", payload=payload)
    (error,) = connection.hear("error", "1")["payload"]
    assert error["extensions"]["code"] == code
    connection.settled()
    connection.subscribe("1", "{ __typename }")
    connection.hear("next", "1")


def test_an_id_stands_for_one_operation_at_a_time(call: Call, queue: Queue) -> None:
    connection = call()
    watch(connection, queue)
    connection.subscribe("1", EVENTS, q=queue.name)
    assert connection.closed() == 4409


def test_an_id_can_be_used_again_once_it_is_complete(call: Call, queue: Queue) -> None:
    connection = call()
    for _ in range(3):
        watch(connection, queue)
        connection.say("complete", id="1")
    watch(connection, queue)
    number = queue.publish(1)
    assert next_event(connection)["messageId"] == number


def test_d30_so_many_subscriptions_and_no_more(call: Call, queue: Queue) -> None:
    connection = call()
    for number in range(10):
        watch(connection, queue, str(number))
    connection.subscribe("10", EVENTS, q=queue.name)
    (error,) = connection.hear("error", "10")["payload"]
    assert error["extensions"]["code"] == "rate_limited"
    connection.say("complete", id="0")
    watch(connection, queue, "10")
    queue.publish(1)
    assert {connection.hear("next")["id"] for _ in range(10)} == {str(number) for number in range(1, 11)}


def test_a_consume_that_waits_is_given_up_when_it_is_completed(call: Call, queue: Queue) -> None:
    connection = call()
    connection.subscribe("1", "mutation($q: String!) { consume(queue: $q, waitMs: 60000) { content } }", q=queue.name)
    queue.await_consumers(1)
    connection.say("complete", id="1")
    queue.await_consumers(0)
    number = queue.publish(1)
    assert queue.take()["message_id"] == number


@pytest.mark.parametrize("leaving", ["a close", "a cut"])
def test_who_leaves_while_waiting_takes_no_message_with_it(leaving: str, call: Call, queue: Queue) -> None:
    connection = call()
    connection.subscribe("1", "mutation($q: String!) { consume(queue: $q, waitMs: 60000) { content } }", q=queue.name)
    queue.await_consumers(1)
    if leaving == "a close":
        connection.connection.close()
    else:
        connection.connection.socket.close()
    queue.await_consumers(0)
    number = queue.publish(1)
    assert queue.take()["attempt"] == 1
    assert number


# -- events ------------------------------------------------------------------------------------------------------------


def test_what_happens_in_a_queue_is_told_in_its_order(call: Call, queue: Queue) -> None:
    connection = call()
    watch(connection, queue)
    number = queue.publish(1)
    told = next_event(connection)
    assert told["at"].endswith("Z")
    base = {"messageId": number, "queue": queue.name, "at": told["at"], "dropped": 0}
    assert told == {**base, "event": "new_message", "status": "pending", "attempt": 0}
    lease = queue.take()["lease"]
    queue.api.post(f"/messages/{number}/nack", json={"lease": lease, "requeue": True, "delay_ms": 0})
    assert [next_event(connection)[name] for name in ("event",)] == ["message_requeued"]
    lease = queue.take()["lease"]
    queue.api.post(f"/messages/{number}/ack", json={"lease": lease})
    event = next_event(connection)
    assert (event["event"], event["status"], event["attempt"]) == ("message_processed", "processed", 2)
    other = queue.publish(2)
    assert next_event(connection)["messageId"] == other
    queue.api.post(f"/messages/{other}/nack", json={"lease": queue.take()["lease"]})
    assert next_event(connection)["event"] == "message_failed"


def test_only_what_is_asked_for_is_told(call: Call, queue: Queue) -> None:
    connection = call()
    watch(connection, queue, query="subscription($q: String!) { e: events(queue: $q) { status } }")
    queue.publish(1)
    assert connection.hear("next")["payload"] == {"data": {"e": {"status": "pending"}}}


def test_subscribers_do_not_hear_of_other_queues(call: Call, queue: Queue, api: httpx.Client) -> None:
    connection = call()
    watch(connection, queue)
    Queue(api).publish(1)
    number = queue.publish(1)
    assert next_event(connection)["messageId"] == number


def test_a_subscriber_that_reads_slowly_is_told_how_much_was_left_out(broker: BrokerProcess, queue: Queue) -> None:
    """Frames of 30 KB soon fill what the transport holds; what the subscription does not hold either is counted."""
    names = " ".join(f"{letter * 2_000}: event" for letter in "abcdefghijklmno")
    query = f"subscription($q: String!) {{ events(queue: $q) {{ messageId dropped {names} }} }}"
    with talk(broker.ws_url, max_queue=1, compression=None) as connection:
        connection.begin(broker.token())
        watch(connection, queue, query=query)
        published = [number for _ in range(5) for number in queue.publish_many(*range(1_000))]
        place = -1
        dropped = 0
        while not dropped:
            published.append(queue.publish("there is something to say again"))
            for _ in range(50):
                event = next_event(connection)
                place, dropped = place + 1 + event["dropped"], event["dropped"]
                assert event["messageId"] == published[place]
                if dropped:
                    break
        assert dropped > 1_000


# -- what ends it ------------------------------------------------------------------------------------------------------


def test_rights_that_are_taken_away_end_their_subscriptions_only(call: Call, member: Member, api: httpx.Client) -> None:
    one, other = (Queue(api, fresh_name(stem), lease_ms=1_000) for stem in ("mine", "theirs"))
    person = member(grant("mine*", "view"), grant("theirs*", "view"))
    connection = call(person.pair["access_token"])
    watch(connection, one, "one")
    watch(connection, other, "other")
    assert person.change(grants=[grant("theirs*", "view")]).status_code == 200
    (error,) = connection.hear("error", "one")["payload"]
    assert error["extensions"]["code"] == "not_found"
    number = other.publish(1)
    assert next_event(connection)["messageId"] == number
    assert person.change(grants=[grant("theirs*", "publish")]).status_code == 200
    (error,) = connection.hear("error", "other")["payload"]
    assert error["extensions"]["code"] == "forbidden"


Ending = Callable[[Any, httpx.Client], Any]
ENDINGS: dict[str, Ending] = {
    "logout": lambda person, _: person.client.post("/logout"),
    "disabled": lambda person, _: person.change(disabled=True),
    "deleted": lambda person, admin: admin.delete(person.path),
    "password": lambda person, _: person.client.post(
        "/users/me/password", json={"current_password": SECRET, "new_password": "another secret"}
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_session_that_ends_closes_the_connection(ending: str, call: Call, member: Member, api: httpx.Client) -> None:
    queue = Queue(api, lease_ms=1_000)
    person = member(grant("*", "view"))
    connection = call(person.pair["access_token"])
    watch(connection, queue)
    assert ENDINGS[ending](person, api).is_success
    began = time.monotonic()
    assert connection.closed() == 4401
    assert time.monotonic() - began < 5


def test_an_api_key_that_is_deleted_closes_the_connection(call: Call, member: Member, api: httpx.Client) -> None:
    person = member(grant("*", "view"))
    key = person.key()
    connection = call(key["key"])
    with client_of(api, person.pair["access_token"]) as client:
        assert client.delete(f"/api-keys/{key['id']}").is_success
    assert connection.closed() == 4401


def test_a_token_that_expires_closes_the_connection(tmp_path: Path) -> None:
    env = {**NO_LIMITS, "STREAMBROKER_ACCESS_TOKEN_MS": "4000"}
    with BrokerProcess(tmp_path / "data", env=env) as broker, talk(broker.ws_url) as connection:
        connection.begin(broker.token())
        assert connection.closed() == 4450


def test_connections_are_counted_as_a_kind_of_their_own_while_they_are_open(call: Call, api: httpx.Client) -> None:
    def counted(number: int) -> bool:
        line = f'streambroker_connections{{kind="graphql"}} {number}\n'
        return api.get("/stats").json()["connections"]["graphql"] == number and line in api.get("/metrics").text

    assert eventually(lambda: counted(0))  # those of other tests have ended
    connection = call()
    assert eventually(lambda: counted(1))
    connection.connection.close()
    assert eventually(lambda: counted(0))


def test_a_user_has_so_many_connections_and_no_more(tmp_path: Path) -> None:
    env = {**NO_LIMITS, "STREAMBROKER_MAX_CONNECTIONS_PER_USER": "1"}
    with BrokerProcess(tmp_path / "data", env=env) as broker, broker.client() as admin:
        made = {"username": "one", "password": SECRET, "role": "member", "grants": []}
        assert admin.post("/users", json=made).status_code == 201
        token = broker.token("one", SECRET)
        with talk(broker.ws_url) as first, talk(broker.ws_url) as second:
            first.begin(token)
            second.say("connection_init", payload={"token": token})
            assert second.closed() == 4429


def test_the_broker_s_stop_closes_it_and_loses_nothing(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", env={**NO_LIMITS, "STREAMBROKER_DRAIN_TIMEOUT_MS": "0"})
    with broker, broker.client() as admin, talk(broker.ws_url) as connection:
        queue = Queue(admin)
        connection.begin(broker.token())
        connection.subscribe(
            "1", "mutation($q: String!) { consume(queue: $q, waitMs: 60000) { content } }", q=queue.name
        )
        queue.await_consumers(1)
        broker.process.send_signal(15)  # type: ignore[union-attr]
        assert connection.hear("next", "1")["payload"] == {"data": {"consume": None}}
        assert connection.closed() == 4503
        assert broker.process.wait(60) == 0  # type: ignore[union-attr]


def test_who_hangs_up_over_http_takes_no_message_with_it(
    queue: Queue, broker: BrokerProcess, api: httpx.Client
) -> None:
    query = "mutation($q: String!) { consume(queue: $q, waitMs: 60000) { content } }"
    with pytest.raises(httpx.ReadTimeout):
        api.post("/graphql", json={"query": query, "variables": {"q": queue.name}}, timeout=1)
    queue.await_consumers(0)
    queue.publish(1)
    assert queue.take()["attempt"] == 1


def test_a_reason_that_holds_the_client_s_words_fits_into_the_close_frame(call: Call, queue: Queue) -> None:
    connection = call()
    for _ in range(2):
        connection.subscribe("🐇" * 60, "subscription($q: String!) { events(queue: $q) { event } }", q=queue.name)
    assert connection.closed() == 4409
