"""What is asked of messages beside consuming them: looked at, moved, made ready again, deleted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from streambroker.broker.clock import Clock
from streambroker.broker.events import Observers
from streambroker.broker.in_turn import in_turn
from streambroker.broker.registry import Registry
from streambroker.broker.settling import Settling
from streambroker.broker.tick import Tick
from streambroker.core.errors import Conflict, NotFound, invalid
from streambroker.core.message import STATES_OF, STATUS_OF, Message, State, Status
from streambroker.core.names import format_id
from streambroker.core.timeline import Moment, moments
from streambroker.notify.contract import Notifier
from streambroker.store.contract import Delete, Depth, Purge, Redrive, Retry, Settled, Store

log = logging.getLogger(__name__)

CHUNK = 1_000
"""Messages that one command of a purge, a redrive or the tick changes, so that none keeps the writer for long."""


@dataclass(frozen=True, slots=True)
class Administration:
    """Reads of the store, and changes by command; those who hold, wait or watch hear of what changed."""

    store: Store
    notifier: Notifier
    clock: Clock
    queues: Registry
    settling: Settling
    tick: Tick
    events: Observers

    # -- look ----------------------------------------------------------------------------------------------------------

    async def get(self, message_id: int) -> Message:
        """One message. Raises `NotFound`."""
        message = await self.store.get(message_id)
        if message is None:
            raise NotFound("there is no such message")
        return message

    async def timeline(self, message_id: int) -> tuple[Message, list[Moment]]:
        """One message, and what happened to it, the oldest first. Raises `NotFound`."""
        found = await self.store.timeline(message_id)
        if found is None:
            raise NotFound("there is no such message")
        message, records = found
        return message, moments(message, records)

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        """See `Store.browse`. Raises `NotFound`."""
        self.queues.dispatcher(queue)
        return await self.store.browse(queue, status, key, contains, limit, cursor)

    async def depth(self, name: str) -> Depth:
        """How many messages of the queue stand where."""
        return await self.store.depth(name)

    async def oldest_age_ms(self, name: str) -> int | None:
        """How long the oldest message that is ready has been waiting."""
        oldest = await self.store.oldest_ready(name)
        return None if oldest is None else max(self.clock() - oldest, 0)

    # -- change --------------------------------------------------------------------------------------------------------

    async def purge(self, name: str, states: Sequence[State]) -> int:
        """Delete the messages that stand in `states`; answers how many."""
        self.queues.dispatcher(name)
        purged = 0
        while gone := await self.store.submit(Purge(name, states, CHUNK)):
            purged += gone
        log.info("queue %s was purged of %d messages", name, purged, extra={"queue": name})
        return purged

    async def redrive(self, name: str, source: str | None, limit: int | None) -> int:
        """Failed messages, or dead letters in the queue `source`, ready again in `name`; answers how many."""
        self.queues.dispatcher(name)
        if source == name:
            raise invalid("/from", "a queue is no dead-letter queue of its own; leave it out for the failed messages")
        if source is not None:
            self.queues.dispatcher(source)
        redriven = 0
        while limit is None or redriven < limit:
            chunk = CHUNK if limit is None else min(CHUNK, limit - redriven)
            items: list[Settled] = await self.store.submit(Redrive(name, source, chunk, self.clock()))
            moved = len(items)
            redriven += moved
            self.events.redriven(name, items)
            if moved:
                self.tick.due(self.clock())
                self.notifier.notify(name)
            if moved < chunk:
                break
        log.info("%d messages were redriven into queue %s", redriven, name, extra={"queue": name})
        return redriven

    async def retry(self, message_id: int) -> Settled:
        """Make a failed message ready again where it failed. Raises `NotFound`, `Conflict` where it has not failed."""
        retried: Settled = await self.store.submit(Retry(message_id, self.clock()))
        if retried.refusal == "not_failed":
            raise Conflict(f"the message is {STATUS_OF[retried.state]}; only a failed one can be retried")
        if retried.refusal is not None:
            raise NotFound("there is no such message")
        self.events.redriven(retried.queue, [retried])
        if retried.due_at is not None:
            self.tick.due(retried.due_at)
        self.notifier.notify(retried.queue)
        _tell("retried", retried)
        return retried

    async def delete(self, message_id: int) -> Settled:
        """Delete a message from any state; a holder hears of it. Raises `NotFound`."""
        gone: Settled = await in_turn(self.store, Delete(message_id), self.settling.deleted)
        if gone.refusal is not None:
            raise NotFound("there is no such message")
        _tell("deleted", gone)
        return gone


def _tell(what: str, settled: Settled) -> None:
    message_id = format_id(settled.id)
    log.info("message %s was %s", message_id, what, extra={"message_id": message_id, "queue": settled.queue})


def states_of(status: Status | None) -> tuple[State, ...]:
    """The states that a purge of `status` empties (None: all but what is processing)."""
    if status is None:
        return State.READY, State.DELAYED, State.PROCESSED, State.FAILED
    return STATES_OF[status]
