"""The SQLite engine: one turn of commands becomes one transaction on the one connection that writes.

Everything here runs on the writer's thread, which owns the connection, the cache of queues and the counts. The loop
reads the counts, never writes them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from streambroker.core import lifecycle, timeline
from streambroker.core.errors import BrokerError, Internal, Overloaded, StorageFailed
from streambroker.core.lifecycle import Fate, Ruling, Settlement
from streambroker.core.message import Standing, State, weight
from streambroker.core.policy import QueueConfig
from streambroker.core.timeline import Record
from streambroker.store.contract import (
    Acked,
    Claim,
    Command,
    Delete,
    DropQueue,
    Lapsed,
    Overdue,
    Publish,
    Published,
    Purge,
    Queue,
    Redrive,
    Retry,
    SaveQueue,
    Settle,
    Settled,
    Sweep,
    settled,
)
from streambroker.store.figures import sync_times
from streambroker.store.sharing import Shares, by_queue
from streambroker.store.sql import statements as sql
from streambroker.store.sql import timeline as kept
from streambroker.store.sql.catalog import Catalog, QueueRow
from streambroker.store.sql.inserting import Inserts
from streambroker.store.sql.room import Room, disk_full

log = logging.getLogger(__name__)
T = TypeVar("T")

_FULL = sqlite3.SQLITE_FULL
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# After these nothing is known of what is on the disk: a commit whose fsync failed may or may not come back.
_FATAL = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)
_CHECKPOINT_BYTES = 16 * 1024 * 1024
_VACUUM_PAGES = 128
_FULL_CHUNK = 16
_SHED = 1_000
"""Processed messages that go early after one turn, where room is short."""
_ROW_BYTES = 1_000
"""About what one change of a row adds to the write-ahead log beside its content."""


class SqliteEngine:
    """See the module; opened by `store.sql.sqlite`."""

    def __init__(
        self, connection: sqlite3.Connection, now: int, room: Room | None = None, max_bytes_per_owner: int = 0
    ) -> None:
        self._db = connection
        self._room = room
        self._page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
        self.catalog = Catalog(connection, max_bytes_per_owner)
        self.sync_seconds = sync_times()
        self._relaxed = False
        self._unsaved = 0  # bytes in the write-ahead log since the last checkpoint, about
        self._recover(now)

    # -- start ---------------------------------------------------------------------------------------------------------

    def _recover(self, now: int) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for row in self.catalog.by_name.values():
            if not row.counts[State.LEASED]:
                continue
            held = self._db.execute(sql.SELECT_SESSIONS, (row.id,)).fetchall()
            standings = [sql.standing(values, self.catalog.names) for values in held]
            self._keep([(standing.id, timeline.restarted(standing, now)) for standing in standings])
            back = self._db.execute(sql.GIVE_BACK, (row.id,)).rowcount
            row.counts[State.LEASED] -= back
            row.counts[State.READY] += back
            self._db.execute(sql.CLAMP, (now, now, now, row.id))
        self._db.execute("COMMIT")

    def last_id(self) -> int:
        """The largest message id that was ever stored, 0 where none was; it may be deleted."""
        return int(self._db.execute(sql.LAST_ID).fetchone()[0])

    # -- a turn --------------------------------------------------------------------------------------------------------

    def turn(self, commands: Sequence[Command]) -> list[Any]:
        """See `contract.Engine`. A transaction that fails is run again command by command, so that one fails alone."""
        try:
            return self._transaction(lambda: self._apply(commands), all(map(self._is_relaxed, commands)))
        except sqlite3.Error as error:
            if _code(error) == _FULL and self._make_room():
                return self.turn(commands)
            if len(commands) == 1:
                return [_refusal(error)]
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
            raise _refusal(error) from error

    def _transaction(self, body: Callable[[], T], relaxed: bool) -> T:
        """Raises `StorageFailed` when nothing is known any more; after any other error nothing has changed."""
        self.catalog.begin()
        try:
            if relaxed is not self._relaxed:
                self._db.execute(f"PRAGMA synchronous = {1 if relaxed else 2}")
                self._relaxed = relaxed
            self._db.execute("BEGIN IMMEDIATE")
            answer = body()
            began = perf_counter()
            self._db.execute("COMMIT")
            if not relaxed:
                self.sync_seconds.add(perf_counter() - began)
            return answer
        except BaseException as error:
            self._roll_back(error)
            raise

    def _roll_back(self, error: BaseException) -> None:
        if isinstance(error, sqlite3.Error) and _code(error) in _FATAL:
            raise StorageFailed(f"the storage failed: {error} ({error.sqlite_errorname})") from error
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self.catalog.undo()
        except sqlite3.Error as other:
            raise StorageFailed(f"the storage failed while it undid a transaction: {other}") from other

    @property
    def full(self) -> tuple[bool, bool]:
        """Whether publishes are refused because the disk is full, and because the quota is used up."""
        return (False, False) if self._room is None else (self._room.full, self._room.over)

    def tidy(self) -> None:
        """Between turns: move the write-ahead log into the file when enough has gathered, and look for room."""
        room = self._room
        if room is None:
            if self._unsaved >= _CHECKPOINT_BYTES:
                self._checkpoint(False)
            return
        if room.short:
            self._shed()
        due = room.full or self._unsaved >= room.log_bytes
        if due:
            self._checkpoint(room.full)
        room.look(now=due)

    def _shed(self) -> None:
        """Delete processed messages, the oldest first: they stay to be looked at, and not at the price of new ones."""
        row = max(self.catalog.by_name.values(), key=lambda row: row.counts[State.PROCESSED], default=None)
        if row is None or not row.counts[State.PROCESSED]:
            return
        purge = Purge(row.queue.name, (State.PROCESSED,), _SHED)
        try:
            self._transaction(lambda: self._purge(purge), relaxed=False)
        except sqlite3.Error as error:
            log.debug("making room has to wait: %s", error)

    def _checkpoint(self, full: bool) -> None:
        try:
            if full:  # what was deleted is room in the file; give it back to the disk
                # A script, for `execute` stops after the first step of a statement without columns: one page.
                self._db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if _code(error) in _FATAL:
                raise StorageFailed(f"the checkpoint failed: {error} ({error.sqlite_errorname})") from error
            log.log(logging.DEBUG if full else logging.WARNING, "the checkpoint has to wait: %s", error)
        self._unsaved = 0

    def _chunk(self, limit: int) -> int:
        """How many messages to delete in one transaction: on a full disk its log has to be short."""
        return min(limit, _FULL_CHUNK) if self._room is not None and self._room.full else limit

    def _make_room(self) -> bool:
        """The disk is full: give up the ballast. False where that was done already."""
        if self._room is None or self._room.full:
            return False
        self._room.give_up()
        return True

    def close(self) -> None:
        """Checkpoint and close."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            log.warning("the last checkpoint has to wait for the next start: %s", error)
        self._db.close()

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
            inserts = Inserts(self._db, self.catalog)
            if self._room is not None:
                asked: Any = [commands[i] for i in publishes]
                self._room.expect(sum([len(c.drafts) for c in asked]), sum([c.size for c in asked]), self._in_use)
            for index in publishes:
                answers[index] = self._or_error(partial(self._insert, inserts), commands[index])
            inserts.flush()
            self._serve([(i, commands[i]) for i in publishes], answers)  # type: ignore[misc]
            self._unsaved += inserts.bytes
        if settles:
            settles = [i for i in settles if not self._ack_held(commands[i], i, answers)]  # type: ignore[arg-type]
            self._settle([commands[i] for i in settles], settles, answers)  # type: ignore[misc]
        if claims:
            for index, got in zip(claims, self._claim([commands[i] for i in claims]), strict=True):  # type: ignore[misc]
                answers[index] = got
        for index in rest:
            answers[index] = self._or_error(self._single, commands[index])
        return answers

    def _insert(self, inserts: Inserts, command: Publish) -> Published:
        if self._room is not None:
            self._room.admit(len(command.drafts), command.size)
        return inserts.add(command)

    def _in_use(self) -> int:
        """Bytes of the file that are in use; free pages are taken before it grows."""
        pages = self._db.execute("SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count")
        return int(pages.fetchone()[0]) * self._page_bytes

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

    def _or_error(self, apply: Callable[[Any], Any], command: Command) -> Any:
        # Refusals are decided before anything is written, so the transaction goes on without this command.
        try:
            return apply(command)
        except BrokerError as error:
            return error

    def _single(self, command: Command) -> Any:
        match command:
            case Overdue():
                return self._overdue(command)
            case Redrive():
                return self._redrive(command)
            case Retry():
                return self._retry(command)
            case Purge():
                return self._purge(command)
            case Delete():
                return self._delete(command.id)
            case SaveQueue():
                return self._save_queue(command)
            case DropQueue():
                return self._drop_queue(command.name)
            case Sweep():
                return self._sweep(command)
            case _:
                raise AssertionError(f"{command} is served with its like")

    # -- claims --------------------------------------------------------------------------------------------------------

    def _claim(self, claims: Sequence[Claim]) -> list[list[Any]]:
        got: list[list[Any]] = [[] for _ in claims]
        for name, indexes in by_queue(claims):
            row = self.catalog.by_name.get(name)
            if row is None or row.queue.paused or not row.counts[State.READY]:
                continue
            asked = [claims[i] for i in indexes]
            self._deal(row, asked, [got[i] for i in indexes])
        return got

    def _deal(self, row: QueueRow, claims: list[Claim], got: list[list[Any]]) -> None:
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
            self.catalog.count(row, State.READY, -len(messages))
            self.catalog.count(row, State.LEASED, len(messages))
            self._unsaved += _ROW_BYTES * len(messages)

    # -- settles -------------------------------------------------------------------------------------------------------

    def _ack_held(self, command: Settle, index: int, answers: list[Any]) -> bool:
        """Acks of messages that their holder still holds, in one statement; False, and nothing done, if one is not."""
        row = self.catalog.by_name.get(command.queue or "")
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
            self.catalog.count(row, State.LEASED, -changed)
            self.catalog.count(row, State.PROCESSED, changed)
            self._unsaved += _ROW_BYTES * changed
            answers[index] = Acked(due_at)
        return granted

    def _settle(self, commands: Sequence[Settle], indexes: Sequence[int], answers: list[Any]) -> None:
        if not commands:
            return
        standings = self._standings(item.id for command in commands for item in command.items)
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
                self._moved(before, after)
                if ruling.fate is Fate.PROCESSED and item.id not in changed:
                    acks.setdefault((after.due_at, command.now), []).append(item.id)
                    acked.add(item.id)
                else:
                    changed[item.id] = after
                    if record := timeline.settled(before, item, ruling):
                        records.append((item.id, record))
        for (due_at, now), ids in acks.items():
            self._db.execute(sql.ACK, (due_at, now, sql.given(ids)))
        self._write(changed.values())
        self._keep(records)
        self._unsaved += _ROW_BYTES * (len(acked) + len(changed))

    def _rule(self, before: Standing, item: Settlement, now: int) -> Ruling:
        config, dlq = self._policies(before.queue)
        return lifecycle.settle(before, item, config, dlq, now)

    def _standings(self, ids: Any) -> dict[int, Standing]:
        found = self._db.execute(sql.SELECT_STANDING, (sql.given(ids),)).fetchall()
        return {row[0]: sql.standing(row, self.catalog.names) for row in found if row[1] in self.catalog.names}

    def _policies(self, name: str) -> tuple[QueueConfig, QueueConfig | None]:
        config = self.catalog.by_name[name].config
        if config.dead_letter_queue is None:
            return config, None
        dlq = self.catalog.by_name.get(config.dead_letter_queue)
        return config, dlq.config if dlq else QueueConfig()  # dropped since: `_moved` makes it again

    def _write(self, standings: Any) -> None:
        rows = [
            (
                self.catalog.by_name[s.queue].id, int(s.state), s.attempt, s.failures, s.max_attempts, s.updated_at,
                s.available_at, s.expires_at, s.due_at, s.lease, s.holder, int(s.verdict), s.error, s.dead_letter, s.id,
            )
            for s in standings
        ]  # fmt: skip
        if rows:
            self._db.executemany(sql.WRITE, rows)

    def _keep(self, records: Sequence[tuple[int, Record]]) -> None:
        """Add to timelines. Not where room is short: what can end without them must not need more of it."""
        if records and not (self._room and self._room.short):
            kept.keep(self._db, records)
            self._unsaved += _ROW_BYTES * len(records)

    # -- what is due ---------------------------------------------------------------------------------------------------

    def _overdue(self, command: Overdue) -> Lapsed:
        items: list[Settled] = []
        gone: list[int] = []
        changed: list[Standing] = []
        records: list[tuple[int, Record]] = []
        for row in self._db.execute(sql.SELECT_DUE, (command.now, self._chunk(command.limit))).fetchall():
            before = sql.standing(row, self.catalog.names)
            if not before.queue:  # of a dropped queue
                gone.append(before.id)
                continue
            after, fate = lifecycle.overdue(before, *self._policies(before.queue), command.now)
            items.append(settled(before, Ruling(None, after, fate)))
            if fate is Fate.GONE:
                gone.append(before.id)
                self.catalog.count(self.catalog.by_name[before.queue], before.state, -1)
            else:
                changed.append(after)
                self._moved(before, after)
                if record := timeline.lapsed(before, after, fate):
                    records.append((before.id, record))
        if gone:
            self.catalog.leaving(sql.given(gone))
            self._forget(sql.DELETE, (sql.given(gone),))
        self._write(changed)
        self._keep(records)
        self._unsaved += _ROW_BYTES * len(items)
        left = self._db.execute(sql.NEXT_DUE).fetchone()
        return Lapsed(items, left[0] if left else None)

    def _redrive(self, command: Redrive) -> list[Settled]:
        home = self.catalog.row(command.queue)
        if command.source is None:
            found = self._db.execute(sql.SELECT_FAILED, (home.id, command.limit)).fetchall()
        else:
            source = self.catalog.row(command.source)
            found = self._db.execute(sql.SELECT_DEAD, (source.id, command.queue, command.limit)).fetchall()
        befores = [sql.standing(values, self.catalog.names) for values in found]
        changes = [(b, lifecycle.redrive(b, command.queue, home.config, command.now)) for b in befores]
        self._redriven(changes)
        return [settled(before, Ruling(None, after, Fate.READY)) for before, after in changes]

    def _retry(self, command: Retry) -> Settled:
        before = self._standings([command.id]).get(command.id)
        if before is None:
            return Settled(command.id, "not_found")
        ruling = lifecycle.retry(before, self.catalog.by_name[before.queue].config, command.now)
        if ruling.refusal is None and ruling.standing is not None:
            self._redriven([(before, ruling.standing)])
        return settled(before, ruling)

    def _redriven(self, changes: Sequence[tuple[Standing, Standing]]) -> None:
        for before, after in changes:
            self._moved(before, after)
        self._write(after for _, after in changes)
        self._keep([(before.id, timeline.redriven(before, after)) for before, after in changes])
        self._unsaved += _ROW_BYTES * len(changes)

    # -- administration ------------------------------------------------------------------------------------------------

    def _purge(self, command: Purge) -> int:
        row = self.catalog.row(command.queue)
        purged, limit = 0, self._chunk(command.limit)
        for state in command.states:
            self.catalog.purging(row, state, limit - purged)
            gone = self._forget(sql.PURGE, (row.id, int(state), limit - purged))
            self.catalog.count(row, state, -gone)
            purged += gone
        self._unsaved += _ROW_BYTES * purged
        return purged

    def _delete(self, message_id: int) -> Settled:
        before = self._standings([message_id]).get(message_id)
        if before is None:
            return Settled(message_id, "not_found")
        self.catalog.leaving(sql.given([message_id]))
        self._forget(sql.DELETE, (sql.given([message_id]),))
        self.catalog.count(self.catalog.by_name[before.queue], before.state, -1)
        return settled(before, Ruling(None, before, Fate.GONE))

    def _save_queue(self, command: SaveQueue) -> Queue:
        row = self.catalog.by_name.get(command.name)
        if command.replacing is not msgspec.UNSET and command.replacing != (row.queue if row else None):
            there = self.catalog.row(command.name).queue
            self._save_dead_letters(there, command.now)
            return there
        created_at, owner = (row.queue.created_at, row.queue.owner) if row else (command.now, command.owner)
        queue = Queue(command.name, command.config, command.paused, created_at, owner)
        self.catalog.save(queue)
        self._save_dead_letters(queue, command.now)
        return queue

    def _save_dead_letters(self, queue: Queue, now: int) -> None:
        dlq = queue.config.dead_letter_queue
        if dlq is not None and dlq not in self.catalog.by_name:
            self._save_queue(SaveQueue(dlq, QueueConfig(), False, now, owner=queue.owner))

    def _drop_queue(self, name: str) -> bool:
        row = self.catalog.by_name.get(name)
        if row is not None:
            self.catalog.drop(row)
        return row is not None

    def _sweep(self, command: Sweep) -> bool:
        limit = self._chunk(command.limit)
        more = self._db.execute(sql.SWEEP_DEDUP, (command.now, limit)).rowcount == limit
        if self.catalog.dropped:
            number = self.catalog.dropped[-1]
            messages = self._forget(sql.SWEEP, (number, limit))
            records = self._db.execute(sql.DROP_DEDUP, (number, limit)).rowcount
            self._unsaved += _ROW_BYTES * (messages + records)
            if max(messages, records) < limit:
                self.catalog.forget(number)
        return more or bool(self.catalog.dropped)

    def _forget(self, statement: str, values: tuple[Any, ...]) -> int:
        """Delete messages, and answer how many. Where the newest is among them its id is kept: none is made twice."""
        (before,) = self._db.execute(sql.NEWEST).fetchone()
        deleted = self._db.execute(statement, values).rowcount
        if before is not None and self._db.execute(sql.NEWEST).fetchone()[0] != before:
            self._db.execute(sql.KEEP_LAST_ID, (max(before, self.last_id()),))
        return deleted

    # -- small pieces --------------------------------------------------------------------------------------------------

    def _moved(self, before: Standing, after: Standing) -> None:
        if before.state is after.state and before.queue == after.queue:
            return
        source = self.catalog.by_name[before.queue]
        if after.queue not in self.catalog.by_name:  # no message is ever dropped silently
            self._save_queue(SaveQueue(after.queue, QueueConfig(), False, after.updated_at, owner=source.queue.owner))
        target = self.catalog.by_name[after.queue]
        self.catalog.count(source, before.state, -1)
        self.catalog.count(target, after.state, 1)
        if source is not target:
            self.catalog.moving(before.id, source, target)


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 where the error is Python's own."""
    code = getattr(error, "sqlite_errorcode", 0)
    # The index of the write-ahead log is a file too, and cannot grow on a full disk.
    return _FULL if code == sqlite3.SQLITE_IOERR_SHMSIZE else code & 0xFF


def _refusal(error: sqlite3.Error) -> BrokerError:
    code = _code(error)
    if code == _FULL:
        return disk_full()
    if code in _BUSY:
        return Overloaded("the database is busy; nothing was stored", retry_after_ms=1_000)
    log.error("the database refused a statement: %s (%s)", error, getattr(error, "sqlite_errorname", "no code"))
    return Internal("the database refused this; the broker's log says why")
