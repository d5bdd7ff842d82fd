"""The publishes of one turn: what is a duplicate, what fits, who gets it at once; then all rows in few statements.

**Claim at insert**: where consumers wait and nothing older is ready, the new row is stored already leased to one of
them: one commit instead of two between publish and delivery.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from streambroker.core import lifecycle
from streambroker.core.errors import BrokerError, QueueFull
from streambroker.core.message import Draft, Message, State, Verdict, weight
from streambroker.store.contract import Claim, Publish, Published, other_content, over_quota
from streambroker.store.sharing import Shares
from streambroker.store.sql import statements as sql
from streambroker.store.sql.catalog import Catalog, QueueRow
from streambroker.store.sql.checkpoints import ROW_BYTES
from streambroker.store.sql.deleting import Deletes

_Lease = tuple[int, int, lifecycle.LeaseTerms]  # index of the claim, its now, what it gives
_READY, _DELAYED, _LEASED = State.READY, State.DELAYED, State.LEASED


class Inserts:
    """Gathers the rows of one turn; `flush()` writes them."""

    def __init__(self, connection: sqlite3.Connection, catalog: Catalog, deletes: Deletes) -> None:
        self._db = connection
        self._catalog = catalog
        self._deletes = deletes
        self._plain: dict[tuple[Any, ...], list[Any]] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._contents: list[tuple[int, bytes]] = []
        self.bytes = 0

    def add(self, command: Publish) -> Published:
        """Decide on one publish and gather its rows. Raises `NotFound`, `StorageFull`, `QueueFull` or
        `Invalid` with nothing changed.

        `claimed` is empty in the answer where the claims have to be served from the table, after `flush()`.
        """
        row = self._catalog.row(command.queue)
        if command.batch_key is None and not command.digests:
            duplicates: list[int] = []
            fresh, ids = command.drafts, [draft.id for draft in command.drafts]
            size = command.size if self._catalog.quota else 0
            dropped = self._make_room(row, len(fresh), size)
        else:
            replay = self._seen(row, True, command.batch_key, command.digest, command.now)
            if replay is not None:
                return Published(*replay, [[] for _ in command.claims], replayed=True)
            fresh, ids, duplicates, records = self._sift(row, command)
            size = sum([weight(d.content, d.attributes) for d in fresh]) if self._catalog.quota else 0
            dropped = self._make_room(row, len(fresh), size)
            self._db.executemany(sql.INSERT_DEDUP, records)
        if size:
            self._catalog.charge(row, size)
        claimed: Sequence[list[Message]] = ()
        leases: dict[int, _Lease] = {}
        if command.claims and not row.counts[State.READY] and not row.queue.paused:
            leases = self._deal(fresh, command)
            claimed = [[] for _ in command.claims]
        waiting = [draft for draft in fresh if draft.id not in leases] if leases else fresh
        delayed = 0
        for draft in waiting:
            delayed += self._gather_waiting(row, draft, command.now)
        self._catalog.count(row, State.READY, len(waiting) - delayed)
        self._catalog.count(row, State.DELAYED, delayed)
        self._catalog.count(row, State.LEASED, len(leases))
        for draft in fresh if leases else ():
            if lease := leases.get(draft.id):
                claimed[lease[0]].append(self._gather_leased(row, draft, command.now, lease))
        if len(leases) > 1 and any(draft.priority for draft in fresh):
            for got in claimed:
                got.sort(key=_order)
        return Published(ids, duplicates, claimed, row.counts[State.READY] > 0, dropped=dropped)

    def flush(self) -> None:
        """Write the rows that were gathered."""
        for shared, plain in self._plain.items():
            for size, part in _chunks(plain, 2):
                self._db.execute(sql.INSERT_PLAIN[size], (*shared, *part))
        for size, rows in _chunks(self._rows, 1):
            self._db.execute(sql.INSERT[size], [value for row in rows for value in row])
        if self._contents:
            self._db.executemany(sql.INSERT_CONTENT, self._contents)
        self._plain, self._rows, self._contents = {}, [], []

    # -- duplicates ----------------------------------------------------------------------------------------------------

    def _seen(
        self, row: QueueRow, batch: bool, key: str | None, digest: bytes, now: int
    ) -> tuple[list[int], list[int]] | None:
        """The ids and duplicates that were answered to `key`; raises `Invalid` where it stood for other content."""
        if key is None:
            return None
        found = self._db.execute(sql.SELECT_DEDUP, (row.id, batch, key, now)).fetchone()
        if found is None:
            return None
        if found[0] != digest:
            raise other_content(key)
        return msgspec.json.decode(found[1]), msgspec.json.decode(found[2])

    def _sift(self, row: QueueRow, command: Publish) -> tuple[list[Draft], list[int], list[int], list[tuple[Any, ...]]]:
        """What is new of the drafts, the ids to answer, which are duplicates, and the records to keep of all that."""
        ids: list[int] = []
        duplicates: list[int] = []
        fresh: list[Draft] = []
        here: dict[str, tuple[int, bytes]] = {}
        until = command.now + row.config.dedup_window_ms
        records: list[tuple[Any, ...]] = []
        digests = iter(command.digests)
        for index, draft in enumerate(command.drafts):
            first: int | None = None
            if draft.dedup_id is not None:
                digest = next(digests)
                first = self._first(row, draft.dedup_id, digest, command.now, here)
                if first is None:
                    here[draft.dedup_id] = draft.id, digest
                    records.append((row.id, 0, draft.dedup_id, digest, f"[{draft.id}]", "[]", until))
            if first is None:
                fresh.append(draft)
            else:
                duplicates.append(index)
            ids.append(draft.id if first is None else first)
        if command.batch_key is not None:
            records.append((row.id, 1, command.batch_key, command.digest, sql.given(ids), sql.given(duplicates), until))
        return fresh, ids, duplicates, records

    def _first(
        self, row: QueueRow, dedup_id: str, digest: bytes, now: int, here: dict[str, tuple[int, bytes]]
    ) -> int | None:
        """The id of the first message with that dedup id, in this batch or in the window."""
        if dedup_id in here:
            first, other = here[dedup_id]
            if other != digest:
                raise other_content(dedup_id)
            return first
        seen = self._seen(row, False, dedup_id, digest, now)
        return seen[0][0] if seen else None

    # -- room ----------------------------------------------------------------------------------------------------------

    def _make_room(self, row: QueueRow, fresh: int, size: int) -> int:
        """Raise `StorageFull` or `QueueFull`, or drop the oldest, so that `fresh` messages with `size` bytes together
        fit; answers how many were dropped."""
        config = row.config
        over = self._catalog.over(row, size) if size else 0
        limit = config.max_messages
        excess = sum(row.counts[: State.LEASED + 1]) + fresh - limit if limit else 0
        if (excess <= 0 and over <= 0) or not fresh:
            return 0
        drops = config.overflow == "drop_oldest"
        if over > 0 and not drops:
            raise self._over_quota(row)
        if excess > 0 and not (drops and row.counts[State.READY] + row.counts[State.DELAYED] >= excess):
            raise QueueFull(f"queue {row.queue.name} holds its max_messages ({limit}) already")
        return self._drop_oldest(row, excess, over)

    def _drop_oldest(self, row: QueueRow, excess: int, over: int) -> int:
        """At least `excess` messages, and `over` bytes. Raises `StorageFull` where all together are not as large."""
        if over > row.stored:  # whatever stands where: there is no need to look
            raise self._over_quota(row)
        self.flush()  # the oldest may be of this very turn
        dropped: list[int] = []
        counts = [0] * len(State)
        for state, number, size in self._oldest(row, sql.OLDEST_WEIGHED if over > 0 else sql.OLDEST):
            dropped.append(number)
            counts[state] += 1
            over -= size
            if len(dropped) >= excess and over <= 0:
                break
        else:
            raise self._over_quota(row)
        self._deletes.these(dropped)
        for state in (State.READY, State.DELAYED):
            self._catalog.count(row, state, -counts[state])
        self.bytes += ROW_BYTES * len(dropped)
        return len(dropped)

    def _over_quota(self, row: QueueRow) -> BrokerError:
        return over_quota(row.queue.owner, self._catalog.quota)

    def _oldest(self, row: QueueRow, statement: str) -> Iterator[tuple[State, int, int]]:
        """What waits, in the order in which it is dropped: where it stands, its id and, where that is asked, weight."""
        for state in (State.READY, State.DELAYED):
            for number, size in self._db.execute(statement, (row.id, int(state))):
                yield state, number, size

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _deal(self, drafts: Sequence[Draft], command: Publish) -> dict[int, _Lease]:
        """Who gets which of the new messages at once, in the order of delivery."""
        shares = Shares(command.claims)
        dealt: dict[int, _Lease] = {}
        for draft in sorted(drafts, key=_order) if len(drafts) > 1 else drafts:
            if draft.available_at is not None and draft.available_at > command.now:
                continue
            if draft.expires_at is not None and draft.expires_at <= command.now:
                continue
            index = shares.deal(weight(draft.content, draft.attributes))
            if index is None:
                break
            claim: Claim = command.claims[index]
            dealt[draft.id] = index, claim.now, claim.terms
        return dealt

    def _gather_waiting(self, row: QueueRow, draft: Draft, now: int) -> bool:
        """A row that waits; answers whether it is delayed."""
        if _is_plain(draft):
            self._gather_plain((row.id, 0, 0, now, None, None, None), draft)
            return False
        available = now if draft.available_at is None else draft.available_at
        state = _DELAYED if available > now else _READY
        due = lifecycle.waiting_due(state, available, draft.expires_at)
        self._gather(row, draft, int(state), 0, now, available, due, None, None, now)
        return state is _DELAYED

    def _gather_leased(self, row: QueueRow, draft: Draft, now: int, lease: _Lease) -> Message:
        """A row that is stored leased, and the message as its consumer gets it."""
        _, updated, (token, holder, until) = lease
        available = now
        if updated == now and _is_plain(draft):
            self._gather_plain((row.id, 2, 1, now, token, holder, until), draft)
        else:
            available = now if draft.available_at is None else draft.available_at
            self._gather(row, draft, 2, 1, updated, available, until, token, holder, now)
        return Message(
            draft.id, row.queue.name, _LEASED, 1, 0, draft.max_attempts, updated, available, draft.expires_at, until,
            token, holder, Verdict.NONE, None, None, draft.priority, now, draft.key, draft.attributes, draft.content,
            updated,
        )  # fmt: skip

    def _gather_plain(self, shared: tuple[Any, ...], draft: Draft) -> None:
        rows = self._plain.get(shared)
        if rows is None:
            rows = self._plain[shared] = []
        rows += (draft.id, self._inline(draft))

    def _gather(
        self,
        row: QueueRow,
        draft: Draft,
        state: int,
        attempt: int,
        updated: int,
        available: int,
        due: int | None,
        token: str | None,
        holder: str | None,
        now: int,
    ) -> None:
        self._rows.append(
            (
                draft.id, row.id, state, attempt, 0, draft.max_attempts, updated, available, draft.expires_at, due,
                token, holder, 0, None, None, updated if state == _LEASED else None, draft.priority, now, draft.key,
                draft.attributes, self._inline(draft),
            )
        )  # fmt: skip

    def _inline(self, draft: Draft) -> bytes | None:
        """The content where it stands in the message's own row; larger content is put aside."""
        size = len(draft.content)
        self.bytes += size + ROW_BYTES
        if size <= sql.INLINE_BYTES:
            return draft.content
        self._contents.append((draft.id, draft.content))
        return None


def _is_plain(draft: Draft) -> bool:
    """Whether id and content are all that there is to say of it."""
    return (
        draft.attributes is None
        and draft.key is None
        and not draft.priority
        and draft.available_at is None
        and draft.expires_at is None
        and draft.max_attempts is None
    )


def _chunks(values: list[Any], width: int) -> Iterator[tuple[int, list[Any]]]:
    """`values` in as few parts as there are statements for: how many rows of `width` values, and those."""
    start, end = 0, len(values)
    for size in sql.CHUNKS:
        while end - start >= size * width:
            yield size, values[start : start + size * width]
            start += size * width


def _order(draft: Draft | Message) -> tuple[int, int]:
    return -draft.priority, draft.id
