"""Where messages stand, in the table: read, changed, counted, and what is kept of it in their timelines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from streambroker.core.message import Standing
from streambroker.core.policy import QueueConfig
from streambroker.core.timeline import Record
from streambroker.store.contract import SaveQueue
from streambroker.store.sql import statements as sql
from streambroker.store.sql import timeline as kept
from streambroker.store.sql.catalog import Catalog
from streambroker.store.sql.checkpoints import ROW_BYTES, Checkpoints
from streambroker.store.sql.room import Room


class Standings:
    """Within a transaction of the writer."""

    def __init__(
        self, connection: sqlite3.Connection, catalog: Catalog, checkpoints: Checkpoints, room: Room | None
    ) -> None:
        self._db = connection
        self._catalog = catalog
        self._checkpoints = checkpoints
        self._room = room

    def read(self, ids: Iterable[int]) -> dict[int, Standing]:
        """Those of the messages that are there, by id; what a dropped queue left is not."""
        names = self._catalog.names
        found = self._db.execute(sql.SELECT_STANDING, (sql.given(ids),)).fetchall()
        return {row[0]: sql.standing(row, names) for row in found if row[1] in names}

    def policies(self, name: str) -> tuple[QueueConfig, QueueConfig | None]:
        """The queue's configuration, and that of its dead-letter queue."""
        config = self._catalog.by_name[name].config
        if config.dead_letter_queue is None:
            return config, None
        dlq = self._catalog.by_name.get(config.dead_letter_queue)
        return config, dlq.config if dlq else QueueConfig()  # dropped since: `moved` makes it again

    def moved(self, before: Standing, after: Standing) -> None:
        """A message will stand elsewhere: count it there, and make its queue where it is gone. Before `write`."""
        if before.state is after.state and before.queue == after.queue:
            return
        catalog = self._catalog
        source = catalog.by_name[before.queue]
        if after.queue not in catalog.by_name:  # no message is ever dropped silently
            catalog.save(SaveQueue(after.queue, QueueConfig(), False, after.updated_at, owner=source.queue.owner))
        target = catalog.by_name[after.queue]
        catalog.count(source, before.state, -1)
        catalog.count(target, after.state, 1)
        if source is not target:
            catalog.moving(before.id, source, target)

    def write(self, standings: Iterable[Standing]) -> None:
        """Messages stand there from now on."""
        rows = [
            (
                self._catalog.by_name[s.queue].id, int(s.state), s.attempt, s.failures, s.max_attempts, s.updated_at,
                s.available_at, s.expires_at, s.due_at, s.lease, s.holder, int(s.verdict), s.error, s.dead_letter, s.id,
            )
            for s in standings
        ]  # fmt: skip
        if rows:
            self._db.executemany(sql.WRITE, rows)

    def keep(self, records: Sequence[tuple[int, Record]]) -> None:
        """Add to timelines. Not where room is short: what can end without them must not need more of it."""
        if records and not (self._room and self._room.short):
            kept.keep(self._db, records)
            self._checkpoints.unsaved += ROW_BYTES * len(records)
