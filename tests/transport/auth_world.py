"""A broker's authentication on a real database in memory and a clock that stands still."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from argon2 import PasswordHasher

from streambroker.core.access import Action, Grant, Principal
from streambroker.core.errors import RateLimited, Unauthenticated
from streambroker.store.sql.connection import migrations
from streambroker.transport.auth.keys import SigningKeys
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.service import AuthService, LoginGuard
from streambroker.transport.auth.tokens import AccessTokens

T = TypeVar("T")
START = 1_800_000_000_000
ACCESS_MS, REFRESH_MS = 900_000, 30 * 86_400_000
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
GRANTS = (Grant("orders.*", (Action.PUBLISH,)),)
PASSWORD = "her secret"
ADDRESS = "192.0.2.1"


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        answer = work(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return answer


def opened(path: str | Path = ":memory:") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    for _, script in migrations():
        connection.executescript(script)
    return connection


@dataclass
class Database:
    """A store that commits when its gate is open."""

    connection: sqlite3.Connection = field(default_factory=opened)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    writes: int = 0

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.writes += 1
        self.news.set()
        await self.gate.wait()
        return transact(self.connection, work)

    async def asked(self, writes: int) -> None:
        """Until so many transactions were asked for, done or not."""
        async with asyncio.timeout(60):
            while self.writes < writes:
                self.news.clear()
                await self.news.wait()

    def count(self, sql: str) -> int:
        number: int = self.connection.execute("SELECT count(*) FROM " + sql).fetchone()[0]
        return number


@dataclass
class Clock:
    ms: int = START

    def __call__(self) -> int:
        return self.ms


@dataclass
class World:
    """A broker's authentication, and what a test turns on it. `changed` is what `on_changed` told."""

    database: Database = field(default_factory=Database)
    clock: Clock = field(default_factory=Clock)
    passwords: Passwords = field(default_factory=lambda: Passwords(hasher=CHEAP))
    changed: list[str] = field(default_factory=list)
    guard: LoginGuard | None = None

    async def begin(self) -> AuthService:
        self.database.gate.set()
        tokens = AccessTokens(SigningKeys(b"k" * 32), lifetime_ms=ACCESS_MS)
        auth = AuthService(
            self.database.run,
            self.passwords,
            tokens,
            refresh_token_ms=REFRESH_MS,
            clock=self.clock,
            guard=self.guard,
        )
        await auth.start()
        auth.on_changed(self.changed.append)
        return auth

    def close(self) -> None:
        self.passwords.close()
        self.database.connection.close()


class Counting(PasswordHasher):
    """Counts what it verifies."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        self.verified += 1
        return super().verify(hash, password)


class Gated(PasswordHasher):
    """Verifies nothing before its gate opens; passwords are hashed all the same."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.gate = threading.Event()
        self.begun = threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        self.begun.set()
        assert self.gate.wait(60)
        return super().verify(hash, password)


class Strict:
    """A guard that admits one failure."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []
        self.successes: list[tuple[str, str]] = []
        self.given_back: list[tuple[str, str]] = []

    def admit(self, username: str, address: str) -> Callable[[], None]:
        if (username, address) in self.failures:
            raise RateLimited("slower", retry_after_ms=1_000)
        return lambda: self.given_back.append((username, address))

    def failed(self, username: str, address: str) -> None:
        self.failures.append((username, address))

    def succeeded(self, username: str, address: str) -> None:
        self.successes.append((username, address))


async def logged_in(auth: AuthService, username: str = "ann", password: str = PASSWORD) -> Principal:
    return auth.authenticate((await auth.login(username, password, ADDRESS)).access_token)


async def refused(auth: AuthService, username: str, password: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await auth.login(username, password, ADDRESS)
    return caught.value.detail


def ended(auth: AuthService, *tokens: str) -> bool:
    """Whether none of the tokens is good; that all are not, or none, is what a test wants to know."""
    good = 0
    for token in tokens:
        try:
            auth.authenticate(token)
        except Unauthenticated:
            continue
        good += 1
    assert good in (0, len(tokens))
    return good == 0
