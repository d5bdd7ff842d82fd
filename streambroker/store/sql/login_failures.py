"""Failed logins in SQLite, so that a restart does not forgive them. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from streambroker.store.sql.accounts import Run


@dataclass(frozen=True, slots=True)
class Failures:
    """What one subject has failed at lately.

    `failures` are those since `since`. From `level` 1 on there is a delay after each, which ends at `barred_until`.
    """

    subject: bytes
    failures: int
    since: int
    level: int
    barred_until: int
    failed_at: int


class LoginFailures:
    """The stored failures. Every method is one transaction, durable when it returns."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def load(self, since: int) -> list[Failures]:
        """Those that failed after `since`, the oldest first; all others are deleted."""
        return await self._run(lambda connection: _load(connection, since))

    async def clear(self) -> None:
        """Forget all of them."""
        await self._run(lambda connection: connection.execute("DELETE FROM login_failures").rowcount)

    async def save(self, changed: Sequence[Failures], gone: Sequence[bytes]) -> None:
        """Store some and delete others."""
        await self._run(lambda connection: _save(connection, changed, gone))


def _load(connection: sqlite3.Connection, since: int) -> list[Failures]:
    connection.execute("DELETE FROM login_failures WHERE failed_at <= ?", (since,))
    rows = connection.execute(
        "SELECT subject, failures, since, level, barred_until, failed_at FROM login_failures ORDER BY failed_at"
    )
    return [Failures(*row) for row in rows]


def _save(connection: sqlite3.Connection, changed: Sequence[Failures], gone: Sequence[bytes]) -> None:
    connection.executemany("DELETE FROM login_failures WHERE subject = ?", [(subject,) for subject in gone])
    connection.executemany(
        "INSERT OR REPLACE INTO login_failures (subject, failures, since, level, barred_until, failed_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [astuple(one) for one in changed],
    )
