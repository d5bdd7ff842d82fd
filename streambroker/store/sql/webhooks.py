"""Webhooks and their log in SQLite. Times are milliseconds since 1970 UTC, durations milliseconds.

A webhook goes with its queue, and is disabled for good with the user or the API key that it acts for: triggers of the
schema see to both, in the transaction that drops or deletes.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Literal

import msgspec

from streambroker.store.sql.accounts import Run

KEPT = 100
"""How many deliveries of a webhook are remembered."""

Headers = tuple[tuple[str, str], ...]
Kind = Literal["message", "redelivery", "test"]
_headers = msgspec.json.Decoder(Headers)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook as stored.

    `username`, and `key_id` where an API key made it, are whose rights it has; `orphaned` says that they are gone and
    that whoever has the name by now is somebody else. `previous_secret` signs too until `previous_until`. `reason` is
    why it is disabled.
    """

    id: str
    queue: str
    username: str
    key_id: str | None
    url: str
    headers: Headers = field(repr=False)
    secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    previous_until: int | None
    description: str | None
    concurrency: int
    timeout_ms: int
    disable_after_ms: int
    disabled: bool
    orphaned: bool
    reason: str | None
    failing_since: int | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to a webhook and what came of it. Without a status code no answer came, and `error` says why."""

    webhook_id: str
    id: str
    kind: Kind
    at: int
    message_id: int | None
    attempt: int | None
    outcome: str
    status_code: int | None
    latency_ms: int
    error: str | None
    response: str | None


@dataclass(frozen=True, slots=True)
class Recent:
    """How a webhook did of late: its newest request, and how many in a row failed, as far as the log goes back."""

    newest: Delivery | None
    failures: int


class Refused(enum.Enum):
    """Why a webhook was not stored or changed. Nothing changed."""

    TOO_MANY = "too many"
    """Whom it acts for has as many as one may have."""
    NO_QUEUE = "no queue"
    NO_WEBHOOK = "no webhook"


_COLUMNS = tuple(column.name for column in fields(Webhook))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM webhooks"
_INSERT = f"INSERT INTO webhooks ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_UPDATE = f"UPDATE webhooks SET {', '.join(f'{name} = ?' for name in _COLUMNS[1:])} WHERE id = ?"
_LOGGED = tuple(column.name for column in fields(Delivery))
_SELECT_LOGGED = f"SELECT {', '.join(_LOGGED)} FROM webhook_deliveries WHERE webhook_id = ?"
_FAILURES = (
    "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = ?1 AND id > coalesce((SELECT max(id)"
    " FROM webhook_deliveries WHERE webhook_id = ?1 AND outcome = 'delivered'), '')"
)
# Of a webhook that was deleted meanwhile nothing is kept.
_INSERT_LOGGED = (
    f"INSERT OR IGNORE INTO webhook_deliveries ({', '.join(_LOGGED)})"
    f" SELECT {', '.join('?' * len(_LOGGED))} WHERE EXISTS (SELECT 1 FROM webhooks WHERE id = ?)"
)
_PRUNE = (
    "DELETE FROM webhook_deliveries WHERE webhook_id = ?1 AND id <="
    f" (SELECT id FROM webhook_deliveries WHERE webhook_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET {KEPT})"
)


class Webhooks:
    """The stored webhooks. Every method is one transaction, durable when it returns."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def enabled(self, username: str | None = None) -> list[Webhook]:
        """Those that are not disabled, all of them or those that act for a user."""

        def work(connection: sqlite3.Connection) -> list[Webhook]:
            where = "WHERE disabled = 0 AND (?1 IS NULL OR username = ?1) ORDER BY id"
            return _read(connection.execute(f"{_SELECT} {where}", (username,)))

        return await self._run(work)

    async def page(self, queue: str, after: str, most: int) -> list[Webhook]:
        """Those of a queue in the order in which they were made, after the id `after`."""

        def work(connection: sqlite3.Connection) -> list[Webhook]:
            where = "WHERE queue = ? AND id > ? ORDER BY id LIMIT ?"
            return _read(connection.execute(f"{_SELECT} {where}", (queue, after, most)))

        return await self._run(work)

    async def every(self, after: str, most: int) -> list[Webhook]:
        """Those of all queues in the order in which they were made, after the id `after`."""

        def work(connection: sqlite3.Connection) -> list[Webhook]:
            return _read(connection.execute(f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?", (after, most)))

        return await self._run(work)

    async def recent(self, webhook_ids: Sequence[str]) -> dict[str, Recent]:
        """How each of these did of late."""

        def work(connection: sqlite3.Connection) -> dict[str, Recent]:
            return {webhook_id: _recent(connection, webhook_id) for webhook_id in webhook_ids}

        return await self._run(work)

    async def get(self, webhook_id: str) -> Webhook | None:
        """The webhook with that id."""
        return await self._run(lambda connection: _select(connection, webhook_id))

    async def add(self, webhook: Webhook, most: int) -> Refused | None:
        """Store a new webhook; None where that was done. `most`: webhooks of a user, 0 is any number."""

        def work(connection: sqlite3.Connection) -> Refused | None:
            if connection.execute("SELECT 1 FROM queue WHERE name = ?", (webhook.queue,)).fetchone() is None:
                return Refused.NO_QUEUE
            if most and _count(connection, webhook.username) >= most:
                return Refused.TOO_MANY
            connection.execute(_INSERT, _row(webhook))
            return None

        return await self._run(work)

    async def change(self, webhook_id: str, changed: Callable[[Webhook], Webhook], most: int = 0) -> Webhook | Refused:
        """Store what `changed` makes of a webhook, and answer it; `changed` is called on the store's thread.

        `most` as for `add`, looked at where the webhook acts for another user from now on.
        """

        def work(connection: sqlite3.Connection) -> Webhook | Refused:
            found = _select(connection, webhook_id)
            if found is None:
                return Refused.NO_WEBHOOK
            after = changed(found)
            other = found.orphaned or after.username != found.username
            if most and other and _count(connection, after.username) >= most:
                return Refused.TOO_MANY
            connection.execute(_UPDATE, (*_row(after)[1:], webhook_id))
            return after

        return await self._run(work)

    async def remove(self, webhook_id: str) -> bool:
        """Delete a webhook with its log; False where there is none."""
        return await self._run(
            lambda connection: connection.execute("DELETE FROM webhooks WHERE id = ?", (webhook_id,)).rowcount == 1
        )

    async def log(self, deliveries: Sequence[Delivery]) -> None:
        """Remember deliveries, and forget the oldest beyond `KEPT` of each webhook."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_INSERT_LOGGED, [(*astuple(one), one.webhook_id) for one in deliveries])
            connection.executemany(_PRUNE, [(webhook_id,) for webhook_id in {one.webhook_id for one in deliveries}])

        await self._run(work)

    async def deliveries(self, webhook_id: str, before: str | None, most: int) -> list[Delivery]:
        """What is remembered of a webhook, the newest first, of before the id `before`."""

        def work(connection: sqlite3.Connection) -> list[Delivery]:
            where = " AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3"
            sql = _SELECT_LOGGED.replace("?", "?1") + where
            return [Delivery(*row) for row in connection.execute(sql, (webhook_id, before, most))]

        return await self._run(work)

    async def delivery(self, webhook_id: str, delivery_id: str) -> Delivery | None:
        """One of them."""

        def work(connection: sqlite3.Connection) -> Delivery | None:
            row = connection.execute(f"{_SELECT_LOGGED} AND id = ?", (webhook_id, delivery_id)).fetchone()
            return None if row is None else Delivery(*row)

        return await self._run(work)


def _recent(connection: sqlite3.Connection, webhook_id: str) -> Recent:
    row = connection.execute(f"{_SELECT_LOGGED} ORDER BY id DESC LIMIT 1", (webhook_id,)).fetchone()
    return Recent(None if row is None else Delivery(*row), connection.execute(_FAILURES, (webhook_id,)).fetchone()[0])


def _count(connection: sqlite3.Connection, username: str) -> int:
    counted = connection.execute("SELECT count(*) FROM webhooks WHERE username = ? AND orphaned = 0", (username,))
    return int(counted.fetchone()[0])


def _select(connection: sqlite3.Connection, webhook_id: str) -> Webhook | None:
    found = _read(connection.execute(f"{_SELECT} WHERE id = ?", (webhook_id,)))
    return found[0] if found else None


def _read(rows: Iterable[tuple[object, ...]]) -> list[Webhook]:
    return [_webhook(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def _webhook(row: dict[str, object]) -> Webhook:
    row["headers"] = _headers.decode(str(row["headers"]))
    for name in ("disabled", "orphaned"):
        row[name] = bool(row[name])
    return msgspec.convert(row, Webhook)


def _row(webhook: Webhook) -> tuple[object, ...]:
    # Not `astuple`, which would take the headers apart as well.
    row = {name: getattr(webhook, name) for name in _COLUMNS}
    row["headers"] = msgspec.json.encode(webhook.headers).decode()
    return tuple(row.values())
