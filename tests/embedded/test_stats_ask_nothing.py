"""`GET /stats` is answered from what is counted in memory: it asks the database nothing, with many queues neither."""

from __future__ import annotations

import sqlite3
from typing import Any

import httpx
import pytest

from streambroker import Broker

QUEUES = 200
PASSWORD = "only mia knows this one"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that any connection to a database runs from now on."""
    found: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(found.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return found


async def test_the_database_is_asked_nothing(statements: list[str]) -> None:
    async with Broker(":memory:") as broker, broker.serve() as served:
        for number in range(QUEUES):
            await broker.publish(f"stats-{number}", number)
        headers = {"Authorization": f"Bearer {served.token}"}
        async with httpx.AsyncClient(base_url=served.url, headers=headers, trust_env=False) as api:
            grants = [{"queues": "stats-1*", "actions": ["view"]}]
            mia = {"username": "mia", "password": PASSWORD, "role": "member", "grants": grants}
            assert (await api.post("/users", json=mia)).status_code == 201
            pair = (await api.post("/login", json={"username": "mia", "password": PASSWORD})).json()
            assert any("INSERT INTO message" in statement for statement in statements)  # it is seen what is asked
            for token, pending in ((served.token, QUEUES), (pair["access_token"], 111)):
                asked = []
                for _ in range(3):  # what the broker does every few seconds may fall into one of them
                    statements.clear()
                    stats = (await api.get("/stats", headers={"Authorization": f"Bearer {token}"})).json()
                    asked.append(statements.copy())
                    assert stats["pending"] == pending
                assert [] in asked, asked
