"""The table ``timeline``: records of what happened to messages, written with the change that they tell of."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from streambroker.core.timeline import MOST_RECORDS, Mark, Record
from streambroker.store.sql.statements import given

# Records are numbered from 1 for each message; the numbers that stand there are asked for all messages at once.
_NUMBERS = "SELECT value, ifnull((SELECT max(number) FROM timeline WHERE message_id = value), 0) FROM json_each(?)"
_KEEP = "INSERT INTO timeline VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET = "DELETE FROM timeline WHERE message_id = ? AND number <= ?"
SELECT = (
    "SELECT at, mark, attempt, consumer, delivered_at, lease_expires_at, error FROM timeline "
    "WHERE message_id = :id ORDER BY number"
)
"""What `record()` takes, of one message, the oldest first."""

_MARKS = tuple(Mark)


def keep(connection: sqlite3.Connection, records: Sequence[tuple[int, Record]]) -> None:
    """Write records, each with the message's id, in their order; of each message no more than `MOST_RECORDS` stay."""
    last: dict[int, int] = dict(connection.execute(_NUMBERS, (given(message_id for message_id, _ in records),)))
    rows, forgotten = [], []
    for message_id, r in records:
        number = last[message_id] = last[message_id] + 1
        rows.append(
            (message_id, number, r.at, int(r.mark), r.attempt, r.consumer, r.delivered_at, r.lease_expires_at, r.error)
        )
        if number > MOST_RECORDS:
            forgotten.append((message_id, number - MOST_RECORDS))
    connection.executemany(_KEEP, rows)
    if forgotten:
        connection.executemany(_FORGET, forgotten)


def record(row: Any) -> Record:
    """A row of `SELECT`."""
    return Record(row[0], _MARKS[row[1]], *row[2:])
