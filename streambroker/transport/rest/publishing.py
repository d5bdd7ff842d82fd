"""Publish over REST: one message, many, raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, require
from streambroker.core.errors import Malformed, UnsupportedMediaType, invalid
from streambroker.core.names import format_id
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.messages import DraftIn, Limits, batch_digest, digest, draft
from streambroker.store.contract import Queue
from streambroker.transport import cloudevents, schemas
from streambroker.transport.auditing import ensured
from streambroker.transport.cloudevents import schema as events
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.limiting import Kind
from streambroker.transport.rawbody import raw_draft

_ENVELOPE_BYTES = 256 * 1024
_BATCH_BYTES = 32 * 1024 * 1024

_draft = JsonDecoder[DraftIn](DraftIn)
_publish = JsonDecoder[schemas.PublishIn](schemas.PublishIn)
_batch = JsonDecoder[schemas.BatchIn](schemas.BatchIn)
_KIND = Kind.MESSAGES


class PublishDoor:
    """Handlers over one broker. `limits` bounds messages."""

    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits
        # Bytes in base64 take a third more room.
        self._max_body = limits.max_message_bytes * 4 // 3 + _ENVELOPE_BYTES

    async def publish(self, call: Call) -> Reply:
        """Publish one message: JSON, or raw bytes with its options as headers, or a CloudEvent.

        A batch of CloudEvents is taken here too, and answered as by `/queues/{queue}/messages/batch`.
        """
        name = self._door_of(call)
        if (mode := cloudevents.mode_of(call)) is not None:
            return await self._publish_events(call, name, mode)
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

    async def _publish_events(self, call: Call, name: str, mode: cloudevents.Mode) -> Reply:
        if mode is cloudevents.Mode.BATCH:
            return await self._publish_event_batch(call, name)
        event = cloudevents.event(call, mode, await call.body(self._max_body))
        return await self._publish(call, name, event.given, event.content)

    async def _publish_event_batch(self, call: Call, name: str) -> Reply:
        given = cloudevents.batch(call, await call.body(_BATCH_BYTES))
        return await self._publish_many(call, name, given, "")

    async def publish_alias(self, call: Call) -> Reply:
        """Publish one message to the queue that the body names."""
        given = await call.json(_publish, self._max_body)
        require(call.user, Action.PUBLISH, given.queue)
        return await self._publish(call, given.queue, given, None)

    async def _publish(self, call: Call, name: str, given: DraftIn, content: bytes | None) -> Reply:
        queue = await ensured(self._broker, call, name)
        now = self._broker.clock()
        number = self._broker.new_ids(1, now)[0]
        trace = _trace(call)
        made = draft(given, number, queue.config, self._limits, now, trace, raw=content)
        key = _idempotency_key(call)
        if key is not None:
            if made.dedup_id is not None and made.dedup_id != key:
                raise invalid("/dedup_id", "dedup_id and the Idempotency-Key header differ; give one, or both alike")
            made.dedup_id = key
        digests = () if made.dedup_id is None else (digest(made),)
        stored = await self._broker.publish(name, [made], digests=digests, parent=trace)
        duplicate = bool(stored.duplicates)
        answer = schemas.Published(format_id(stored.ids[0]), "pending", duplicate, _durability(queue))
        return Reply(200 if duplicate else 201, encode(answer))

    async def publish_batch(self, call: Call) -> Reply:
        """Publish up to 1,000 messages, all or none; as JSON, or as a batch of CloudEvents."""
        name = self._door_of(call)
        match cloudevents.mode_of(call):
            case cloudevents.Mode.BATCH:
                return await self._publish_event_batch(call, name)
            case cloudevents.Mode.STRUCTURED:
                raise UnsupportedMediaType(f"here a batch is due; POST /queues/{name}/messages takes a single event")
        given = await call.json(_batch, _BATCH_BYTES)
        return await self._publish_many(call, name, [(one, None) for one in given.messages], "/messages")

    async def _publish_many(
        self, call: Call, name: str, given: Sequence[tuple[DraftIn, bytes | None]], at: str
    ) -> Reply:
        queue = await ensured(self._broker, call, name)
        if not given:  # a batch of events may be empty, and then there is nothing to store
            return reply(schemas.BatchPublished([], [], _durability(queue)))
        now, trace = self._broker.clock(), _trace(call)
        ids = self._broker.new_ids(len(given), now)
        drafts = [
            draft(one, number, queue.config, self._limits, now, trace, f"{at}/{index}", content)
            for index, ((one, content), number) in enumerate(zip(given, ids, strict=True))
        ]
        key = _idempotency_key(call)
        stored = await self._broker.publish(
            name,
            drafts,
            batch_key=key,
            digest=batch_digest(drafts) if key is not None else b"",
            digests=[digest(made) for made in drafts if made.dedup_id is not None],
            parent=trace,
        )
        answer = schemas.BatchPublished([format_id(i) for i in stored.ids], list(stored.duplicates), _durability(queue))
        return Reply(200 if stored.replayed or len(stored.duplicates) == len(drafts) else 201, encode(answer))

    def _door_of(self, call: Call) -> str:
        """The queue that the path names; it exists, or comes into being. Raises as `Call.queue`."""
        name = call.queue(Action.PUBLISH)
        self._broker.check_queue(name)
        return name

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        many, title = "/queues/{queue}/messages", "Publish a message"
        codes = ("draining", "overloaded", "queue_full", "storage_full")
        one = {201: schemas.Published, 200: schemas.Published}
        batch = {201: schemas.BatchPublished, 200: schemas.BatchPublished}
        all_or_none = "Publish messages, all or none"
        return [
            Endpoint(
                "POST",
                many,
                self.publish,
                title,
                DraftIn,
                one,
                codes=codes,
                raw=True,
                limit=_KIND,
                takes=events.ONE,
                headers=events.ASKED,
            ),
            Endpoint(
                "POST",
                f"{many}/batch",
                self.publish_batch,
                all_or_none,
                schemas.BatchIn,
                batch,
                codes=codes,
                limit=_KIND,
                takes=events.MANY,
            ),
            Endpoint("POST", "/publish", self.publish_alias, title, schemas.PublishIn, one, codes=codes, limit=_KIND),
        ]


def _durability(queue: Queue) -> Any:
    return "memory" if queue.config.durability == "memory" else UNSET


def _trace(call: Call) -> str | None:
    if b"traceparent" not in call.headers:
        return None
    trace = call.header(b"traceparent")
    return trace[:512] if trace else None


def _idempotency_key(call: Call) -> str | None:
    if b"idempotency-key" not in call.headers:
        return None
    key = call.header(b"idempotency-key") or ""
    if not 1 <= len(key) <= 512 or "\0" in key:
        raise invalid("/Idempotency-Key", "the header takes 1 to 512 characters")
    return key
