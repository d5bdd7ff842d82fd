"""The queries: they look, and change nothing."""

from __future__ import annotations

import msgspec
import strawberry

from streambroker.transport.graphql import answers
from streambroker.transport.graphql.types import (
    Info,
    MessageGQL,
    MessagePage,
    MessageStatus,
    QueueGQL,
    QueuePage,
    StatsGQL,
    TimelineGQL,
)

_queue = msgspec.json.Decoder(QueueGQL).decode
_queues = msgspec.json.Decoder(QueuePage).decode
_timeline = msgspec.json.Decoder(TimelineGQL).decode
_stats = msgspec.json.Decoder(StatsGQL).decode


@strawberry.type
class Query:
    """Every field may be null, so that an error in one leaves the others their answers."""

    @strawberry.field(description="The queues that you may view, by name.")
    async def queues(self, info: Info, limit: int = 50, cursor: str | None = None) -> QueuePage | None:
        return _queues(await info.context.call("queues", query={"limit": limit, "cursor": cursor}))

    @strawberry.field(description="One queue.")
    async def queue(self, info: Info, name: str) -> QueueGQL | None:
        return _queue(await info.context.call("queue", {"queue": name}))

    @strawberry.field(description="One message, wherever it stands; nothing is leased.")
    async def message(self, info: Info, message_id: strawberry.ID) -> MessageGQL | None:
        return answers.message((await info.context.call("message", {"message_id": message_id})).decode())

    @strawberry.field(description="Messages of a queue; nothing is leased. `contains` is looked for in the content.")
    async def messages(
        self,
        info: Info,
        queue: str,
        status: MessageStatus | None = None,
        key: str | None = None,
        contains: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> MessagePage | None:
        asked = {
            "status": None if status is None else status.value,
            "key": key,
            "contains": contains,
            "limit": limit,
            "cursor": cursor,
        }
        return answers.page(await info.context.call("messages", {"queue": queue}, asked))

    @strawberry.field(description="What happened to a message.")
    async def timeline(self, info: Info, message_id: strawberry.ID) -> TimelineGQL | None:
        return _timeline(await info.context.call("timeline", {"message_id": message_id}))

    @strawberry.field(description="What the broker does, as far as you may see its queues.")
    async def stats(self, info: Info) -> StatsGQL | None:
        return _stats(await info.context.call("stats"))
