"""What is said over HTTP beside the answer: media types, statuses, headers, errors."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.graphql.asking import PATH, RESPONSE, Graph
from tests.wire.doors import Queue

TYPENAME = {"query": "{ __typename }"}


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (RESPONSE, RESPONSE),
        (f"{RESPONSE}, application/json;q=0.9", RESPONSE),
        (f"application/json, {RESPONSE}", RESPONSE),
        (f"application/json, {RESPONSE};q=0.5", "application/json"),
        (f"{RESPONSE};q=0", "application/json"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/plain", "application/json"),
    ],
)
def test_the_media_type_is_the_one_that_is_wanted(accept: str, media: str, graph: Graph) -> None:
    answer = graph.post(TYPENAME, Accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"{media}; charset=utf-8")
    assert answer.json() == {"data": {"__typename": "Query"}}
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "malformed"),
        ("{ nothing }", "invalid"),
        ("query A { __typename } query B { __typename }", "invalid"),
        ('subscription { events(queue: "a") { event } }', "invalid"),
        ("query($n: String!) { queue(name: $n) { name } }", "invalid"),
    ],
)
def test_where_nothing_was_executed_there_is_no_data(query: str, code: str, graph: Graph) -> None:
    for accept, status in ((RESPONSE, 400), ("application/json", 200)):
        answer = graph.post({"query": query}, Accept=accept)
        assert answer.status_code == status
        assert answer.json().keys() == {"errors"}
        assert answer.json()["errors"][0]["extensions"]["code"] == code


def test_an_error_in_a_field_is_an_answer(graph: Graph) -> None:
    answer = graph.post({"query": '{ queue(name: "nothing") { name } }'}, Accept=RESPONSE)
    (error,) = answer.json()["errors"]
    assert (answer.status_code, answer.json()["data"]) == (200, {"queue": None})
    assert error["path"] == ["queue"]
    assert error["extensions"] == {
        "type": "urn:streambroker:problem:not_found",
        "title": "Not Found",
        "status": 404,
        "instance": f"urn:streambroker:request:{answer.headers['x-request-id']}",
        "code": "not_found",
        "retryable": False,
    }


def test_the_operation_is_chosen_by_its_name(graph: Graph) -> None:
    query = "query A { a: __typename } query B { b: __typename }"
    answer = graph.post({"query": query, "operationName": "B"})
    assert answer.json() == {"data": {"b": "Query"}}
    assert "operation" in graph.post({"query": query, "operationName": "C"}).json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b'"text"', 400),
        (b"{}", 400),
        (b'{"query": 1}', 400),
        (b'{"query": "{ __typename }", "variables": "x"}', 400),
        (b'{"query": "{ __typename }", "variables": []}', 400),
        (b'{"query": "{ __typename }", "operationName": {}}', 400),
        (b'{"query": "{ __typename }", "extensions": 1}', 400),
        (b'{"query": "{ __typename }", "more": 1}', 422),
        (b'{"query": "\xff"}', 400),
    ],
)
def test_what_is_no_request_is_a_problem(body: bytes, status: int, graph: Graph) -> None:
    answer = graph.post(body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["code"] == {400: "malformed", 422: "invalid"}[status]


def test_d30_batches_are_not_taken(graph: Graph) -> None:
    answer = graph.post(json.dumps([TYPENAME, TYPENAME]))
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert "batches" in answer.json()["detail"]


def test_d30_nothing_is_executed_by_get(graph: Graph, queue: Queue) -> None:
    mutation = f'mutation {{ publish(queue: "{queue.name}", content: 1) {{ messageId }} }}'
    for query in ("{ __typename }", mutation):
        answer = graph.api.get(PATH, params={"query": query})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        page = graph.api.get(PATH, params={"query": query}, headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
    assert queue.counts()["pending"] == 0


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_other_bodies_than_json_are_not_taken(media: str | None, graph: Graph) -> None:
    headers = {} if media is None else {"Content-Type": media}
    answer = graph.api.post(PATH, content=json.dumps(TYPENAME).encode(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_who_is_nobody_is_told_nothing(broker_url: str) -> None:
    with httpx.Client(base_url=broker_url, trust_env=False) as stranger:
        for request in (TYPENAME, {"query": "{ __schema { description } }"}, {"query": "{"}):
            answer = stranger.post(PATH, json=request)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert stranger.post(PATH, content=b"").status_code == 401


@pytest.fixture
def broker_url(api: httpx.Client) -> str:
    return str(api.base_url)


def test_it_is_there_under_v1_too(graph: Graph) -> None:
    assert graph.api.post("/v1/graphql", json=TYPENAME).json() == {"data": {"__typename": "Query"}}


def test_a_foreign_host_is_refused(graph: Graph) -> None:
    answer = graph.post(TYPENAME, Host="evil.example")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_requests_are_counted(graph: Graph) -> None:
    seen = "{ stats { requestsByRoute } }"
    graph.ask(seen)
    before = graph.ask(seen)["stats"]["requestsByRoute"]["POST /graphql"]
    assert graph.ask(seen)["stats"]["requestsByRoute"]["POST /graphql"] == before + 1


def test_d33_errors_tell_nothing_of_the_inside(graph: Graph) -> None:
    """Whatever a client does wrong, what it is told is about its request."""
    wrong = [
        '{ queue(name: "../x") { name } }',
        '{ queue(name: "a\\u0000b") { name } }',
        '{ messages(queue: "nothing", limit: -1) { nextCursor } }',
        '{ messages(queue: "nothing", cursor: "x") { nextCursor } }',
        '{ message(messageId: "\\u202e") { key } }',
        '{ message(messageId: "7fffffffffffffff") { key } }',
        '{ queues(cursor: "\'; DROP TABLE message; --") { nextCursor } }',
        'mutation { ack(messageId: "0", lease: "") { status } }',
        'mutation { consume(queue: "a", waitMs: -1) { key } }',
        'mutation { consume(queue: "a", leaseMs: 99999999999999) { key } }',
        'mutation { publish(queue: "a", content: 1, options: {availableAt: "soon"}) { messageId } }',
        'mutation { publish(queue: "a", options: {contentBase64: "!"}) { messageId } }',
        'mutation { publish(queue: "a", content: 1, options: {headers: [1]}) { messageId } }',
        'mutation { createQueue(name: "a", config: {backoff: {factor: 1e999}}) { name } }',
        "query($x: Unknown) { __typename }",
        "{ __typename @skip }",
    ]
    for query in wrong:
        text = graph.post({"query": query}).text
        errors = json.loads(text)["errors"]
        assert all(error["extensions"]["code"] != "internal" for error in errors), (query, errors)
        assert not any(word in text for word in ("Traceback", "SELECT", ".py", "sqlite", "msgspec", "strawberry"))


def test_a_request_id_is_given_back_and_stands_in_errors(graph: Graph) -> None:
    answer = graph.post({"query": "{"}, **{"X-Request-ID": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json()["errors"][0]["extensions"]["instance"] == "urn:streambroker:request:mine"


def test_the_trace_of_the_request_is_the_message_s(graph: Graph, queue: Queue) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    query = f'mutation {{ publish(queue: "{queue.name}", content: 1) {{ messageId }} }}'
    graph.post({"query": query}, Traceparent=trace)
    assert queue.take()["traceparent"] == trace


def test_headers_of_the_request_are_not_those_of_its_publishes(graph: Graph, queue: Queue) -> None:
    """One key for two publishes would make the second one a duplicate of the first, or an error."""
    query = """mutation($q: String!) {
        a: publish(queue: $q, content: 1) { messageId } b: publish(queue: $q, content: 2) { messageId }
    }"""
    headers = {"Idempotency-Key": "k", "X-Message-Key": "k", "ce-id": "1", "ce-specversion": "1.0"}
    answer = graph.post({"query": query, "variables": {"q": queue.name}}, **headers)
    assert "errors" not in answer.json()
    assert [message["content"] for message in queue.take_many(5)] == [1, 2]
