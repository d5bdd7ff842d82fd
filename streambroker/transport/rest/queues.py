"""Queues over REST: create, look, change, empty, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from streambroker.broker.broker import Broker, states_of
from streambroker.core.access import Action, Decision, accountable, decide, require
from streambroker.core.errors import invalid
from streambroker.core.message import Status
from streambroker.core.names import is_queue_name
from streambroker.core.policy import QueueConfigChange
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.times import rfc3339
from streambroker.store.contract import Queue
from streambroker.transport import schemas
from streambroker.transport.auditing import audited
from streambroker.transport.http import Call, Endpoint, Reply, reply

Oldest = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
"""Milliseconds since 1970, of those queues that have a message ready."""

_queue_in = JsonDecoder[schemas.QueueIn](schemas.QueueIn)
_change = JsonDecoder[QueueConfigChange](QueueConfigChange)
_purge = JsonDecoder[schemas.PurgeIn](schemas.PurgeIn)
_redrive = JsonDecoder[schemas.RedriveIn](schemas.RedriveIn)


class QueueDoor:
    """Handlers over one broker. `oldest` tells of many queues at once when their oldest ready message was published."""

    def __init__(self, broker: Broker, oldest: Oldest) -> None:
        self._broker = broker
        self._oldest = oldest

    @audited
    async def create_queue(self, call: Call) -> Reply:
        """Create a queue."""
        call.user  # noqa: B018 - who you are is asked before the body is looked at
        given = await call.json(_queue_in)
        require(call.user, Action.MANAGE, given.name)
        _may_dead_letter(call, given.name, given.dead_letter_queue)
        queue, new = await self._broker.create_queue(given.name, given.config(), accountable(call.user))
        shown = encode(await self._shown(queue))
        return Reply(201, shown, ((b"location", f"/queues/{queue.name}".encode()),)) if new else Reply(200, shown)

    async def list_queues(self, call: Call) -> Reply:
        """List the queues that one may see."""
        page = call.options(schemas.ListQuery)
        after = page.cursor or ""
        if after and not is_queue_name(after):
            raise invalid("/cursor", "is not a cursor of this list; take the last answer's next_cursor")
        seen = [
            queue
            for queue in self._broker.queues()
            if queue.name > after and decide(call.user, Action.VIEW, queue.name) is Decision.ALLOW
        ]
        shown = seen[: page.limit]
        oldest, now = await self._oldest([queue.name for queue in shown]), self._broker.clock()
        ages = {name: max(now - at, 0) for name, at in oldest.items()}
        items = [await self._with_age(queue, ages.get(queue.name)) for queue in shown]
        return reply(schemas.QueueList(items, items[-1].name if len(seen) > page.limit else None))

    async def get_queue(self, call: Call) -> Reply:
        """Look at a queue."""
        return reply(await self._shown(self._broker.queue(call.queue(Action.VIEW))))

    @audited
    async def change_queue(self, call: Call) -> Reply:
        """Change a queue's configuration; members that are absent stay."""
        name = call.queue(Action.MANAGE)
        self._broker.queue(name)
        change = await call.json(_change)
        _may_dead_letter(call, name, change.dead_letter_queue)
        return reply(await self._shown(await self._broker.change_queue(name, change)))

    @audited
    async def drop_queue(self, call: Call) -> Reply:
        """Delete a queue and everything in it."""
        await self._broker.drop_queue(call.queue(Action.MANAGE))
        return Reply(204)

    @audited
    async def purge(self, call: Call) -> Reply:
        """Delete messages of a queue, never what is processing."""
        name = call.queue(Action.MANAGE)
        self._broker.queue(name)
        given = await call.optional_json(_purge, schemas.PurgeIn())
        states = states_of(None if given.status == "all" else Status(given.status))
        return reply(schemas.Purged(await self._broker.purge(name, states)))

    @audited
    async def pause(self, call: Call) -> Reply:
        """Deliver nothing from the queue; publishing goes on."""
        return reply(await self._shown(await self._broker.pause(call.queue(Action.MANAGE), True)))

    @audited
    async def resume(self, call: Call) -> Reply:
        """Go on delivering."""
        return reply(await self._shown(await self._broker.pause(call.queue(Action.MANAGE), False)))

    @audited
    async def redrive(self, call: Call) -> Reply:
        """Make failed messages, or those of a dead-letter queue, ready again."""
        name = call.queue(Action.MANAGE)
        self._broker.queue(name)
        given = await call.optional_json(_redrive, schemas.RedriveIn())
        source = None if given.from_ == "failed" else given.from_
        if source is not None:
            require(call.user, Action.MANAGE, source)
        return reply(schemas.Redriven(await self._broker.redrive(name, source, given.limit)))

    async def _shown(self, queue: Queue) -> schemas.QueueOut:
        return await self._with_age(queue, await self._broker.oldest_age_ms(queue.name))

    async def _with_age(self, queue: Queue, age_ms: int | None) -> schemas.QueueOut:
        depth = await self._broker.depth(queue.name)
        return schemas.QueueOut(
            queue.name,
            rfc3339(queue.created_at),
            queue.paused,
            queue.config,
            schemas.Counts(depth.ready + depth.delayed, depth.delayed, depth.leased, depth.processed, depth.failed),
            schemas.RatesOut(*self._broker.rates(queue.name)),
            age_ms if depth.ready else None,
            self._broker.consumers(queue.name) if self._broker.knows(queue.name) else 0,
        )

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        one, shown = "/queues/{queue}", {200: schemas.QueueOut}
        created = {201: schemas.QueueOut, 200: schemas.QueueOut}
        page, query = {200: schemas.QueueList}, schemas.ListQuery
        purged, redriven = {200: schemas.Purged}, {200: schemas.Redriven}
        return [
            Endpoint("GET", "/queues", self.list_queues, "List queues", answers=page, query=query),
            Endpoint(
                "POST",
                "/queues",
                self.create_queue,
                "Create a queue",
                schemas.QueueIn,
                created,
                codes=("conflict",),
                answer_headers={"Location": "The path of the queue."},
            ),
            Endpoint("GET", one, self.get_queue, "Look at a queue", answers=shown),
            Endpoint("PATCH", one, self.change_queue, "Change a queue's configuration", QueueConfigChange, shown),
            Endpoint("DELETE", one, self.drop_queue, "Delete a queue", answers={204: None}),
            Endpoint("POST", f"{one}/purge", self.purge, "Purge a queue", schemas.PurgeIn, purged),
            Endpoint("POST", f"{one}/pause", self.pause, "Pause a queue", answers=shown),
            Endpoint("POST", f"{one}/resume", self.resume, "Resume a queue", answers=shown),
            Endpoint("POST", f"{one}/redrive", self.redrive, "Redrive messages", schemas.RedriveIn, redriven),
        ]


def _may_dead_letter(call: Call, name: str, target: str | msgspec.UnsetType | None) -> None:
    """Whoever has `name` send its dead letters to `target` must be allowed to publish there, and to consume here: a
    short time to live would otherwise carry away messages that it may not read. Raises `NotFound`, `Forbidden`."""
    if isinstance(target, str):
        require(call.user, Action.CONSUME, name)
        require(call.user, Action.PUBLISH, target)
