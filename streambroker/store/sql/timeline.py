"""The table ``timeline``: records of what happened to messages, written with the change that they tell of."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from streambroker.core.timeline import Mark, Record

# Numbered for each message: the table's trigger drops what is older than the newest hundred.
_KEEP = (
    "INSERT INTO timeline VALUES "
    "(?1, (SELECT ifnull(max(number), 0) + 1 FROM timeline WHERE message_id = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
)
SELECT = (
    "SELECT at, mark, attempt, consumer, delivered_at, lease_expires_at, error FROM timeline "
    "WHERE message_id = :id ORDER BY number"
)
"""What `record()` takes, of one message, the oldest first."""

_MARKS = tuple(Mark)


def keep(connection: sqlite3.Connection, records: Sequence[tuple[int, Record]]) -> None:
    """Write records, each with the message's id, in their order."""
    connection.executemany(
        _KEEP,
        [
            (number, r.at, int(r.mark), r.attempt, r.consumer, r.delivered_at, r.lease_expires_at, r.error)
            for number, r in records
        ],
    )


def record(row: Any) -> Record:
    """A row of `SELECT`."""
    return Record(row[0], _MARKS[row[1]], *row[2:])
