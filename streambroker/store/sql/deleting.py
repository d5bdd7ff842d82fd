"""What is deleted: by a purge, one by one, or because its queue was dropped. Ids are never made twice for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from streambroker.core.lifecycle import Fate, Ruling
from streambroker.store.contract import Delete, Purge, Settled, Sweep, settled
from streambroker.store.sql import statements as sql
from streambroker.store.sql.catalog import Catalog
from streambroker.store.sql.checkpoints import ROW_BYTES, Checkpoints
from streambroker.store.sql.standings import Standings


class Deletes:
    """Within a transaction of the writer."""

    def __init__(
        self, connection: sqlite3.Connection, catalog: Catalog, checkpoints: Checkpoints, standings: Standings
    ) -> None:
        self._db = connection
        self._catalog = catalog
        self._checkpoints = checkpoints
        self._standings = standings

    def last_id(self) -> int:
        """The largest message id that was ever stored, 0 where none was; it may be deleted."""
        return int(self._db.execute(sql.LAST_ID).fetchone()[0])

    def purge(self, command: Purge) -> int:
        """Answers how many; on a full disk fewer than asked. Raises `NotFound`."""
        row = self._catalog.row(command.queue)
        purged, limit = 0, self._checkpoints.chunk(command.limit)
        for state in command.states:
            self._catalog.purging(row, state, limit - purged)
            gone = self._forget(sql.PURGE, (row.id, int(state), limit - purged))
            self._catalog.count(row, state, -gone)
            purged += gone
        self._checkpoints.unsaved += ROW_BYTES * purged
        return purged

    def delete(self, command: Delete) -> Settled:
        """One message, wherever it stands."""
        before = self._standings.read([command.id]).get(command.id)
        if before is None:
            return Settled(command.id, "not_found")
        self.these([command.id])
        self._catalog.count(self._catalog.by_name[before.queue], before.state, -1)
        return settled(before, Ruling(None, before, Fate.GONE))

    def these(self, ids: Iterable[int]) -> None:
        """Messages by their ids. Whoever asks counts them."""
        given = sql.given(ids)
        self._catalog.leaving(given)
        self._forget(sql.DELETE, (given,))

    def sweep(self, command: Sweep) -> bool:
        """Dedup records that are over, and what dropped queues left; answers whether more is left."""
        limit = self._checkpoints.chunk(command.limit)
        more = self._db.execute(sql.SWEEP_DEDUP, (command.now, limit)).rowcount == limit
        if self._catalog.dropped:
            number = self._catalog.dropped[-1]
            messages = self._forget(sql.SWEEP, (number, limit))
            records = self._db.execute(sql.DROP_DEDUP, (number, limit)).rowcount
            self._checkpoints.unsaved += ROW_BYTES * (messages + records)
            if max(messages, records) < limit:
                self._catalog.forget(number)
        return more or bool(self._catalog.dropped)

    def _forget(self, statement: str, values: tuple[Any, ...]) -> int:
        """Delete messages, and answer how many. Where the newest is among them its id is kept: none is made twice."""
        (before,) = self._db.execute(sql.NEWEST).fetchone()
        deleted = self._db.execute(statement, values).rowcount
        if before is not None and self._db.execute(sql.NEWEST).fetchone()[0] != before:
            self._db.execute(sql.KEEP_LAST_ID, (max(before, self.last_id()),))
        return deleted
