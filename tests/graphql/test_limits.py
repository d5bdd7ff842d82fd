"""D30 on the wire: what is too much is refused, and what a request costs is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.graphql.asking import Graph
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue, fresh_name
from tests.wire.people import grant, somebody

PUBLISH = "mutation($q: String!) { publish(queue: $q, content: 1) { messageId } }"


@pytest.mark.parametrize(
    "query",
    [
        "{" + "a{" * 19 + "b" + "}" * 20,
        "{" + " ".join(f"a{n}: __typename" for n in range(100)) + "}",
        "{" + "__typename " * 5_000 + "}",
        "{ ...F0 }" + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(80)),
    ],
    ids=["depth", "aliases", "tokens", "fragments"],
)
def test_d30_a_document_that_is_too_much_is_refused(query: str, graph: Graph) -> None:
    document = graph.reply(query)
    assert document.keys() == {"errors"}
    assert document["errors"][0]["extensions"]["code"] in ("invalid", "malformed")


def test_introspection_is_for_admins(graph: Graph, api: httpx.Client) -> None:
    query = '{ __schema { queryType { name } } __type(name: "QueueGQL") { name } }'
    assert graph.ask(query) == {"__schema": {"queryType": {"name": "Query"}}, "__type": {"name": "QueueGQL"}}
    with somebody(api, role="member", grants=[grant("*", "view")]) as member:
        errors = Graph(member.client).reply(query)["errors"]
        assert {error["message"] for error in errors} == {"introspection is for admins only on this broker"}
        assert Graph(member.client).ask("{ __typename }") == {"__typename": "Query"}


def test_an_answer_has_its_bounds(graph: Graph, queue: Queue) -> None:
    """Seven names for a megabyte, eight times over, would be an answer of 56 MiB."""
    queue.publish_many(*("x" * 1_000_000 for _ in range(8)))
    names = " ".join(f"n{n}: content" for n in range(7))
    document = graph.reply(f'{{ messages(queue: "{queue.name}") {{ items {{ messageId {names} }} }} }}')
    assert {error["extensions"]["code"] for error in document["errors"]} == {"too_large"}
    seen = graph.ask(f'{{ messages(queue: "{queue.name}") {{ items {{ content }} }} }}')
    assert len(seen["messages"]["items"]) >= 7


def test_bytes_have_the_same_bounds_as_json(graph: Graph, queue: Queue) -> None:
    for number in range(8):
        body = bytes([number]) * 700_000
        headers = {"Content-Type": "application/octet-stream"}
        assert queue.api.post(f"/queues/{queue.name}/messages", content=body, headers=headers).status_code == 201
    names = " ".join(f"n{n}: contentBase64" for n in range(15))
    document = graph.reply(f'{{ messages(queue: "{queue.name}") {{ items {{ {names} }} }} }}')
    assert {error["extensions"]["code"] for error in document["errors"]} == {"too_large"}
    seen = graph.ask(f'{{ messages(queue: "{queue.name}") {{ items {{ contentBase64 }} }} }}')
    assert len(seen["messages"]["items"]) >= 7


def codes(document: dict[str, Any]) -> set[str]:
    return {error["extensions"]["code"] for error in document.get("errors", ())}


def test_a_large_answer_that_is_read_comes_whole_and_is_held_no_more(graph: Graph, queue: Queue) -> None:
    queue.publish_many(*("x" * 1_000_000 for _ in range(8)))
    for _ in range(4):
        seen = graph.ask(f'{{ messages(queue: "{queue.name}") {{ items {{ a: content b: content c: content }} }} }}')
        assert {len(item[name]) for item in seen["messages"]["items"] for name in "abc"} == {1_000_000}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker where ten ordinary requests an hour are enough, and five messages."""
    limits = {"STREAMBROKER_RATE_LIMIT_DEFAULT": "10/hour", "STREAMBROKER_RATE_LIMIT_MESSAGES": "5/hour"}
    env = {**NO_LIMITS, **limits}
    with BrokerProcess(tmp_path_factory.mktemp("strict") / "data", env=env) as running:
        yield running


@pytest.fixture
def limited(strict: BrokerProcess) -> Iterator[Graph]:
    """Somebody new, whose window is whole; the admin makes it on the command's own account."""
    with BrokerKeys(strict) as graph:
        yield graph


class BrokerKeys:
    """A new user on a strict broker. The admin that makes them would run into the limit itself after a few."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker

    def __enter__(self) -> Graph:
        name = fresh_name("limited")
        made = {"username": name, "password": "a secret of theirs", "role": "member"}
        grants = [grant("*", "publish", "consume", "view", "manage")]
        with self._broker.client() as admin:
            assert admin.post("/users", json={**made, "grants": grants}).status_code == 201
        token = self._broker.token(name, "a secret of theirs")
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=self._broker.url, headers=headers, trust_env=False, timeout=30)
        return Graph(self._client)

    def __exit__(self, *_: object) -> None:
        self._client.close()


def left(answer: httpx.Response) -> int:
    return int(answer.headers["ratelimit"].split("r=")[1].split(";")[0])


def test_every_field_counts_as_its_call_of_rest(limited: Graph) -> None:
    first = limited.post({"query": "{ stats { pending } queues { nextCursor } }"})
    assert left(first) == 7  # a document that is new, and two fields
    again = limited.post({"query": "{ stats { pending } queues { nextCursor } }"})
    assert left(again) == 5  # the same document: two fields
    published = limited.post({"query": PUBLISH, "variables": {"q": "a"}})
    assert ("messages" in published.headers["ratelimit"], left(published)) == (True, 4)


def test_aliases_do_not_get_around_the_limit(limited: Graph) -> None:
    names = " ".join(f"p{n}: publish(queue: $q, content: {n}) {{ messageId }}" for n in range(6))
    answer = limited.post({"query": f"mutation($q: String!) {{ {names} }}", "variables": {"q": "all-or-none"}})
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) >= 1
    with httpx.Client(base_url=limited.api.base_url, headers=limited.api.headers, trust_env=False) as rest:
        assert rest.get("/queues/all-or-none").status_code == 404  # and nothing of it was done


def test_documents_that_cannot_be_executed_count_too(limited: Graph) -> None:
    statuses = [limited.post({"query": "{"}).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]


def test_known_documents_cost_messages_only(limited: Graph) -> None:
    """A publisher that sends one document again and again has the limit of publishers, not that of people."""
    statuses = [limited.post({"query": PUBLISH, "variables": {"q": "b"}}).status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]


WITHOUT_THE_EXTRA = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name in ("graphql", "strawberry") else found(name, *more)
"""


def test_without_the_setting_it_says_so_and_nothing_else_changes(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", env={"STREAMBROKER_GRAPHQL": "off"}) as running, running.client() as api:
        assert_absent(api, "graphql=on")


def test_without_the_extra_it_says_what_to_install_and_nothing_else_changes(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "sitecustomize.py").write_text(WITHOUT_THE_EXTRA)
    with BrokerProcess(tmp_path / "data", env={"PYTHONPATH": str(away)}) as running, running.client() as api:
        assert_absent(api, "streambroker[graphql]")


def assert_absent(api: httpx.Client, what_to_do: str) -> None:
    for answer in (api.post("/graphql", json={"query": "{ __typename }"}), api.get("/graphql")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert what_to_do in answer.json()["detail"]
    with httpx.Client(base_url=api.base_url, trust_env=False) as stranger:
        assert stranger.post("/graphql", json={}).status_code == 401
    assert "/graphql" not in api.get("/openapi.json").json()["paths"]
    assert api.post("/queues", json={"name": "still"}).status_code == 201
