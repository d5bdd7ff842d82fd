"""Users of the broker: made by the admin, logged in, gone after the test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.wire.doors import JSON, body

SECRET = "a secret of theirs"
_numbers = itertools.count(1)


def grant(queues: str, *actions: str) -> dict[str, Any]:
    return {"queues": queues, "actions": list(actions)}


def post(client: httpx.Client, path: str, value: Any) -> httpx.Response:
    return client.post(path, content=body(value), headers=JSON)


def patch(client: httpx.Client, path: str, value: Any) -> httpx.Response:
    return client.patch(path, content=body(value), headers=JSON)


class Person:
    """One user and a client that is logged in; `pair` are the tokens of its session."""

    def __init__(self, admin: httpx.Client, username: str, **fields: Any) -> None:
        self.admin = admin
        self.name = username
        self.path = f"/users/{username}"
        self.password = fields.get("password", SECRET)
        made = post(admin, "/users", {"username": username, "password": self.password, **fields})
        assert made.status_code == 201, made.text
        self.shown: dict[str, Any] = made.json()
        self.pair = self.log_in()
        self.client = client_of(admin, self.pair["access_token"])

    def log_in(self, password: str = "") -> dict[str, Any]:
        reply = self.try_to_log_in(password)
        assert reply.status_code == 200, reply.text
        pair: dict[str, Any] = reply.json()
        return pair

    def try_to_log_in(self, password: str = "") -> httpx.Response:
        with client_of(self.admin, None) as stranger:
            return post(stranger, "/login", {"username": self.name, "password": password or self.password})

    def refresh(self, pair: dict[str, Any]) -> httpx.Response:
        with client_of(self.admin, None) as stranger:
            return post(stranger, "/refresh", {"refresh_token": pair["refresh_token"]})

    def change(self, **fields: Any) -> httpx.Response:
        return patch(self.admin, self.path, fields)

    def key(self, **fields: Any) -> dict[str, Any]:
        reply = post(self.client, "/api-keys", {"name": "worker", **fields})
        assert reply.status_code == 201, reply.text
        key: dict[str, Any] = reply.json()
        return key


def client_of(like: httpx.Client, token: str | None) -> httpx.Client:
    """A client of the same broker with another token or API key, or none."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=like.base_url, headers=headers, timeout=30, trust_env=False)


@contextmanager
def somebody(admin: httpx.Client, **fields: Any) -> Iterator[Person]:
    """A user of a name of its own, deleted at the end if it is still there."""
    person = Person(admin, f"user-{next(_numbers)}", **fields)
    try:
        yield person
    finally:
        person.client.close()
        admin.delete(person.path)
