"""API keys in SQLite. Keys come in as digests; no secret is stored. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

import enum
import sqlite3
from dataclasses import dataclass, field

import msgspec

from streambroker.core.access import Grant
from streambroker.store.sql.accounts import Run

_grants = msgspec.json.Decoder(tuple[Grant, ...])


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as stored; `digest` is the SHA-256 of its text. Without `grants` it may do what its user may."""

    id: str
    username: str
    name: str
    digest: bytes = field(repr=False)
    grants: tuple[Grant, ...] | None
    created_at: int
    expires_at: int | None


class Added(enum.Enum):
    """What became of a new key."""

    ADDED = "added"
    TOO_MANY = "too many"
    """Its user has as many as one may have. Nothing changed."""
    NO_USER = "no user"
    """Its user is gone. Nothing changed."""


class ApiKeys:
    """The stored API keys. Every method is one transaction, durable when it returns. They go with their user
    (`Accounts.remove`)."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def all(self) -> list[ApiKey]:
        """All keys."""
        return await self._run(_select_keys)

    async def add(self, key: ApiKey, most: int) -> Added:
        """Store a new key, unless its user has `most` already."""
        return await self._run(lambda connection: _insert(connection, key, most))

    async def remove(self, key_id: str) -> None:
        """Delete a key; nothing happens when there is none."""
        await self._run(lambda connection: connection.execute("DELETE FROM api_keys WHERE id = ?", (key_id,)).rowcount)


def _select_keys(connection: sqlite3.Connection) -> list[ApiKey]:
    rows = connection.execute(
        "SELECT id, username, name, digest, grants, created_at, expires_at FROM api_keys ORDER BY id"
    )
    return [
        ApiKey(
            key_id, username, name, digest, None if grants is None else _grants.decode(grants), created_at, expires_at
        )
        for key_id, username, name, digest, grants, created_at, expires_at in rows
    ]


def _insert(connection: sqlite3.Connection, key: ApiKey, most: int) -> Added:
    if connection.execute("SELECT 1 FROM users WHERE username = ?", (key.username,)).fetchone() is None:
        return Added.NO_USER
    (count,) = connection.execute("SELECT count(*) FROM api_keys WHERE username = ?", (key.username,)).fetchone()
    if count >= most:
        return Added.TOO_MANY
    grants = None if key.grants is None else msgspec.json.encode(key.grants).decode()
    connection.execute(
        "INSERT INTO api_keys (id, username, name, digest, grants, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (key.id, key.username, key.name, key.digest, grants, key.created_at, key.expires_at),
    )
    return Added.ADDED
