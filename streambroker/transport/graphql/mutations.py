"""The mutations. Those of one request run one after another, in the order in which they are written."""

from __future__ import annotations

from typing import Annotated

import msgspec
import strawberry
from strawberry import UNSET

from streambroker.transport.graphql import answers
from streambroker.transport.graphql.inputs import MessageInput, PublishOptions, QueueConfigInput, given, given_in
from streambroker.transport.graphql.scalars import Json, Long
from streambroker.transport.graphql.types import (
    BatchPublishedGQL,
    Info,
    MessageGQL,
    PublishedGQL,
    Purgeable,
    QueueGQL,
    SettledGQL,
)


class _Counted(msgspec.Struct):
    purged: Long | None = None
    redriven: Long | None = None


_queue = msgspec.json.Decoder(QueueGQL).decode
_published = msgspec.json.Decoder(PublishedGQL).decode
_batch_published = msgspec.json.Decoder(BatchPublishedGQL).decode
_settled = msgspec.json.Decoder(SettledGQL).decode
_counted = msgspec.json.Decoder(_Counted).decode

MessageId = Annotated[strawberry.ID, strawberry.argument(description="The message's id.")]
Lease = Annotated[
    str | None, strawberry.argument(description="The lease it was delivered with; without it only its holder may.")
]
LeaseMs = Annotated[
    Long | None, strawberry.argument(description="How long the lease lasts; the queue's `leaseMs` if not given.")
]


@strawberry.type
class Mutation:
    """Every field may be null, so that an error in one leaves the others their answers."""

    # -- queues --------------------------------------------------------------------------------------------------------

    @strawberry.mutation(description="Create a queue. The same again is no error; another configuration is `conflict`.")
    async def create_queue(self, info: Info, name: str, config: QueueConfigInput | None = None) -> QueueGQL | None:
        return _queue(await info.context.call("createQueue", body={"name": name, **given_in(config)}))

    @strawberry.mutation(description="Change a queue's configuration; members that are not given stay.")
    async def update_queue(self, info: Info, name: str, config: QueueConfigInput) -> QueueGQL | None:
        return _queue(await info.context.call("updateQueue", {"queue": name}, body=given_in(config)))

    @strawberry.mutation(description="Delete a queue and all that is in it.")
    async def delete_queue(self, info: Info, name: str) -> bool | None:
        await info.context.call("deleteQueue", {"queue": name})
        return True

    @strawberry.mutation(description="Delete messages of a queue, never what is processing; how many.")
    async def purge_queue(self, info: Info, name: str, status: Purgeable = Purgeable.pending) -> Long | None:
        answer = await info.context.call("purgeQueue", {"queue": name}, body=given({"status": status}))
        return _counted(answer).purged

    @strawberry.mutation(description="Deliver nothing from the queue; publishing goes on.")
    async def pause_queue(self, info: Info, name: str) -> QueueGQL | None:
        return _queue(await info.context.call("pauseQueue", {"queue": name}))

    @strawberry.mutation(description="Go on delivering.")
    async def resume_queue(self, info: Info, name: str) -> QueueGQL | None:
        return _queue(await info.context.call("resumeQueue", {"queue": name}))

    @strawberry.mutation(
        description="Make failed messages ready again, or those in the dead-letter queue `from`; how many."
    )
    async def redrive_queue(
        self,
        info: Info,
        name: str,
        from_: Annotated[str, strawberry.argument(name="from")] = "failed",
        limit: int | None = None,
    ) -> Long | None:
        answer = await info.context.call("redriveQueue", {"queue": name}, body={"from": from_, "limit": limit})
        return _counted(answer).redriven

    # -- messages ------------------------------------------------------------------------------------------------------

    @strawberry.mutation(description="Publish a message: JSON as `content`, or bytes as `options.contentBase64`.")
    async def publish(
        self, info: Info, queue: str, content: Json | None = UNSET, options: PublishOptions | None = None
    ) -> PublishedGQL | None:
        body = {**given({"content": content}), **given_in(options)}
        return _published(await info.context.call("publish", {"queue": queue}, body=body))

    @strawberry.mutation(description="Publish up to 1,000 messages, all or none.")
    async def publish_batch(self, info: Info, queue: str, messages: list[MessageInput]) -> BatchPublishedGQL | None:
        body = {"messages": [given_in(message) for message in messages]}
        return _batch_published(await info.context.call("publishBatch", {"queue": queue}, body=body))

    @strawberry.mutation(
        description="Take one message, or null where none comes in `waitMs`. Only the first message of a request is "
        "waited for: a client that leaves while it waits takes none with it."
    )
    async def consume(self, info: Info, queue: str, wait_ms: int = 0, lease_ms: LeaseMs = None) -> MessageGQL | None:
        asked = {"wait_ms": info.context.wait_ms(wait_ms), "lease_ms": lease_ms}
        return answers.message_or_none(await info.context.call("consume", {"queue": queue}, asked))

    @strawberry.mutation(description="Take up to `max` messages, waiting up to `waitMs` for the first, as `consume`.")
    async def consume_batch(
        self,
        info: Info,
        queue: str,
        max: int = 10,  # noqa: A002
        wait_ms: int = 0,
        lease_ms: LeaseMs = None,
    ) -> list[MessageGQL] | None:
        asked = {"max": max, "wait_ms": info.context.wait_ms(wait_ms), "lease_ms": lease_ms}
        return answers.messages(await info.context.call("consumeBatch", {"queue": queue}, body=asked))

    @strawberry.mutation(description="Acknowledge: the message is done.")
    async def ack(self, info: Info, message_id: MessageId, lease: Lease = None) -> SettledGQL | None:
        return _settled(await info.context.call("ack", {"message_id": message_id}, body={"lease": lease}))

    @strawberry.mutation(
        description="Refuse: the message fails, or with `requeue` is tried again, after `delayMs` or the backoff."
    )
    async def nack(
        self,
        info: Info,
        message_id: MessageId,
        requeue: bool = False,
        delay_ms: Long | None = None,
        reason: str | None = None,
        lease: Lease = None,
    ) -> SettledGQL | None:
        body = {"requeue": requeue, "delay_ms": delay_ms, "reason": reason, "lease": lease}
        return _settled(await info.context.call("nack", {"message_id": message_id}, body=body))

    @strawberry.mutation(description="Extend the lease, counted from now.")
    async def extend(self, info: Info, message_id: MessageId, lease_ms: Long, lease: Lease = None) -> SettledGQL | None:
        body = {"lease_ms": lease_ms, "lease": lease}
        return _settled(await info.context.call("extend", {"message_id": message_id}, body=body))

    @strawberry.mutation(description="Make a failed message ready again where it failed.")
    async def retry(self, info: Info, message_id: MessageId) -> SettledGQL | None:
        return _settled(await info.context.call("retry", {"message_id": message_id}))

    @strawberry.mutation(description="Delete one message, whatever its status; who holds it hears of it.")
    async def delete_message(self, info: Info, message_id: MessageId) -> bool | None:
        await info.context.call("deleteMessage", {"message_id": message_id})
        return True
