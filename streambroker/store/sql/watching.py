"""What metrics ask of a SQLite store, from whatever thread."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from streambroker.core.names import IdSequence
from streambroker.store.figures import StoreFigures
from streambroker.store.groupcommit import GroupCommit
from streambroker.store.sql.connection import DATABASE
from streambroker.store.sql.engine import SqliteEngine

# An id begins with the time at which it was made; the index holds ids, so no row has to be read.
_IDS_IN_A_MS = IdSequence().take(1, 1)[0]
_FIRST_READY = ", ".join(
    "ifnull((SELECT id FROM message WHERE queue_id = queue.id AND state = 0 "
    f"AND priority = {priority} ORDER BY id LIMIT 1), {2**63 - 1})"
    for priority in range(10)
)
_OLDEST = f"SELECT name, min({_FIRST_READY}) FROM queue WHERE name IN (SELECT value FROM json_each(?))"


class Watching:
    """Reads what the writer's thread counts, without a lock, and the file over a connection that cannot write."""

    def __init__(self, data_dir: Path, engine: SqliteEngine, commits: GroupCommit) -> None:
        self._directory = data_dir
        self._path = data_dir / DATABASE
        self._log = self._path.with_name(f"{DATABASE}-wal")
        self._engine = engine
        self._commits = commits

    def figures(self) -> StoreFigures:
        """How the store is."""
        engine, commits = self._engine, self._commits
        waiting_messages, waiting_bytes = commits.waiting
        disk = os.statvfs(self._directory)
        disk_full, quota_used_up = self.full
        return StoreFigures(
            commits.turns.messages,
            commits.turns.seconds,
            engine.sync_seconds,
            waiting_messages,
            waiting_bytes,
            _size(self._path),
            _size(self._log),
            disk.f_frsize * disk.f_bavail,
            disk_full,
            quota_used_up,
        )

    @property
    def full(self) -> tuple[bool, bool]:
        """Whether publishes are refused because the disk is full, and because the quota is used up."""
        return self._engine.full

    def depths(self) -> Mapping[str, Sequence[int]]:
        """How many messages stand where, by queue; indexed by `State`."""
        return {name: row.committed for name, row in self._engine.catalog.by_name.copy().items()}

    def oldest(self, queues: Sequence[str]) -> Mapping[str, int]:
        """When the oldest message that is ready was published, in milliseconds since 1970, of each queue that has one.

        Takes some 5 µs for each queue.
        """
        # One short transaction, on a connection for this time only: nobody else has to wait for it, nor it for them.
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(_OLDEST, (json.dumps(queues),)).fetchall()
        return {name: number // _IDS_IN_A_MS for name, number in found if number < 2**63 - 1}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
