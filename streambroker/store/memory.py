"""The executable specification of a store: plain dictionaries, one obvious line for each promise, no speed.

The other engines are compared with this one, answer by answer (``tests/store/test_model.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Any

import msgspec

from streambroker.core import lifecycle, timeline
from streambroker.core.errors import BrokerError, NotFound, QueueFull
from streambroker.core.lifecycle import Fate
from streambroker.core.message import STATES_OF, Draft, Message, Standing, State, Status, Verdict, weight
from streambroker.core.policy import QueueConfig
from streambroker.core.timeline import MOST_RECORDS, Record
from streambroker.store import paging
from streambroker.store.contract import (
    Claim,
    Command,
    Delete,
    Depth,
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
    other_content,
    over_quota,
    settled,
)
from streambroker.store.sharing import Shares, by_queue

_STANDING = Standing.__struct_fields__


class MemoryEngine:
    """Everything in dictionaries; nothing survives the process."""

    def __init__(self, max_bytes_per_owner: int = 0) -> None:
        self._quota = max_bytes_per_owner
        self._queues: dict[str, Queue] = {}
        self._messages: dict[int, Message] = {}
        self._records: dict[int, list[Record]] = {}
        self._dedup: dict[tuple[str, bool, str], tuple[int, bytes, list[int], list[int]]] = {}
        self._apply: Mapping[type[Command], Callable[[Any], Any]] = {  # claims are served together
            Publish: self._publish,
            Settle: lambda settle: [self._settle(item, settle.now) for item in settle.items],
            Overdue: self._overdue,
            Redrive: self._redrive,
            Retry: self._retry,
            Purge: self._purge,
            Delete: lambda delete: self._delete(delete.id),
            SaveQueue: self._save_queue,
            DropQueue: lambda drop: self._queues.pop(drop.name, None) is not None,
            Sweep: self._sweep,
        }

    # -- one turn ------------------------------------------------------------------------------------------------------

    def turn(self, commands: Sequence[Command]) -> list[Any]:
        """Apply the commands: publishes, settles, claims, the rest."""
        answers: list[Any] = [None] * len(commands)
        rank = {Publish: 0, Settle: 1, Claim: 2}
        order = sorted(range(len(commands)), key=lambda i: rank.get(type(commands[i]), 3))
        for kind, same in groupby(order, key=lambda i: rank.get(type(commands[i]), 3)):
            indexes = list(same)
            if kind == rank[Claim]:  # shared among all who ask
                got: Sequence[Any] = self._claim([commands[i] for i in indexes])  # type: ignore[misc]
            else:
                got = [self._attempt(commands[i]) for i in indexes]
            for index, answer in zip(indexes, got, strict=True):
                answers[index] = answer
            if kind == rank[Publish]:
                self._serve({i: commands[i] for i in indexes}, answers)  # type: ignore[misc]
        self._records = {number: kept for number, kept in self._records.items() if number in self._messages}
        return answers

    def _serve(self, publishes: Mapping[int, Publish], answers: list[Any]) -> None:
        """The claims of publishes that found older messages ready, shared among all of them."""
        late = [
            i for i, p in publishes.items() if p.claims and isinstance(answers[i], Published) and not answers[i].claimed
        ]
        got = iter(self._claim([claim for i in late for claim in publishes[i].claims]))
        for i in late:
            claimed = [next(got) for _ in publishes[i].claims]
            ready = bool(self._in(publishes[i].queue, State.READY))
            answers[i] = msgspec.structs.replace(answers[i], claimed=claimed, ready=ready)

    def recover(self, now: int) -> None:
        """What a restart does: a session's lease has no session any more, and none is longer than it was given."""
        for message in self._messages.values():
            if message.state is not State.LEASED or message.queue not in self._queues:
                continue
            if message.due_at is None:
                before = _standing(message)
                after = msgspec.structs.replace(before, state=State.READY, due_at=message.expires_at)
                self._write(after, timeline.restarted(before, now))
            elif message.updated_at > now:  # the clock was set back
                message.due_at, message.updated_at = now + message.due_at - message.updated_at, now

    def _attempt(self, command: Command) -> Any:
        try:
            return self._apply[type(command)](command)
        except BrokerError as error:
            return error

    # -- publish -------------------------------------------------------------------------------------------------------

    def _publish(self, command: Publish) -> Published:
        queue = self._queue(command.queue)
        replay = self._seen(command.queue, True, command.batch_key, command.digest, command.now)
        if replay:
            return Published(replay[2], replay[3], [[] for _ in command.claims], replayed=True)
        ids: list[int] = []
        duplicates: list[int] = []
        fresh: list[Draft] = []
        here: dict[str, tuple[int, bytes]] = {}
        digests = iter(command.digests)
        for index, draft in enumerate(command.drafts):
            first = None
            if draft.dedup_id is not None:
                digest = next(digests)
                record = self._seen(command.queue, False, draft.dedup_id, digest, command.now)
                first = record[2][0] if record else None
                if draft.dedup_id in here:
                    first, other = here[draft.dedup_id]
                    if other != digest:
                        raise other_content(draft.dedup_id)
                here.setdefault(draft.dedup_id, (draft.id if first is None else first, digest))
            if first is None:
                fresh.append(draft)
            else:
                duplicates.append(index)
            ids.append(draft.id if first is None else first)
        dropped = self._make_room(queue, fresh)
        until = command.now + queue.config.dedup_window_ms
        for dedup_id, (first_id, digest) in here.items():
            if any(draft.id == first_id for draft in fresh):
                self._dedup[command.queue, False, dedup_id] = (until, digest, [first_id], [])
        if command.batch_key is not None:
            self._dedup[command.queue, True, command.batch_key] = (until, command.digest, ids, duplicates)
        older = self._in(queue.name, State.READY)
        for draft in fresh:
            self._messages[draft.id] = lifecycle.published(draft, queue.name, command.now)
        claimed = [] if older else self._claim(command.claims)
        ready = bool(self._in(queue.name, State.READY))
        return Published(ids, duplicates, claimed, ready, dropped=dropped)

    def _seen(
        self, queue: str, batch: bool, key: str | None, digest: bytes, now: int
    ) -> tuple[int, bytes, list[int], list[int]] | None:
        record = self._dedup.get((queue, batch, key)) if key is not None else None
        if record is None or record[0] <= now:
            return None
        if record[1] != digest:
            raise other_content(str(key))
        return record

    def _make_room(self, queue: Queue, fresh: Sequence[Draft]) -> int:
        """Drop the oldest where the queue does so, as many as it takes; how many. Or raise, with nothing changed."""
        config, limit = queue.config, queue.config.max_messages
        here = self._in(queue.name, State.READY, State.DELAYED, State.LEASED)
        excess = len(here) + len(fresh) - limit if limit else 0
        over = self._over(queue, fresh)
        if (excess <= 0 and over <= 0) or not fresh:
            return 0
        if over > 0 and config.overflow == "reject":
            raise over_quota(queue.owner, self._quota)
        oldest = sorted((m for m in here if m.state is not State.LEASED), key=lambda m: (m.state, m.id))
        if excess > 0 and (config.overflow == "reject" or len(oldest) < excess):
            raise QueueFull(f"queue {queue.name} holds its max_messages ({limit}) already")
        freed = [0, *accumulate(weight(m.content, m.attributes) for m in oldest)]
        enough = next((n for n, size in enumerate(freed) if n >= excess and size >= over), None)
        if enough is None:
            raise over_quota(queue.owner, self._quota)
        for message in oldest[:enough]:
            del self._messages[message.id]
        return enough

    def _over(self, queue: Queue, fresh: Sequence[Draft]) -> int:
        """By how many bytes these are more than the owner of the queue may store."""
        stored = sum(self.stored(name) for name, other in self._queues.items() if other.owner == queue.owner)
        size = sum(weight(draft.content, draft.attributes) for draft in fresh)
        return stored + size - self._quota if self._quota and queue.owner and size else 0

    # -- claim, settle, what is due ------------------------------------------------------------------------------------

    def _claim(self, claims: Sequence[Claim]) -> list[list[Message]]:
        got: list[list[Message]] = [[] for _ in claims]
        for queue, indexes in by_queue(claims):
            if queue not in self._queues or self._queues[queue].paused:
                continue
            shares = Shares([claims[i] for i in indexes])
            now = claims[indexes[0]].now
            for message in sorted(self._in(queue, State.READY), key=lambda m: (-m.priority, m.id)):
                if message.expires_at is not None and message.expires_at <= now:
                    continue
                dealt = shares.deal(weight(message.content, message.attributes))
                if dealt is None:
                    break
                claim = claims[indexes[dealt]]
                message.state, message.attempt, message.verdict = State.LEASED, message.attempt + 1, Verdict.NONE
                message.lease, message.holder, message.due_at = claim.terms
                message.updated_at = message.delivered_at = claim.now
                got[indexes[dealt]].append(msgspec.structs.replace(message))
        return got

    def _settle(self, asked: lifecycle.Settlement, now: int) -> Settled:
        message = self._messages.get(asked.id)
        if message is None or message.queue not in self._queues:
            return Settled(asked.id, "not_found")
        before = _standing(message)
        config, dlq = self._policies(message.queue)
        ruling = lifecycle.settle(before, asked, config, dlq, now)
        if ruling.standing is not None:
            self._write(ruling.standing, timeline.settled(before, asked, ruling))
        return settled(before, ruling)

    def _overdue(self, command: Overdue) -> Lapsed:
        waiting = sorted(
            (m for m in self._messages.values() if m.due_at is not None and m.queue in self._queues),
            key=lambda m: (m.due_at or 0, m.id),
        )
        items: list[Settled] = []
        for message in waiting[: command.limit]:
            if message.due_at is None or message.due_at > command.now:
                break
            before = _standing(message)
            after, fate = lifecycle.overdue(before, *self._policies(message.queue), command.now)
            if fate is Fate.GONE:
                del self._messages[message.id]
            else:
                self._write(after, timeline.lapsed(before, after, fate))
            items.append(settled(before, lifecycle.Ruling(None, after, fate)))
        left = [m.due_at for m in self._messages.values() if m.due_at is not None and m.queue in self._queues]
        return Lapsed(items, min(left, default=None))

    def _redrive(self, command: Redrive) -> list[Settled]:
        config = self._queue(command.queue).config
        if command.source is None:
            found = self._in(command.queue, State.FAILED)
        else:
            self._queue(command.source)
            found = [
                m
                for m in self._in(command.source, State.READY, State.DELAYED, State.FAILED)
                if m.dead_letter and msgspec.json.decode(m.dead_letter)["queue"] == command.queue
            ]
        items: list[Settled] = []
        for message in sorted(found, key=paging.position)[: command.limit]:
            before = _standing(message)
            after = lifecycle.redrive(before, command.queue, config, command.now)
            self._write(after, timeline.redriven(before, after))
            items.append(settled(before, lifecycle.Ruling(None, after, Fate.READY)))
        return items

    def _retry(self, command: Retry) -> Settled:
        message = self._messages.get(command.id)
        if message is None or message.queue not in self._queues:
            return Settled(command.id, "not_found")
        before = _standing(message)
        ruling = lifecycle.retry(before, self._queues[message.queue].config, command.now)
        if ruling.refusal is None and ruling.standing is not None:
            self._write(ruling.standing, timeline.redriven(before, ruling.standing))
        return settled(before, ruling)

    # -- administration ------------------------------------------------------------------------------------------------

    def _purge(self, command: Purge) -> int:
        self._queue(command.queue)
        found = sorted(self._in(command.queue, *command.states), key=paging.position)[: command.limit]
        for message in found:
            del self._messages[message.id]
        return len(found)

    def _delete(self, message_id: int) -> Settled:
        message = self._messages.get(message_id)
        if message is None or message.queue not in self._queues:
            return Settled(message_id, "not_found")
        del self._messages[message_id]
        before = _standing(message)
        return settled(before, lifecycle.Ruling(None, before, Fate.GONE))

    def _save_queue(self, command: SaveQueue) -> Queue:
        old = self._queues.get(command.name)
        if command.replacing is not msgspec.UNSET and command.replacing != old:
            there = old or self._queue(command.name)
            self._save_dead_letters(there, command.now)
            return there
        if old is None:  # what a dropped queue of that name left behind is not the new one's
            self._forget(command.name)
        created_at, owner = (old.created_at, old.owner) if old else (command.now, command.owner)
        queue = Queue(command.name, command.config, command.paused, created_at, owner)
        self._queues[command.name] = queue
        self._save_dead_letters(queue, command.now)
        return queue

    def _save_dead_letters(self, queue: Queue, now: int) -> None:
        dlq = queue.config.dead_letter_queue
        if dlq is not None and dlq not in self._queues:
            self._save_queue(SaveQueue(dlq, QueueConfig(), False, now, owner=queue.owner))

    def _sweep(self, command: Sweep) -> bool:
        for name in {m.queue for m in self._messages.values()} - self._queues.keys():
            self._forget(name)
        self._dedup = {key: record for key, record in self._dedup.items() if record[0] > command.now}
        return False

    def _forget(self, name: str) -> None:
        self._messages = {i: m for i, m in self._messages.items() if m.queue != name}
        self._dedup = {key: record for key, record in self._dedup.items() if key[0] != name}

    # -- reads ---------------------------------------------------------------------------------------------------------

    def get(self, message_id: int) -> Message | None:
        message = self._messages.get(message_id)
        return msgspec.structs.replace(message) if message and message.queue in self._queues else None

    def timeline(self, message_id: int) -> tuple[Message, list[Record]] | None:
        message = self.get(message_id)
        return (message, list(self._records.get(message_id, ()))) if message else None

    def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        after = paging.parse(cursor)
        states = STATES_OF[status] if status else tuple(State)
        found = [
            m
            for m in sorted(self._in(queue, *states), key=paging.position)
            if (key is None or m.key == key)
            and (contains is None or contains in m.content)
            and (after is None or paging.position(m) > after)
        ]
        page = [msgspec.structs.replace(m) for m in found[:limit]]
        return page, paging.cursor(page[-1]) if len(found) > limit else None

    def queues(self) -> list[Queue]:
        return sorted(self._queues.values(), key=lambda q: q.name)

    def depth(self, queue: str) -> Depth:
        return Depth(*(len(self._in(queue, state)) for state in State))

    def stored(self, queue: str) -> int:
        """The bytes that count against the quota of the queue's owner."""
        return sum(weight(message.content, message.attributes) for message in self._in(queue, *State))

    def leases(self) -> list[tuple[str, str, int]]:
        leased = [m for m in self._messages.values() if m.state is State.LEASED and m.queue in self._queues]
        return [(*of, count) for of, count in sorted(Counter((m.queue, m.holder or "") for m in leased).items())]

    def oldest_ready(self, queue: str) -> int | None:
        return min((m.created_at for m in self._in(queue, State.READY)), default=None)

    # -- small pieces --------------------------------------------------------------------------------------------------

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            raise NotFound(f"there is no queue {name}")
        return self._queues[name]

    def _policies(self, name: str) -> tuple[QueueConfig, QueueConfig | None]:
        config = self._queues[name].config
        if config.dead_letter_queue is None:
            return config, None
        dlq = self._queues.get(config.dead_letter_queue)
        return config, dlq.config if dlq else QueueConfig()  # dropped since: `_write` makes it again

    def _in(self, queue: str, *states: State) -> list[Message]:
        if queue not in self._queues:
            return []
        return [m for m in self._messages.values() if m.queue == queue and m.state in states]

    def _write(self, after: Standing, record: Record | None) -> None:
        message = self._messages[after.id]
        if after.queue not in self._queues:  # no message is ever dropped silently
            owner = self._queues[message.queue].owner
            self._save_queue(SaveQueue(after.queue, QueueConfig(), False, after.updated_at, owner=owner))
        for field in _STANDING:
            setattr(message, field, getattr(after, field))
        if record is not None:
            self._records[after.id] = [*self._records.get(after.id, ()), record][-MOST_RECORDS:]


def _standing(message: Message) -> Standing:
    return Standing(*(getattr(message, field) for field in _STANDING))
