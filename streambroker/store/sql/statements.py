"""The SQL of the writer, and rows to messages.

The hot statements do their whole work in one step of the engine: sqlite3 gives up the interpreter's lock once for each
step and has to win it back from a busy event loop, so a hundred small steps would wait a hundred times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streambroker.core.lifecycle import LeaseTerms
from streambroker.core.message import Message, Standing, State, Verdict

_STANDING = (
    "id, queue_id, state, attempt, failures, max_attempts, updated_at, available_at, expires_at, due_at, lease, "
    "holder, verdict, error, dead_letter, delivered_at"
)
_MESSAGE = _STANDING + ', priority, created_at, "key", attributes, content'
CONTENT = "ifnull(message.content, (SELECT body FROM content WHERE content.id = message.id))"
MESSAGE_COLUMNS = _STANDING + f', priority, created_at, "key", attributes, {CONTENT}'
"""What `message()` takes, of the table ``message``."""
_ROW = "(" + ",".join("?" * 21) + ")"
_GIVEN = "(SELECT value FROM json_each(?))"

CHUNKS = (64, 8, 1)
INSERT = {n: f"INSERT INTO message ({_MESSAGE}) VALUES " + ",".join([_ROW] * n) for n in CHUNKS}
INSERT_CONTENT = "INSERT INTO content (id, body) VALUES (?, ?)"
INLINE_BYTES = 2_048
"""Content above this stands in the table ``content``: with it a row would no longer fit into half a page."""

# Most messages of a turn differ in nothing but id and content; what they share is bound once for all rows:
# queue, state, attempt, time, lease, holder, due. Binding twenty values for each row costs as much as storing it.
_SHARED = 7


def _plain_rows(count: int) -> str:
    standing = "?{id}, ?1, ?2, ?3, 0, NULL, ?4, ?4, NULL, ?7, ?5, ?6, 0, NULL, NULL, iif(?2 = 2, ?4, NULL)"
    row = f"({standing}, 0, ?4, NULL, NULL, ?{{content}})"
    firsts = range(_SHARED + 1, _SHARED + 1 + 2 * count, 2)
    return ", ".join(row.format(id=first, content=first + 1) for first in firsts)


INSERT_PLAIN = {n: f"INSERT INTO message ({_MESSAGE}) VALUES {_plain_rows(n)}" for n in CHUNKS}

SELECT_READY = (
    f"SELECT {MESSAGE_COLUMNS} FROM message WHERE queue_id = ? AND state = 0 "
    "AND (expires_at IS NULL OR expires_at > ?) ORDER BY priority DESC, id LIMIT ?"
)
LEASE = (
    "UPDATE message SET state = 2, attempt = attempt + 1, verdict = 0, lease = ?1, holder = ?2, due_at = ?3, "
    f"updated_at = ?4, delivered_at = ?4 WHERE id IN {_GIVEN}"
)
SELECT_STANDING = f"SELECT {_STANDING} FROM message WHERE id IN {_GIVEN}"
ACK = f"UPDATE message SET state = 3, verdict = 1, due_at = ?, updated_at = ? WHERE id IN {_GIVEN}"
# By the tokens in hand: the fast way when nothing went wrong meanwhile, checked by how many rows it changed.
ACK_HELD = ACK + f" AND queue_id = ? AND state = 2 AND verdict = 0 AND lease IN {_GIVEN}"
WRITE = (
    "UPDATE message SET queue_id = ?, state = ?, attempt = ?, failures = ?, max_attempts = ?, updated_at = ?, "
    "available_at = ?, expires_at = ?, due_at = ?, lease = ?, holder = ?, verdict = ?, error = ?, dead_letter = ? "
    "WHERE id = ?"
)
DELETE = f"DELETE FROM message WHERE id IN {_GIVEN}"

SELECT_DUE = f"SELECT {_STANDING} FROM message WHERE due_at <= ? ORDER BY due_at, id LIMIT ?"
NEXT_DUE = "SELECT due_at FROM message WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1"
SELECT_FAILED = f"SELECT {_STANDING} FROM message WHERE queue_id = ? AND state = 4 ORDER BY priority DESC, id LIMIT ?"
SELECT_DEAD = (
    f"SELECT {_STANDING} FROM message WHERE queue_id = ? AND state IN (0, 1, 4) "
    "AND json_extract(dead_letter, '$.queue') = ? ORDER BY state, priority DESC, id LIMIT ?"
)
PURGE = (
    "DELETE FROM message WHERE id IN "
    "(SELECT id FROM message WHERE queue_id = ? AND state = ? ORDER BY priority DESC, id LIMIT ?)"
)
# Lengths are in the rows' headers: no content is read for them.
_ONE_WEIGHT = (
    "ifnull(length(content), ifnull((SELECT length(body) FROM content WHERE content.id = message.id), 0)) "
    "+ ifnull(length(attributes), 0)"
)
_WEIGHT = f"sum({_ONE_WEIGHT})"
# The index leads with the priority: SQLite merges a line of each, and reads no further than it is asked to.
OLDEST, OLDEST_WEIGHED = (
    " UNION ALL ".join(
        f"SELECT id, {size} FROM message WHERE queue_id = ?1 AND state = ?2 AND priority = {priority}"
        for priority in range(10)
    )
    + " ORDER BY 1"
    for size in ("0", _ONE_WEIGHT)
)
STORED = f"SELECT queue_id, {_WEIGHT} FROM message NOT INDEXED GROUP BY queue_id"
STORED_GIVEN = f"SELECT queue_id, {_WEIGHT} FROM message WHERE id IN {_GIVEN} GROUP BY queue_id"
STORED_PURGE = (
    f"SELECT {_WEIGHT} FROM message WHERE id IN "
    "(SELECT id FROM message WHERE queue_id = ? AND state = ? ORDER BY priority DESC, id LIMIT ?)"
)
SWEEP = "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE queue_id = ? LIMIT ?)"

SELECT_DEDUP = (
    'SELECT digest, ids, duplicates FROM dedup WHERE queue_id = ? AND batch = ? AND "key" = ? AND expires_at > ?'
)
INSERT_DEDUP = "INSERT OR REPLACE INTO dedup VALUES (?, ?, ?, ?, ?, ?, ?)"
_DEDUP_KEY = 'queue_id, batch, "key"'
SWEEP_DEDUP = (
    f"DELETE FROM dedup WHERE ({_DEDUP_KEY}) IN (SELECT {_DEDUP_KEY} FROM dedup WHERE expires_at <= ? LIMIT ?)"
)
DROP_DEDUP = f"DELETE FROM dedup WHERE ({_DEDUP_KEY}) IN (SELECT {_DEDUP_KEY} FROM dedup WHERE queue_id = ? LIMIT ?)"

SELECT_QUEUES = "SELECT id, name, config, paused, created_at, owner FROM queue"
INSERT_QUEUE = "INSERT INTO queue (name, config, paused, created_at, owner) VALUES (?, ?, ?, ?, ?)"
UPDATE_QUEUE = "UPDATE queue SET config = ?, paused = ? WHERE id = ?"
DROP_QUEUE = "UPDATE queue SET name = NULL WHERE id = ?"
DELETE_QUEUE = "DELETE FROM queue WHERE id = ?"

COUNT = "SELECT queue_id, state, count(*) FROM message GROUP BY queue_id, state"
NEWEST = "SELECT max(id) FROM message"
# The newest may have been deleted: what it was is kept beside the counters that outlive a restart.
LAST_ID = f"SELECT max(ifnull(({NEWEST}), 0), ifnull((SELECT count FROM totals WHERE name = 'last_id'), 0))"
KEEP_LAST_ID = "INSERT OR REPLACE INTO totals (name, count) VALUES ('last_id', ?)"
SELECT_SESSIONS = f"SELECT {_STANDING} FROM message WHERE state = 2 AND due_at IS NULL AND queue_id = ?"
# After a restart a session's lease has no session: given back, which is no failure.
GIVE_BACK = "UPDATE message SET state = 0, due_at = expires_at WHERE state = 2 AND due_at IS NULL AND queue_id = ?"
# A clock that was set back while the broker was down must not make a lease longer than it was given.
CLAMP = (
    "UPDATE message SET due_at = ? + due_at - updated_at, updated_at = ? "
    "WHERE state = 2 AND updated_at > ? AND queue_id = ?"
)

_STATES = tuple(State)
_VERDICTS = tuple(Verdict)


def given(ids: Iterable[int]) -> str:
    """Ids as the JSON array that ``IN`` takes in one parameter."""
    return str(list(ids))


def standing(row: Any, names: Mapping[int, str]) -> Standing:
    """A row of `_STANDING`; the queue's name is empty where the queue was dropped."""
    return Standing(
        row[0], names.get(row[1], ""), _STATES[row[2]], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10],
        row[11], _VERDICTS[row[12]], row[13], row[14], row[15],
    )  # fmt: skip


def message(row: Any, queue: str) -> Message:
    """A row of `MESSAGE_COLUMNS`."""
    return Message(
        row[0], queue, _STATES[row[2]], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11],
        _VERDICTS[row[12]], row[13], row[14], row[16], row[17], row[18], row[19], row[20], row[15],
    )  # fmt: skip


def leased(row: Any, queue: str, terms: LeaseTerms, now: int) -> Message:
    """A row of `MESSAGE_COLUMNS` that was ready, as `LEASE` makes it."""
    token, holder, until = terms
    return Message(
        row[0], queue, State.LEASED, row[3] + 1, row[4], row[5], now, row[7], row[8], until, token, holder,
        Verdict.NONE, row[13], row[14], row[16], row[17], row[18], row[19], row[20], now,
    )  # fmt: skip
