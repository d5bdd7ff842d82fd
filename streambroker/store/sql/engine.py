"""The SQLite engine: one turn of commands becomes one transaction on the one connection that writes.

Everything here runs on the writer's thread, which owns the connection, the cache of queues and the counts. The loop
reads the counts, never writes them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from streambroker.core import timeline
from streambroker.core.errors import BrokerError, Internal, StorageFailed
from streambroker.core.message import State
from streambroker.store.contract import (
    Claim,
    Command,
    Delete,
    DropQueue,
    Overdue,
    Publish,
    Published,
    Purge,
    Redrive,
    Retry,
    SaveQueue,
    Settle,
    Sweep,
)
from streambroker.store.sql import statements as sql
from streambroker.store.sql.catalog import Catalog
from streambroker.store.sql.checkpoints import Checkpoints
from streambroker.store.sql.claiming import Claims
from streambroker.store.sql.deleting import Deletes
from streambroker.store.sql.due import Due
from streambroker.store.sql.inserting import Inserts
from streambroker.store.sql.redriving import Redrives
from streambroker.store.sql.room import Room
from streambroker.store.sql.settling import Settles
from streambroker.store.sql.standings import Standings
from streambroker.store.sql.transactions import Transactions, is_full, refusal

log = logging.getLogger(__name__)
T = TypeVar("T")

_SHED = 1_000
"""Processed messages that go early after one turn, where room is short."""
_MAKES_ROOM = (Purge, Delete, DropQueue)
"""What the reserve is kept for, beside accounts and their sessions."""


class SqliteEngine:
    """Puts the parts together, and makes a transaction of a turn; opened by `store.sql.sqlite`.

    Publishes, claims and settles are served with their like; each other command by the part in `_others`.
    """

    def __init__(
        self, connection: sqlite3.Connection, now: int, room: Room | None = None, max_bytes_per_owner: int = 0
    ) -> None:
        self._db = connection
        self._room = room
        self.catalog = catalog = Catalog(connection, max_bytes_per_owner)
        self._checkpoints = checkpoints = Checkpoints(connection, room)
        self._standings = standings = Standings(connection, catalog, checkpoints, room)
        self._deletes = deletes = Deletes(connection, catalog, checkpoints, standings)
        transactions = Transactions(connection, catalog)
        settles = Settles(connection, catalog, checkpoints, standings)
        due = Due(connection, catalog, checkpoints, standings, deletes)
        redrives = Redrives(connection, catalog, checkpoints, standings)

        self.sync_seconds, self._transaction = transactions.sync_seconds, transactions.run
        self.last_id, self.close = deletes.last_id, checkpoints.close
        self._claim = Claims(connection, catalog, checkpoints).claim
        self._ack_held, self._settle = settles.ack_held, settles.settle
        self._others: Mapping[type[Command], Callable[[Any], Any]] = {
            Overdue: due.overdue,
            Redrive: redrives.redrive,
            Retry: redrives.retry,
            Purge: deletes.purge,
            Delete: deletes.delete,
            SaveQueue: catalog.save,
            DropQueue: catalog.drop,
            Sweep: deletes.sweep,
        }
        self._recover(now)

    # -- start ---------------------------------------------------------------------------------------------------------

    def _recover(self, now: int) -> None:
        self.catalog.begin()
        self._db.execute("BEGIN IMMEDIATE")
        for row in self.catalog.by_name.values():
            if not row.counts[State.LEASED]:
                continue
            held = self._db.execute(sql.SELECT_SESSIONS, (row.id,)).fetchall()
            standings = [sql.standing(values, self.catalog.names) for values in held]
            self._standings.keep([(standing.id, timeline.restarted(standing, now)) for standing in standings])
            back = self._db.execute(sql.GIVE_BACK, (row.id,)).rowcount
            self.catalog.count(row, State.LEASED, -back)
            self.catalog.count(row, State.READY, back)
            self._db.execute(sql.CLAMP, (now, now, now, row.id))
        self._db.execute("COMMIT")
        self.catalog.commit()

    # -- a turn --------------------------------------------------------------------------------------------------------

    def turn(self, commands: Sequence[Command]) -> list[Any]:
        """See `contract.Engine`. A transaction that fails is run again command by command, so that one fails alone."""
        try:
            return self._transaction(lambda: self._apply(commands), all(map(self._is_relaxed, commands)))
        except sqlite3.Error as error:
            if is_full(error) and self._make_room(len(commands) == 1 and isinstance(commands[0], _MAKES_ROOM)):
                return self.turn(commands)
            if len(commands) == 1:
                return [refusal(error)]
        except StorageFailed:
            raise
        except Exception:
            log.exception("a turn of %d commands failed", len(commands))
            if len(commands) == 1:
                return [Internal("the broker failed at this; its log says why")]
        return [answer for command in commands for answer in self.turn([command])]

    def work(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in a transaction of its own, durable on return (accounts keep their tables this way)."""
        try:
            return self._transaction(lambda: function(self._db), relaxed=False)
        except sqlite3.Error as error:
            if is_full(error) and self._make_room(reserve=True):
                return self.work(function)
            raise refusal(error) from error

    def _is_relaxed(self, command: Command) -> bool:
        match command:
            case Publish(queue=name) | Claim(queue=name):
                row = self.catalog.by_name.get(name)
                return row is not None and row.config.durability == "memory"
            case Settle():
                return command.relaxed
            case _:
                return False

    def _apply(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = [None] * len(commands)
        publishes: list[int] = []
        settles: list[int] = []
        claims: list[int] = []
        rest: list[int] = []
        for index, command in enumerate(commands):
            match command:
                case Publish():
                    publishes.append(index)
                case Settle():
                    settles.append(index)
                case Claim():
                    claims.append(index)
                case _:
                    rest.append(index)
        if publishes:
            self._publish([(i, commands[i]) for i in publishes], answers)  # type: ignore[misc]
        if settles:
            settles = [i for i in settles if not self._ack_held(commands[i], i, answers)]  # type: ignore[arg-type]
            self._settle([commands[i] for i in settles], settles, answers)  # type: ignore[misc]
        if claims:
            for index, got in zip(claims, self._claim([commands[i] for i in claims]), strict=True):  # type: ignore[misc]
                answers[index] = got
        for index in rest:
            command = commands[index]
            answers[index] = self._or_error(self._others[type(command)], command)
        return answers

    def _or_error(self, apply: Callable[[Any], Any], command: Command) -> Any:
        # Refusals are decided before anything is written, so the transaction goes on without this command.
        try:
            return apply(command)
        except BrokerError as error:
            return error

    # -- publishes -----------------------------------------------------------------------------------------------------

    def _publish(self, publishes: Sequence[tuple[int, Publish]], answers: list[Any]) -> None:
        inserts = Inserts(self._db, self.catalog, self._deletes)
        if self._room is not None:
            messages, size = sum([len(c.drafts) for _, c in publishes]), sum([c.size for _, c in publishes])
            self._room.expect(messages, size, self._checkpoints.in_use, self._checkpoints.unused)
        insert = partial(self._insert, inserts)
        for index, command in publishes:
            answers[index] = self._or_error(insert, command)
        inserts.flush()
        self._serve(publishes, answers)
        self._checkpoints.unsaved += inserts.bytes

    def _insert(self, inserts: Inserts, command: Publish) -> Published:
        if self._room is not None:
            self._room.admit(len(command.drafts), command.size)
        return inserts.add(command)

    def _serve(self, publishes: Sequence[tuple[int, Publish]], answers: list[Any]) -> None:
        """The claims of publishes that could not be served at the insert, all together: older messages go first."""
        late = [
            (i, c) for i, c in publishes if c.claims and isinstance(answers[i], Published) and not answers[i].claimed
        ]
        got = iter(self._claim([claim for _, command in late for claim in command.claims]))
        for index, command in late:
            claimed = [next(got) for _ in command.claims]
            ready = self.catalog.row(command.queue).counts[State.READY] > 0
            answers[index] = msgspec.structs.replace(answers[index], claimed=claimed, ready=ready)

    # -- room ----------------------------------------------------------------------------------------------------------

    @property
    def full(self) -> tuple[bool, bool]:
        """Whether publishes are refused because the disk is full, and because the quota is used up."""
        return (False, False) if self._room is None else (self._room.disk_refuses, self._room.over)

    def tidy(self) -> None:
        """Between turns: checkpoint when it is time, look for room, and make some where it is short."""
        if self._room is not None and self._room.short:
            self._shed()
            self._room.reconsider(self._checkpoints.in_use)
        self._checkpoints.tidy()

    def _shed(self) -> None:
        """Delete processed messages, the oldest first: they stay to be looked at, and not at the price of new ones."""
        row = max(self.catalog.by_name.values(), key=lambda row: row.counts[State.PROCESSED], default=None)
        if row is None or not row.counts[State.PROCESSED]:
            return
        purge = Purge(row.queue.name, (State.PROCESSED,), _SHED)
        try:
            self._transaction(lambda: self._deletes.purge(purge), relaxed=False)
        except sqlite3.Error as error:
            log.debug("making room has to wait: %s", error)

    def _make_room(self, reserve: bool) -> bool:
        """The disk is full: give up the ballast, or else, where that is wanted, the reserve. False where nothing is
        left to give up."""
        room = self._room
        if room is None or (room.full and not (reserve and room.give_up_reserve())):
            return False
        room.give_up()
        self._checkpoints.now(room)
        return True
