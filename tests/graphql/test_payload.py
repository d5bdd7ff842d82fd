"""D25 through GraphQL: what was published comes out byte for byte, whichever way it went in and came out."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.graphql.asking import Graph
from tests.wire.doors import JSON, Queue

CONTENTS = [
    "12345678901234567890123",
    "-0",
    "1.0",
    "1e400",
    "0.1000000000000000055511151231257827",
    '{"b":1,"a":2,"b":3}',
    '{ "spaces" : [ 1 ,\t2 ] }',
    '"\\ud800"',
    '"\\u0041\\/"',
    '"é€😀"',
    '"\\u0000"',
    "[" * 300 + "]" * 300,
    "[" * 1024 + "]" * 1024,
    '{"a":' * 1024 + "1" + "}" * 1024,
    "null",
    "true",
    '""',
]


def asking(query: str, queue: Queue, variables: str) -> bytes:
    """A request whose variables are text of the test's own; `$q` is the queue's name."""
    return f'{{"query": {json.dumps(query)}, "variables": {{"q": "{queue.name}", {variables} }} }}'.encode()


def publish_by_variable(graph: Graph, queue: Queue, content: str) -> httpx.Response:
    query = "mutation($q: String!, $c: JSON) { publish(queue: $q, content: $c) { messageId } }"
    return graph.post(asking(query, queue, f'"c": {content}'))


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content[:20])
def test_d25_content_in_a_variable_comes_out_as_it_went_in(content: str, graph: Graph, queue: Queue) -> None:
    made = publish_by_variable(graph, queue, content).json()["data"]["publish"]["messageId"]
    rest = queue.api.get(f"/messages/{made}")
    assert f'"content":{content},' in rest.text
    for query in (
        f'{{ message(messageId: "{made}") {{ content }} }}',
        f'{{ messages(queue: "{queue.name}") {{ items {{ content }} }} }}',
        f'mutation {{ consume(queue: "{queue.name}") {{ content }} }}',
    ):
        assert f'"content":{content}' in graph.post({"query": query}).text
    text = graph.ask("query($m: ID!) { message(messageId: $m) { contentText } }", m=made)["message"]["contentText"]
    assert text == content


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content[:20])
def test_d25_content_in_an_input_object_comes_out_as_it_went_in(content: str, graph: Graph, queue: Queue) -> None:
    query = "mutation($q: String!, $m: [MessageInput!]!) { publishBatch(queue: $q, messages: $m) { messageIds } }"
    answer = graph.post(asking(query, queue, f'"m": [{{"content": {content}}}]'))
    made = answer.json()["data"]["publishBatch"]["messageIds"][0]
    assert f'"content":{content},' in queue.api.get(f"/messages/{made}").text


def test_d25_deeper_than_the_contract_is_invalid(graph: Graph, queue: Queue) -> None:
    (error,) = publish_by_variable(graph, queue, "[" * 1025 + "]" * 1025).json()["errors"]
    assert error["extensions"]["code"] == "invalid"
    assert publish_by_variable(graph, queue, "[" * 100_000 + "]" * 100_000).json()["code"] == "invalid"


def test_numbers_in_the_document_are_kept_as_they_are_written(graph: Graph, queue: Queue) -> None:
    content = "{n: [12345678901234567890123, 1.50, -0]}"
    query = f"mutation($q: String!) {{ publish(queue: $q, content: {content}) {{ messageId }} }}"
    made = graph.ask(query, q=queue.name)["publish"]["messageId"]
    assert '"content":{"n":[12345678901234567890123,1.50,-0]}' in queue.api.get(f"/messages/{made}").text


def test_a_variable_inside_of_a_literal_is_kept_too(graph: Graph, queue: Queue) -> None:
    query = """mutation($q: String!, $c: JSON, $s: String) {
        publish(queue: $q, content: {a: $c, s: [$s]}) { messageId }
    }"""
    answer = graph.post(asking(query, queue, '"c": 1e400, "s": "x"'))
    made = answer.json()["data"]["publish"]["messageId"]
    assert '"content":{"a":1e400,"s":["x"]}' in queue.api.get(f"/messages/{made}").text


def test_null_is_content_and_nothing_is_none(graph: Graph, queue: Queue) -> None:
    graph.ask(f'mutation {{ publish(queue: "{queue.name}", content: null) {{ messageId }} }}')
    assert queue.take()["content"] is None
    error = graph.refusal(f'mutation {{ publish(queue: "{queue.name}") {{ messageId }} }}')
    assert (error["code"], error["errors"][0]["pointer"]) == ("invalid", "/content")


@pytest.mark.parametrize("bad", ['"\\ud800"', '"a\\u0000b"'])
def test_what_may_stand_in_no_key_is_refused(bad: str, graph: Graph, queue: Queue) -> None:
    query = "mutation($q: String!, $k: String) { publish(queue: $q, content: 1, options: {key: $k}) { messageId } }"
    answer = graph.post(asking(query, queue, f'"k": {bad}'))
    document = answer.json()
    code = document["code"] if "code" in document else document["errors"][0]["extensions"]["code"]
    assert code in ("invalid", "malformed")


def test_content_of_the_largest_size_passes_and_one_byte_more_does_not(graph: Graph, queue: Queue) -> None:
    largest = json.dumps("x" * (1024 * 1024 - 2))
    made = publish_by_variable(graph, queue, largest).json()["data"]["publish"]["messageId"]
    assert made
    (error,) = publish_by_variable(graph, queue, json.dumps("x" * (1024 * 1024 - 1))).json()["errors"]
    assert error["extensions"]["code"] == "too_large"
    assert graph.api.post("/graphql", content=b"x" * (2 * 1024 * 1024), headers=JSON).status_code == 413
