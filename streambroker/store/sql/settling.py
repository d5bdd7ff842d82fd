"""Settles: acks that their holders' own tokens cover in one statement, all others judged one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from streambroker.core import lifecycle, timeline
from streambroker.core.lifecycle import Fate, Ruling, Settlement
from streambroker.core.message import Standing, State
from streambroker.core.timeline import Record
from streambroker.store.contract import Acked, Settle, Settled, settled
from streambroker.store.sql import statements as sql
from streambroker.store.sql.catalog import Catalog
from streambroker.store.sql.checkpoints import ROW_BYTES, Checkpoints
from streambroker.store.sql.standings import Standings


class Settles:
    """Within a transaction of the writer. Answers stand in `answers`, at the index of their command."""

    def __init__(
        self, connection: sqlite3.Connection, catalog: Catalog, checkpoints: Checkpoints, standings: Standings
    ) -> None:
        self._db = connection
        self._catalog = catalog
        self._checkpoints = checkpoints
        self._standings = standings

    def ack_held(self, command: Settle, index: int, answers: list[Any]) -> bool:
        """Acks of messages that their holder still holds, in one statement; False, and nothing done, if one is not."""
        row = self._catalog.by_name.get(command.queue or "")
        if row is None:
            return False
        due_at = lifecycle.processed_until(row.config, command.now)
        tokens = msgspec.json.encode({item.lease for item in command.items}).decode()
        self._db.execute("SAVEPOINT acks")
        changed = self._db.execute(
            sql.ACK_HELD, (due_at, command.now, sql.given(item.id for item in command.items), row.id, tokens)
        ).rowcount
        granted = changed == len(command.items)
        if not granted:
            self._db.execute("ROLLBACK TO acks")
        self._db.execute("RELEASE acks")
        if granted:
            self._catalog.count(row, State.LEASED, -changed)
            self._catalog.count(row, State.PROCESSED, changed)
            self._checkpoints.unsaved += ROW_BYTES * changed
            answers[index] = Acked(due_at)
        return granted

    def settle(self, commands: Sequence[Settle], indexes: Sequence[int], answers: list[Any]) -> None:
        """Each item in the order it came in, judged by what those before it made of its message."""
        if not commands:
            return
        standings = self._standings.read(item.id for command in commands for item in command.items)
        acks: dict[tuple[int | None, int], list[int]] = {}
        changed: dict[int, Standing] = {}
        acked: set[int] = set()
        records: list[tuple[int, Record]] = []
        for index, command in zip(indexes, commands, strict=True):
            results = answers[index] = []
            for item in command.items:
                before = standings.get(item.id)
                if before is None:
                    results.append(Settled(item.id, "not_found"))
                    continue
                ruling = self._rule(before, item, command.now)
                results.append(settled(before, ruling))
                after = ruling.standing
                if after is None or after is before:
                    continue
                standings[item.id] = after
                self._standings.moved(before, after)
                if ruling.fate is Fate.PROCESSED and item.id not in changed:
                    acks.setdefault((after.due_at, command.now), []).append(item.id)
                    acked.add(item.id)
                else:
                    changed[item.id] = after
                    if record := timeline.settled(before, item, ruling):
                        records.append((item.id, record))
        for (due_at, now), ids in acks.items():
            self._db.execute(sql.ACK, (due_at, now, sql.given(ids)))
        self._standings.write(changed.values())
        self._standings.keep(records)
        self._checkpoints.unsaved += ROW_BYTES * (len(acked) + len(changed))

    def _rule(self, before: Standing, item: Settlement, now: int) -> Ruling:
        config, dlq = self._standings.policies(before.queue)
        return lifecycle.settle(before, item, config, dlq, now)
