"""What executes GraphQL could not be loaded: the next who asks finds it tried again."""

from __future__ import annotations

import httpx
import pytest

from streambroker import Broker
from streambroker.transport.graphql import served


async def test_what_could_not_be_loaded_is_loaded_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    async with Broker(":memory:") as broker, broker.serve() as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as api:
            with monkeypatch.context() as patched:
                patched.setattr(served, "Served", fail)
                assert (await api.post("/graphql", json={"query": "{ __typename }"})).status_code == 500
            answer = await api.post("/graphql", json={"query": "{ __typename }"})
            assert answer.json() == {"data": {"__typename": "Query"}}
