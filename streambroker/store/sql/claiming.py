"""Claims of what is ready: read once, dealt out to all who ask in this turn, leased with one statement each."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from streambroker.core.message import Message, State, weight
from streambroker.store.contract import Claim
from streambroker.store.sharing import Shares, by_queue
from streambroker.store.sql import statements as sql
from streambroker.store.sql.catalog import Catalog, QueueRow
from streambroker.store.sql.checkpoints import ROW_BYTES, Checkpoints


class Claims:
    """Within a transaction of the writer."""

    def __init__(self, connection: sqlite3.Connection, catalog: Catalog, checkpoints: Checkpoints) -> None:
        self._db = connection
        self._catalog = catalog
        self._checkpoints = checkpoints

    def claim(self, claims: Sequence[Claim]) -> list[list[Message]]:
        """What each of the claims gets, leased to it, in the order of delivery; of a paused queue nothing."""
        got: list[list[Message]] = [[] for _ in claims]
        for name, indexes in by_queue(claims):
            row = self._catalog.by_name.get(name)
            if row is None or row.queue.paused or not row.counts[State.READY]:
                continue
            asked = [claims[i] for i in indexes]
            self._deal(row, asked, [got[i] for i in indexes])
        return got

    def _deal(self, row: QueueRow, claims: list[Claim], got: list[list[Message]]) -> None:
        shares = Shares(claims)
        cursor = self._db.execute(sql.SELECT_READY, (row.id, claims[0].now, shares.total()))
        name = row.queue.name
        for values in cursor:
            dealt = shares.deal(weight(values[-1], values[-2]))
            if dealt is None:
                break
            claim = claims[dealt]
            got[dealt].append(sql.leased(values, name, claim.terms, claim.now))
        cursor.close()
        for claim, messages in zip(claims, got, strict=True):
            if not messages:
                continue
            token, holder, until = claim.terms
            ids = sql.given([message.id for message in messages])
            self._db.execute(sql.LEASE, (token, holder, until, claim.now, ids))
            self._catalog.count(row, State.READY, -len(messages))
            self._catalog.count(row, State.LEASED, len(messages))
            self._checkpoints.unsaved += ROW_BYTES * len(messages)
