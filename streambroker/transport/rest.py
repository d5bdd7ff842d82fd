"""The REST door: queues and messages."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from streambroker.broker.broker import Broker, states_of
from streambroker.core.access import Action, Decision, Role, decide, require
from streambroker.core.errors import (
    AlreadySettled,
    BrokerError,
    LeaseLost,
    Malformed,
    NotFound,
    NotProcessing,
    invalid,
)
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import STATUS_OF, Draft, Message, State, Status
from streambroker.core.names import format_id, is_queue_name, parse_id
from streambroker.core.policy import QueueConfigChange
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.messages import DraftIn, Limits, MessageOut, digest, draft, shown
from streambroker.protocol.times import rfc3339
from streambroker.store.contract import Queue
from streambroker.store.contract import Settled as SettledRow
from streambroker.transport import schemas
from streambroker.transport.http import Call, ClientLeft, Counters, Endpoint, Reply, reply
from streambroker.transport.rawbody import raw_draft

_ENVELOPE_BYTES = 256 * 1024
_BATCH_BYTES = 32 * 1024 * 1024
_REFUSALS: dict[str, tuple[type[BrokerError], str]] = {
    "not_found": (NotFound, "there is no such message"),
    "not_processing": (NotProcessing, "nobody is processing the message; give the lease you were delivered it with"),
    "lease_lost": (LeaseLost, "the lease is not the message's newest one, or is another user's"),
    "already_settled": (AlreadySettled, "the lease was used already, for another verdict"),
}

_queue_in = JsonDecoder[schemas.QueueIn](schemas.QueueIn)
_change = JsonDecoder[QueueConfigChange](QueueConfigChange)
_purge = JsonDecoder[schemas.PurgeIn](schemas.PurgeIn)
_redrive = JsonDecoder[schemas.RedriveIn](schemas.RedriveIn)
_draft = JsonDecoder[DraftIn](DraftIn)
_publish = JsonDecoder[schemas.PublishIn](schemas.PublishIn)
_batch = JsonDecoder[schemas.BatchIn](schemas.BatchIn)
_consume = JsonDecoder[schemas.ConsumeIn](schemas.ConsumeIn)
_consume_many = JsonDecoder[schemas.ConsumeManyIn](schemas.ConsumeManyIn)
_ack = JsonDecoder[schemas.AckIn](schemas.AckIn)
_nack = JsonDecoder[schemas.NackIn](schemas.NackIn)
_extend = JsonDecoder[schemas.ExtendIn](schemas.ExtendIn)
_acks = JsonDecoder[schemas.AcksIn](schemas.AcksIn)
_nacks = JsonDecoder[schemas.NacksIn](schemas.NacksIn)
_extends = JsonDecoder[schemas.ExtendsIn](schemas.ExtendsIn)


class Rest:
    """Handlers over one broker. `limits` bounds messages."""

    def __init__(self, broker: Broker, limits: Limits, counters: Counters) -> None:
        self._broker = broker
        self._limits = limits
        self._counters = counters
        # Bytes in base64 take a third more room.
        self._max_body = limits.max_message_bytes * 4 // 3 + _ENVELOPE_BYTES

    # -- queues --------------------------------------------------------------------------------------------------------

    async def create_queue(self, call: Call) -> Reply:
        """Create a queue."""
        call.user  # noqa: B018 - who you are is asked before the body is looked at
        given = await call.json(_queue_in)
        require(call.user, Action.MANAGE, given.name)
        _may_dead_letter(call, given.dead_letter_queue)
        queue, new = await self._broker.create_queue(given.name, given.config())
        return reply(await self._shown(queue), 201 if new else 200)

    async def list_queues(self, call: Call) -> Reply:
        """List the queues that one may see."""
        page = call.options(schemas.ListQuery)
        after = page.cursor or ""
        if after and not is_queue_name(after):
            raise invalid("/cursor", "is not a cursor of this list; take the last answer's next_cursor")
        seen = [
            queue
            for queue in self._broker.queues()
            if queue.name > after and decide(call.user, Action.VIEW, queue.name) is not Decision.HIDDEN
        ]
        items = [await self._shown(queue) for queue in seen[: page.limit]]
        return reply(schemas.QueueList(items, items[-1].name if len(seen) > page.limit else None))

    async def get_queue(self, call: Call) -> Reply:
        """Look at a queue."""
        return reply(await self._shown(self._broker.queue(call.queue(Action.VIEW))))

    async def change_queue(self, call: Call) -> Reply:
        """Change a queue's configuration; members that are absent stay."""
        name = call.queue(Action.MANAGE)
        self._broker.queue(name)
        change = await call.json(_change)
        _may_dead_letter(call, change.dead_letter_queue)
        return reply(await self._shown(await self._broker.change_queue(name, change)))

    async def drop_queue(self, call: Call) -> Reply:
        """Delete a queue and everything in it."""
        await self._broker.drop_queue(call.queue(Action.MANAGE))
        return Reply(204)

    async def purge(self, call: Call) -> Reply:
        """Delete messages of a queue, never what is processing."""
        name = call.queue(Action.MANAGE)
        self._broker.queue(name)
        given = await call.optional_json(_purge, schemas.PurgeIn())
        states = states_of(None if given.status == "all" else Status(given.status))
        return reply(schemas.Purged(await self._broker.purge(name, states)))

    async def pause(self, call: Call) -> Reply:
        """Deliver nothing from the queue; publishing goes on."""
        return reply(await self._shown(await self._broker.pause(call.queue(Action.MANAGE), True)))

    async def resume(self, call: Call) -> Reply:
        """Go on delivering."""
        return reply(await self._shown(await self._broker.pause(call.queue(Action.MANAGE), False)))

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
        depth = await self._broker.depth(queue.name)
        return schemas.QueueOut(
            queue.name,
            rfc3339(queue.created_at),
            queue.paused,
            queue.config,
            schemas.Counts(depth.ready + depth.delayed, depth.delayed, depth.leased, depth.processed, depth.failed),
            schemas.RatesOut(*self._broker.rates(queue.name)),
            await self._broker.oldest_age_ms(queue.name) if depth.ready else None,
            self._broker.consumers(queue.name) if self._broker.knows(queue.name) else 0,
        )

    # -- publish -------------------------------------------------------------------------------------------------------

    async def publish(self, call: Call) -> Reply:
        """Publish one message: JSON, or raw bytes with its options as headers."""
        name = self._door_of(call, Action.PUBLISH)
        body = await call.body(self._max_body)
        if call.is_json():
            if not body:
                raise Malformed(
                    "the body is empty; this call takes a JSON object, or raw bytes of another Content-Type"
                )
            given, content = _draft(body), None
        else:
            given, content = raw_draft(call), body
        return await self._publish(call, name, given, content)

    async def publish_alias(self, call: Call) -> Reply:
        """Publish one message to the queue that the body names."""
        given = await call.json(_publish, self._max_body)
        require(call.user, Action.PUBLISH, given.queue)
        return await self._publish(call, given.queue, given, None)

    async def _publish(self, call: Call, name: str, given: DraftIn, content: bytes | None) -> Reply:
        queue = await self._broker.ensure_queue(name)
        now = self._broker.clock()
        number = self._broker.new_ids(1, now)[0]
        made = draft(given, number, queue.config, self._limits, now, _trace(call), raw=content)
        key = _idempotency_key(call)
        if key is not None:
            if made.dedup_id is not None and made.dedup_id != key:
                raise invalid("/dedup_id", "dedup_id and the Idempotency-Key header differ; give one, or both alike")
            made.dedup_id = key
        digests = () if made.dedup_id is None else (digest(made),)
        stored = await self._broker.publish(name, [made], digests=digests)
        duplicate = bool(stored.duplicates)
        answer = schemas.Published(format_id(stored.ids[0]), "pending", duplicate, _durability(queue))
        return Reply(200 if duplicate else 201, encode(answer))

    async def publish_batch(self, call: Call) -> Reply:
        """Publish up to 1,000 messages, all or none."""
        name = self._door_of(call, Action.PUBLISH)
        given = await call.json(_batch, _BATCH_BYTES)
        queue = await self._broker.ensure_queue(name)
        now, trace = self._broker.clock(), _trace(call)
        ids = self._broker.new_ids(len(given.messages), now)
        drafts = [
            draft(one, number, queue.config, self._limits, now, trace, f"/messages/{index}")
            for index, (one, number) in enumerate(zip(given.messages, ids, strict=True))
        ]
        key = _idempotency_key(call)
        stored = await self._broker.publish(
            name,
            drafts,
            batch_key=key,
            digest=_batch_digest(drafts) if key is not None else b"",
            digests=[digest(made) for made in drafts if made.dedup_id is not None],
        )
        answer = schemas.BatchPublished([format_id(i) for i in stored.ids], list(stored.duplicates), _durability(queue))
        return Reply(200 if stored.replayed or len(stored.duplicates) == len(drafts) else 201, encode(answer))

    # -- consume -------------------------------------------------------------------------------------------------------

    async def consume_one(self, call: Call) -> Reply:
        """Take one message, or null."""
        name = self._door_of(call, Action.CONSUME)
        asked = call.options(schemas.ConsumeQuery)
        messages = await self._consume(call, [name], 1, asked.wait_ms, asked.lease_ms)
        return Reply(200, messages[0] if messages else b"null")

    async def consume(self, call: Call) -> Reply:
        """Take up to `max` messages."""
        name = self._door_of(call, Action.CONSUME)
        asked = await call.optional_json(_consume, schemas.ConsumeIn())
        return _messages(await self._consume(call, [name], asked.max, asked.wait_ms, asked.lease_ms))

    async def consume_many(self, call: Call) -> Reply:
        """Take up to `max` messages of whichever of several queues has some first."""
        call.user  # noqa: B018
        asked = await call.json(_consume_many)
        names = list(dict.fromkeys(asked.queues))
        for name in names:
            require(call.user, Action.CONSUME, name)
        return _messages(await self._consume(call, names, asked.max, asked.wait_ms, asked.lease_ms))

    def _door_of(self, call: Call, action: Action) -> str:
        """The queue that the path names; it exists, or comes into being. Raises as `Call.queue`."""
        name = call.queue(action)
        self._broker.check_queue(name)
        return name

    async def _consume(
        self, call: Call, names: Sequence[str], limit: int, wait_ms: int, lease_ms: int | None
    ) -> list[bytes]:
        for name in names:
            await self._broker.ensure_queue(name)
        consuming = self._broker.consume(names, call.user.username, limit, wait_ms, lease_ms)
        messages = await (self._while_connected(call, consuming) if wait_ms else consuming)
        return [shown(message, self._broker.queue(message.queue).config, delivered=True) for message in messages]

    async def _while_connected(self, call: Call, consuming: Any) -> Any:
        """Await, but let go when the client hangs up: it takes no message along. Raises `ClientLeft`."""
        waiting = asyncio.ensure_future(consuming)
        gone = asyncio.ensure_future(call.gone())
        self._counters.long_polls += 1
        try:
            await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                return waiting.result()
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._broker.release(waiting.result())
            raise ClientLeft
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._broker.release(waiting.result())
            raise
        finally:
            self._counters.long_polls -= 1
            waiting.cancel()
            gone.cancel()

    # -- settle --------------------------------------------------------------------------------------------------------

    async def ack(self, call: Call) -> Reply:
        """Acknowledge: the message is done."""
        number = await self._mine(call)
        given = await call.optional_json(_ack, schemas.AckIn())
        return await self._settle(call, _acked(number, given, call))

    async def nack(self, call: Call) -> Reply:
        """Refuse: the message fails, or is tried again."""
        number = await self._mine(call)
        asked = call.options(schemas.NackQuery)
        given = await call.optional_json(_nack, schemas.NackIn())
        if asked.requeue is not None and asked.requeue in ("true", "True", "1"):
            given = msgspec.structs.replace(given, requeue=True)
        return await self._settle(call, self._nacked(number, given, call))

    async def extend(self, call: Call) -> Reply:
        """Extend the lease, counted from now."""
        number = await self._mine(call)
        return await self._settle(call, self._extended(number, await call.json(_extend), call))

    async def ack_many(self, call: Call) -> Reply:
        """Acknowledge many; each is judged on its own."""
        items = (await call.json(_acks)).items
        return await self._settle_many(
            call, [(i.message_id, _acked(parse_id(i.message_id) or 0, i, call)) for i in items]
        )

    async def nack_many(self, call: Call) -> Reply:
        """Refuse many; each is judged on its own."""
        items = (await call.json(_nacks)).items
        return await self._settle_many(
            call, [(i.message_id, self._nacked(parse_id(i.message_id) or 0, i, call)) for i in items]
        )

    async def extend_many(self, call: Call) -> Reply:
        """Extend many leases; each is judged on its own."""
        items = (await call.json(_extends)).items
        return await self._settle_many(
            call, [(i.message_id, self._extended(parse_id(i.message_id) or 0, i, call)) for i in items]
        )

    async def _mine(self, call: Call) -> int:
        """The message that the path names, where one may consume its queue. Raises `NotFound` or `Forbidden`."""
        number = call.message_id()
        await self._may_settle(call, number)
        return number

    async def _may_settle(self, call: Call, number: int) -> None:
        if call.user.role is not Role.ADMIN:  # who may do everything need not be looked up
            _require_message(call, Action.CONSUME, await self._broker.get(number))

    def _nacked(self, number: int, given: schemas.NackIn, call: Call) -> Settlement:
        return Settlement(
            number,
            Event.REQUEUE if given.requeue else Event.REJECT,
            given.lease,
            call.user.username,
            given.delay_ms,
            given.reason,
            chance=self._broker.chance(),
        )

    def _extended(self, number: int, given: schemas.ExtendIn, call: Call) -> Settlement:
        until = self._broker.clock() + given.lease_ms
        return Settlement(number, Event.EXTEND, given.lease, call.user.username, until=until)

    async def _settle(self, call: Call, item: Settlement) -> Reply:
        (settled,) = await self._broker.settle([item])
        if settled.refusal is not None:
            kind, detail = _REFUSALS[settled.refusal]
            raise kind(detail)
        return reply(_settled(settled, item.event))

    async def _settle_many(self, call: Call, asked: list[tuple[str, Settlement]]) -> Reply:
        results = [schemas.Result(text, False, "not_found") for text, _ in asked]
        todo: list[int] = []
        for index, (_, item) in enumerate(asked):
            try:
                if item.id:
                    await self._may_settle(call, item.id)
                    todo.append(index)
            except BrokerError as error:
                results[index].code = error.code
        settled = await self._broker.settle([asked[index][1] for index in todo]) if todo else []
        for index, one in zip(todo, settled, strict=True):
            results[index] = schemas.Result(asked[index][0], one.refusal is None, one.refusal)
        return reply(schemas.Results(results))

    # -- look ----------------------------------------------------------------------------------------------------------

    async def browse(self, call: Call) -> Reply:
        """Look at messages without leasing them."""
        name = call.queue(Action.VIEW)
        queue = self._broker.queue(name)
        asked = call.options(schemas.BrowseQuery)
        status = Status(asked.status) if asked.status else None
        needle = asked.contains.encode() if asked.contains else None
        messages, cursor = await self._broker.browse(name, status, asked.key, needle, asked.limit, asked.cursor)
        items = b",".join(shown(message, queue.config) for message in messages)
        return Reply(200, b'{"items":[%b],"next_cursor":%b}' % (items, encode(cursor)))

    async def get_message(self, call: Call) -> Reply:
        """Look at one message."""
        message = await self._broker.get(call.message_id())
        _require_message(call, Action.VIEW, message)
        return Reply(200, shown(message, self._broker.queue(message.queue).config))

    async def delete_message(self, call: Call) -> Reply:
        """Delete one message, whatever its status; who holds it hears of it."""
        number = call.message_id()
        _require_message(call, Action.MANAGE, await self._broker.get(number))
        await self._broker.delete(number)
        return reply(schemas.Deleted(format_id(number)))

    # -- the table -----------------------------------------------------------------------------------------------------

    def endpoints(self) -> list[Endpoint]:
        """What this door serves; the busiest paths first, for the router looks from the top."""
        one, many = "/queues/{queue}", "/queues/{queue}/messages"
        settle, full = ("not_found", "not_processing", "lease_lost", "already_settled"), ("queue_full", "storage_full")
        item = "/messages/{message_id}"
        return [
            Endpoint(
                "POST",
                many,
                self.publish,
                "Publish a message",
                DraftIn,
                {201: schemas.Published, 200: schemas.Published},
                codes=("draining", "overloaded", *full),
                raw=True,
            ),
            Endpoint(
                "GET",
                many,
                self.browse,
                "Browse messages",
                answers={200: schemas.MessagePage},
                query=schemas.BrowseQuery,
            ),
            Endpoint(
                "POST",
                f"{item}/ack",
                self.ack,
                "Acknowledge a message",
                schemas.AckIn,
                {200: schemas.Settled},
                codes=settle,
            ),
            Endpoint(
                "POST",
                f"{item}/nack",
                self.nack,
                "Refuse a message",
                schemas.NackIn,
                {200: schemas.Settled},
                schemas.NackQuery,
                codes=settle,
            ),
            Endpoint(
                "POST",
                f"{item}/extend",
                self.extend,
                "Extend a lease",
                schemas.ExtendIn,
                {200: schemas.Settled},
                codes=settle,
            ),
            Endpoint(
                "GET",
                f"{many}/consume",
                self.consume_one,
                "Consume a message",
                answers={200: MessageOut | None},
                query=schemas.ConsumeQuery,
                head=False,
            ),
            Endpoint(
                "POST", f"{many}/consume", self.consume, "Consume messages", schemas.ConsumeIn, {200: schemas.Messages}
            ),
            Endpoint(
                "POST",
                f"{many}/batch",
                self.publish_batch,
                "Publish messages, all or none",
                schemas.BatchIn,
                {201: schemas.BatchPublished, 200: schemas.BatchPublished},
                codes=("draining", "overloaded", *full),
            ),
            Endpoint(
                "POST",
                "/publish",
                self.publish_alias,
                "Publish a message",
                schemas.PublishIn,
                {201: schemas.Published, 200: schemas.Published},
                codes=("draining", "overloaded", *full),
            ),
            Endpoint(
                "POST",
                "/consume",
                self.consume_many,
                "Consume from several queues",
                schemas.ConsumeManyIn,
                {200: schemas.Messages},
            ),
            Endpoint(
                "POST", "/messages/ack", self.ack_many, "Acknowledge messages", schemas.AcksIn, {200: schemas.Results}
            ),
            Endpoint(
                "POST", "/messages/nack", self.nack_many, "Refuse messages", schemas.NacksIn, {200: schemas.Results}
            ),
            Endpoint(
                "POST", "/messages/extend", self.extend_many, "Extend leases", schemas.ExtendsIn, {200: schemas.Results}
            ),
            Endpoint("GET", item, self.get_message, "Look at a message", answers={200: MessageOut}),
            Endpoint("DELETE", item, self.delete_message, "Delete a message", answers={200: schemas.Deleted}),
            Endpoint(
                "GET",
                "/queues",
                self.list_queues,
                "List queues",
                answers={200: schemas.QueueList},
                query=schemas.ListQuery,
            ),
            Endpoint(
                "POST",
                "/queues",
                self.create_queue,
                "Create a queue",
                schemas.QueueIn,
                {201: schemas.QueueOut, 200: schemas.QueueOut},
                codes=("conflict",),
            ),
            Endpoint("GET", one, self.get_queue, "Look at a queue", answers={200: schemas.QueueOut}),
            Endpoint(
                "PATCH",
                one,
                self.change_queue,
                "Change a queue's configuration",
                QueueConfigChange,
                {200: schemas.QueueOut},
            ),
            Endpoint("DELETE", one, self.drop_queue, "Delete a queue", answers={204: None}),
            Endpoint("POST", f"{one}/purge", self.purge, "Purge a queue", schemas.PurgeIn, {200: schemas.Purged}),
            Endpoint("POST", f"{one}/pause", self.pause, "Pause a queue", answers={200: schemas.QueueOut}),
            Endpoint("POST", f"{one}/resume", self.resume, "Resume a queue", answers={200: schemas.QueueOut}),
            Endpoint(
                "POST", f"{one}/redrive", self.redrive, "Redrive messages", schemas.RedriveIn, {200: schemas.Redriven}
            ),
        ]


