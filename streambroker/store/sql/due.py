"""What becomes of messages by the time alone: leases, delays, lives and retentions that end."""

from __future__ import annotations

import sqlite3

from streambroker.core import lifecycle, timeline
from streambroker.core.lifecycle import Fate, Ruling
from streambroker.core.message import Standing
from streambroker.core.timeline import Record
from streambroker.store.contract import Lapsed, Overdue, Settled, settled
from streambroker.store.sql import statements as sql
from streambroker.store.sql.catalog import Catalog
from streambroker.store.sql.checkpoints import ROW_BYTES, Checkpoints
from streambroker.store.sql.deleting import Deletes
from streambroker.store.sql.standings import Standings


class Due:
    """Within a transaction of the writer."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        catalog: Catalog,
        checkpoints: Checkpoints,
        standings: Standings,
        deletes: Deletes,
    ) -> None:
        self._db = connection
        self._catalog = catalog
        self._checkpoints = checkpoints
        self._standings = standings
        self._deletes = deletes

    def overdue(self, command: Overdue) -> Lapsed:
        """All that is due by now, the longest overdue first; on a full disk fewer at a time than asked."""
        items: list[Settled] = []
        gone: list[int] = []
        changed: list[Standing] = []
        records: list[tuple[int, Record]] = []
        limit = self._checkpoints.chunk(command.limit)
        for row in self._db.execute(sql.SELECT_DUE, (command.now, limit)).fetchall():
            before = sql.standing(row, self._catalog.names)
            if not before.queue:  # of a dropped queue
                gone.append(before.id)
                continue
            after, fate = lifecycle.overdue(before, *self._standings.policies(before.queue), command.now)
            items.append(settled(before, Ruling(None, after, fate)))
            if fate is Fate.GONE:
                gone.append(before.id)
                self._catalog.count(self._catalog.by_name[before.queue], before.state, -1)
            else:
                changed.append(after)
                self._standings.moved(before, after)
                if record := timeline.lapsed(before, after, fate):
                    records.append((before.id, record))
        if gone:
            self._deletes.these(gone)
        self._standings.write(changed)
        self._standings.keep(records)
        self._checkpoints.unsaved += ROW_BYTES * len(items)
        left = self._db.execute(sql.NEXT_DUE).fetchone()
        return Lapsed(items, left[0] if left else None)
