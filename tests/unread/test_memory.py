"""What clients do not read costs the process little, whatever they have asked for."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.unread.clients import http, resident
from tests.unread.conftest import Ask

CONNECTIONS = 64
PAGE = 8_000_000
MOST_GROWTH = 256_000_000
"""64 MiB that may wait, a few answers that are being made, what the allocator keeps; unbounded it were 512 MB."""
GRAPHQL = json.dumps({"query": '{ messages(queue: "large") { items { a: content b: content } } }'}).encode()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/queues/large/messages?limit=100", b""), ("POST", "/graphql", GRAPHQL)],
    ids=["rest", "graphql"],
)
def test_sixty_four_connections_that_read_nothing_of_large_answers_cost_bounded_memory(
    broker: BrokerProcess, api: httpx.Client, ask: Ask, queue: str, method: str, path: str, body: bytes
) -> None:
    assert len(api.request(method, path, content=body, headers={"Content-Type": "application/json"}).content) > PAGE
    before = highest = resident(broker)
    asked = http(broker, method, path, body)
    unread = []
    for _ in range(CONNECTIONS):
        unread.append(ask(asked))
        unread[-1].begun()
        highest = max(highest, resident(broker))
    assert highest - before < MOST_GROWTH
    assert api.get("/healthz").status_code == 200
    assert len(api.request(method, path, content=body, headers={"Content-Type": "application/json"}).content) > PAGE
    read = sum(connection.whole(PAGE) for connection in unread)
    assert 0 < read < CONNECTIONS