def _may_dead_letter(call: Call, queue: str | msgspec.UnsetType | None) -> None:
    """Whoever names a dead-letter queue sends messages there, so must be allowed to. Raises `NotFound`, `Forbidden`."""
    if isinstance(queue, str):
        require(call.user, Action.PUBLISH, queue)


def _require_message(call: Call, action: Action, message: Message) -> None:
    """Raise `NotFound`, as for a message that does not exist, or `Forbidden`."""
    if decide(call.user, action, message.queue) is Decision.HIDDEN:
        raise NotFound("there is no such message")
    require(call.user, action, message.queue)


def _messages(messages: list[bytes]) -> Reply:
    return Reply(200, b'{"messages":[%b]}' % b",".join(messages))


def _acked(number: int, given: schemas.AckIn, call: Call) -> Settlement:
    return Settlement(number, Event.ACK, given.lease, call.user.username)


def _settled(settled: SettledRow, event: Event) -> schemas.Settled:
    out = schemas.Settled(format_id(settled.id), STATUS_OF[settled.state].value, settled.now_in, settled.attempt)
    if settled.already:
        if event is Event.ACK:
            out.already_acked = True
        else:
            out.already_nacked = True
    if event is Event.EXTEND:
        out.lease_expires_at = None if settled.due_at is None else rfc3339(settled.due_at)
    elif settled.state is State.DELAYED:
        out.available_at = rfc3339(settled.available_at)
    return out


def _durability(queue: Queue) -> Any:
    return "memory" if queue.config.durability == "memory" else UNSET


def _trace(call: Call) -> str | None:
    trace = call.header(b"traceparent")
    return trace[:512] if trace else None


def _idempotency_key(call: Call) -> str | None:
    key = call.header(b"idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 512 or "\0" in key:
        raise invalid("/Idempotency-Key", "the header takes 1 to 512 characters")
    return key


def _batch_digest(drafts: Sequence[Draft]) -> bytes:
    whole = hashlib.blake2b(digest_size=16)
    for one in drafts:
        whole.update(len(one.content).to_bytes(8, "big"))
        whole.update(one.content)
    return whole.digest()
