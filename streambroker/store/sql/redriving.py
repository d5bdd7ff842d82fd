"""Failed messages and dead letters made ready again, many at once or one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from streambroker.core import lifecycle, timeline
from streambroker.core.lifecycle import Fate, Ruling
from streambroker.core.message import Standing
from streambroker.store.contract import Redrive, Retry, Settled, settled
from streambroker.store.sql import statements as sql
from streambroker.store.sql.catalog import Catalog
from streambroker.store.sql.checkpoints import ROW_BYTES, Checkpoints
from streambroker.store.sql.standings import Standings


class Redrives:
    """Within a transaction of the writer."""

    def __init__(
        self, connection: sqlite3.Connection, catalog: Catalog, checkpoints: Checkpoints, standings: Standings
    ) -> None:
        self._db = connection
        self._catalog = catalog
        self._checkpoints = checkpoints
        self._standings = standings

    def redrive(self, command: Redrive) -> list[Settled]:
        """Failed messages of a queue, or its dead letters in another, ready again in it. Raises `NotFound`."""
        home = self._catalog.row(command.queue)
        if command.source is None:
            found = self._db.execute(sql.SELECT_FAILED, (home.id, command.limit)).fetchall()
        else:
            source = self._catalog.row(command.source)
            found = self._db.execute(sql.SELECT_DEAD, (source.id, command.queue, command.limit)).fetchall()
        befores = [sql.standing(values, self._catalog.names) for values in found]
        changes = [(b, lifecycle.redrive(b, command.queue, home.config, command.now)) for b in befores]
        self._redriven(changes)
        return [settled(before, Ruling(None, after, Fate.READY)) for before, after in changes]

    def retry(self, command: Retry) -> Settled:
        """One failed message ready again where it is."""
        before = self._standings.read([command.id]).get(command.id)
        if before is None:
            return Settled(command.id, "not_found")
        ruling = lifecycle.retry(before, self._catalog.by_name[before.queue].config, command.now)
        if ruling.refusal is None and ruling.standing is not None:
            self._redriven([(before, ruling.standing)])
        return settled(before, ruling)

    def _redriven(self, changes: Sequence[tuple[Standing, Standing]]) -> None:
        for before, after in changes:
            self._standings.moved(before, after)
        self._standings.write(after for _, after in changes)
        self._standings.keep([(before.id, timeline.redriven(before, after)) for before, after in changes])
        self._checkpoints.unsaved += ROW_BYTES * len(changes)
