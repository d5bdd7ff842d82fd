"""The subscription: what happens in a queue, from now on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator

import strawberry

from streambroker.broker.events import QueueEvent
from streambroker.core.access import Action, Principal, require
from streambroker.core.errors import BrokerError, invalid
from streambroker.core.names import format_id, is_queue_name
from streambroker.protocol.times import rfc3339
from streambroker.transport.graphql.scalars import Time
from streambroker.transport.graphql.types import EventGQL, Info, MessageStatus, QueueEventName

MOST = 1_000
"""Events that wait for a subscriber; what happens beyond them is counted and left out."""
_TOLD = {name.value: name for name in QueueEventName}


class Watch:
    """The events of one queue for one subscriber, as `events.Observer` and `request.Stream`. Ends by `ended`."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.dropped = 0
        self.ended: BrokerError | None = None
        self._events: deque[tuple[QueueEvent, int]] = deque()
        self._something = asyncio.Event()

    def happened(self, events: Iterator[QueueEvent], count: int) -> None:
        """See `broker.events.Observer`."""
        for event in events:
            if event.event not in _TOLD:
                continue
            if len(self._events) >= MOST:
                self.dropped += 1
                continue
            self._events.append((event, self.dropped))
            self.dropped = 0
        self._something.set()

    def recognized(self, principal: Principal) -> None:
        """See `request.Stream`: whoever may view the queue no more hears no more of it."""
        try:
            require(principal, Action.VIEW, self.queue)
        except BrokerError as error:
            self.ended = error
            self._something.set()

    async def next(self) -> tuple[QueueEvent, int]:
        """The next event, and how many before it were left out. Raises what it ended by."""
        while self.ended is None and not self._events:
            self._something.clear()
            await self._something.wait()
        if self.ended is not None:
            raise self.ended
        return self._events.popleft()


@strawberry.type
class Subscription:
    """Over WebSocket only."""

    @strawberry.subscription(description="What happens to the messages of a queue from now on. Needs `view` on it.")
    async def events(self, info: Info, queue: str) -> AsyncGenerator[EventGQL, None]:
        request, broker = info.context, info.context.broker
        if not is_queue_name(queue):
            raise invalid("/queue", "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        require(request.principal, Action.VIEW, queue)
        broker.queue(queue)
        watch = Watch(queue)
        broker.events.watch(queue, watch)
        request.streams.add(watch)
        try:
            while True:
                yield _shown(*await watch.next())
        finally:
            request.streams.discard(watch)
            broker.events.unwatch(queue, watch)


def _shown(event: QueueEvent, dropped: int) -> EventGQL:
    return EventGQL(
        event=_TOLD[event.event],
        message_id=strawberry.ID(format_id(event.message_id)),
        queue=event.queue,
        status=MessageStatus[event.status.value],
        attempt=event.attempt,
        at=Time(rfc3339(event.at)),
        dropped=dropped,
    )
