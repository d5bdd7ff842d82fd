"""The queues as the writer knows them, and how many messages of each stand where.

Counting a million rows for every look would cost more than the look is worth: the counts are read once at the start and
kept from then on, undone with the transaction where one fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from streambroker.core.errors import NotFound
from streambroker.core.message import State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import Depth, DropQueue, Queue, SaveQueue
from streambroker.store.sql import statements as sql


class QueueRow(msgspec.Struct):
    """A queue and how many messages stand where; `counts` is indexed by `State`, and so is `committed`, which is what
    others are told: the counts as of the last commit, never changed but replaced. `stored` is their content in bytes,
    and that of their attributes; it is known only where owners have a quota."""

    id: int
    queue: Queue
    counts: list[int]
    committed: Sequence[int]
    stored: int = 0

    @property
    def config(self) -> QueueConfig:
        return self.queue.config


def _empty(number: int, queue: Queue) -> QueueRow:
    return QueueRow(number, queue, [0] * len(State), (0,) * len(State))


class Catalog:
    """Owned by the writer's thread, which alone changes it; `depth()` may be read from any.

    `quota` is how many bytes an owner may store in all its queues together; 0: any number, and nothing is added up.
    """

    def __init__(self, connection: sqlite3.Connection, quota: int = 0) -> None:
        self._db = connection
        self.quota = quota
        self._stored: dict[str, int] = {}  # by owner
        self._undo: dict[int, list[int]] = {}
        self._undo_stored: dict[int, int] = {}
        self._changed = False
        self.load()

    def load(self) -> None:
        """Read all of it."""
        self.by_name: dict[str, QueueRow] = {}
        self.names: dict[int, str] = {}
        self.dropped: list[int] = []
        by_id: dict[int, QueueRow] = {}
        for number, name, config, paused, created_at, owner in self._db.execute(sql.SELECT_QUEUES).fetchall():
            if name is None:
                self.dropped.append(number)
                continue
            queue = Queue(name, msgspec.json.decode(config, type=QueueConfig), bool(paused), created_at, owner)
            by_id[number] = self._know(_empty(number, queue))
        for number, state, count in self._db.execute(sql.COUNT).fetchall():
            if number in by_id:
                by_id[number].counts[state] = count
        for row in by_id.values():
            row.committed = row.counts.copy()
        self._stored = {}
        for number, stored in self._db.execute(sql.STORED).fetchall() if self.quota else ():
            if number in by_id:
                self._add(by_id[number], stored)

    def _know(self, row: QueueRow) -> QueueRow:
        self.by_name[row.queue.name] = row
        self.names[row.id] = row.queue.name
        return row

    # -- in a transaction ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A transaction begins: what changes from here on can be undone."""
        self._undo, self._undo_stored, self._changed = {}, {}, False

    def commit(self) -> None:
        """The transaction was committed: what it counted may be told."""
        for number in self._undo:
            if (name := self.names.get(number)) is not None:
                row = self.by_name[name]
                row.committed = row.counts.copy()

    def undo(self) -> None:
        """The transaction was rolled back."""
        for number, counts in self._undo.items():
            if (name := self.names.get(number)) is not None:
                self.by_name[name].counts[:] = counts
        for number, stored in self._undo_stored.items():
            if (name := self.names.get(number)) is not None:
                self._add(self.by_name[name], stored - self.by_name[name].stored)
        if self._changed:
            self.load()

    def row(self, name: str) -> QueueRow:
        """The queue of that name; raises `NotFound`."""
        row = self.by_name.get(name)
        if row is None:
            raise NotFound(f"there is no queue {name}")
        return row

    def depth(self, name: str) -> Depth:
        """How many messages of the queue stand where."""
        row = self.by_name.get(name)
        return Depth(*row.committed) if row else Depth()

    def stored(self, name: str) -> int:
        """The bytes that count against the quota of the queue's owner."""
        row = self.by_name.get(name)
        return row.stored if row else 0

    def count(self, row: QueueRow, state: State, change: int) -> None:
        """So many more messages of the queue stand there."""
        if not change:
            return
        if row.id not in self._undo:
            self._undo[row.id] = row.counts.copy()
        row.counts[state] += change

    def over(self, row: QueueRow, size: int) -> int:
        """By how much its owner's quota is exceeded with so many more bytes in the queue; not at all where it is 0."""
        owner = row.queue.owner
        return max(self._stored.get(owner, 0) + size - self.quota, 0) if owner else 0

    def charge(self, row: QueueRow, size: int) -> None:
        """So many more bytes are stored in the queue."""
        if row.id not in self._undo_stored:
            self._undo_stored[row.id] = row.stored
        self._add(row, size)

    def _add(self, row: QueueRow, size: int) -> None:
        row.stored += size
        self._stored[row.queue.owner] = self._stored.get(row.queue.owner, 0) + size

    def leaving(self, ids: str) -> None:
        """These messages are about to be deleted."""
        for number, size in self._db.execute(sql.STORED_GIVEN, (ids,)).fetchall() if self.quota else ():
            if (name := self.names.get(number)) is not None:  # what a dropped queue left is nobody's
                self.charge(self.by_name[name], -size)

    def purging(self, row: QueueRow, state: State, limit: int) -> None:
        """The first `limit` messages of the queue that stand there are about to be deleted."""
        if self.quota and row.stored:
            self.charge(row, -(self._db.execute(sql.STORED_PURGE, (row.id, int(state), limit)).fetchone()[0] or 0))

    def moving(self, message_id: int, source: QueueRow, target: QueueRow) -> None:
        """The message is about to be moved to another queue."""
        for _, size in self._db.execute(sql.STORED_GIVEN, (f"[{message_id}]",)).fetchall() if self.quota else ():
            self.charge(source, -size)
            self.charge(target, size)

    def save(self, command: SaveQueue) -> Queue:
        """Create a queue or change it, and create the dead-letter queue that it names; answers the queue as it is then.

        Raises `NotFound` where it was to be changed and is gone.
        """
        row = self.by_name.get(command.name)
        if command.replacing is not msgspec.UNSET and command.replacing != (row.queue if row else None):
            queue = self.row(command.name).queue
        else:
            created_at, owner = (row.queue.created_at, row.queue.owner) if row else (command.now, command.owner)
            queue = Queue(command.name, command.config, command.paused, created_at, owner)
            self._write(queue, row)
        dlq = queue.config.dead_letter_queue
        if dlq is not None and dlq not in self.by_name:
            self.save(SaveQueue(dlq, QueueConfig(), False, command.now, owner=queue.owner))
        return queue

    def _write(self, queue: Queue, row: QueueRow | None) -> None:
        self._changed = True
        config = msgspec.json.encode(queue.config).decode()
        if row is None:
            number = self._db.execute(
                sql.INSERT_QUEUE, (queue.name, config, queue.paused, queue.created_at, queue.owner)
            ).lastrowid
            self._know(_empty(number or 0, queue))
        else:
            self._db.execute(sql.UPDATE_QUEUE, (config, queue.paused, row.id))
            row.queue = queue

    def drop(self, command: DropQueue) -> bool:
        """A queue loses its name, and its messages wait to be swept; answers whether it was there."""
        row = self.by_name.get(command.name)
        if row is None:
            return False
        self._changed = True
        self._db.execute(sql.DROP_QUEUE, (row.id,))
        self._add(row, -row.stored)  # where this is undone, all is read anew
        del self.by_name[row.queue.name], self.names[row.id]
        self.dropped.append(row.id)
        return True

    def forget(self, number: int) -> None:
        """All that a dropped queue left is swept."""
        self._changed = True
        self._db.execute(sql.DELETE_QUEUE, (number,))
        self.dropped.remove(number)
