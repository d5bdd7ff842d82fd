"""Counters that outlive a restart, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from streambroker.store.sql.accounts import Run


class Totals:
    """The stored counters, by name. Every method is one transaction, durable when it returns."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def load(self) -> dict[str, int]:
        """All of them."""
        return await self._run(_load)

    async def save(self, counts: Mapping[str, int]) -> None:
        """These are the counts now; others stay as they are."""
        await self._run(lambda connection: _save(connection, counts))


def _load(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT name, count FROM totals").fetchall())


def _save(connection: sqlite3.Connection, counts: Mapping[str, int]) -> None:
    connection.executemany("INSERT OR REPLACE INTO totals (name, count) VALUES (?, ?)", list(counts.items()))
