"""Consume over REST: at once, or held open until a message comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Principal, require
from streambroker.core.errors import BrokerError, Unauthenticated
from streambroker.core.message import Message
from streambroker.protocol.json import JsonDecoder
from streambroker.protocol.messages import MessageOut, shown
from streambroker.transport import cloudevents, schemas
from streambroker.transport.auditing import ensured
from streambroker.transport.cloudevents import schema as events
from streambroker.transport.http import Call, ClientLeft, Endpoint, Reply
from streambroker.transport.limiting import Kind
from streambroker.transport.presence import Presence
from streambroker.transport.resource import Counters
from streambroker.transport.roster import Seat, Standing

_consume = JsonDecoder[schemas.ConsumeIn](schemas.ConsumeIn)
_consume_many = JsonDecoder[schemas.ConsumeManyIn](schemas.ConsumeManyIn)
_KIND = Kind.MESSAGES
_ACCEPT = {"Accept": "As what it is answered: `application/json`, or one of the media types of CloudEvents."}


class ConsumeDoor:
    """Handlers over one broker."""

    def __init__(self, broker: Broker, presence: Presence, counters: Counters, wall: Callable[[], int]) -> None:
        self._broker = broker
        self._wall = wall
        self._presence = presence
        self._counters = counters

    async def consume_one(self, call: Call) -> Reply:
        """Take one message, or null; as a CloudEvent where that is asked for, then 204 stands for null."""
        name = self._door_of(call)
        asked = call.options(schemas.ConsumeQuery)
        form = cloudevents.format_of(call, asked.format)
        messages = await self._consume(call, [name], 1, asked.wait_ms, asked.lease_ms)
        if form != "json":
            return cloudevents.written(messages[0], form, delivered=True) if messages else Reply(204)
        return Reply(200, self._shown(messages[0]) if messages else b"null")

    async def consume(self, call: Call) -> Reply:
        """Take up to `max` messages; as a batch of CloudEvents where `Accept` asks for it."""
        name = self._door_of(call)
        asked = await call.optional_json(_consume, schemas.ConsumeIn())
        return self._answer(call, await self._consume(call, [name], asked.max, asked.wait_ms, asked.lease_ms))

    async def consume_many(self, call: Call) -> Reply:
        """Take up to `max` messages of whichever of several queues has some first."""
        call.user  # noqa: B018
        asked = await call.json(_consume_many)
        names = list(dict.fromkeys(asked.queues))
        for name in names:
            require(call.user, Action.CONSUME, name)
        return self._answer(call, await self._consume(call, names, asked.max, asked.wait_ms, asked.lease_ms))

    async def _consume(
        self, call: Call, names: Sequence[str], limit: int, wait_ms: int, lease_ms: int | None
    ) -> list[Message]:
        for name in names:
            await ensured(self._broker, call, name)
        consuming = self._broker.consume(names, call.user.username, limit, wait_ms, lease_ms)
        return await (self._parked(call, names, limit, consuming) if wait_ms else consuming)

    def _shown(self, message: Message) -> bytes:
        return shown(message, self._broker.queue(message.queue).config, delivered=True)

    def _answer(self, call: Call, messages: Sequence[Message]) -> Reply:
        if cloudevents.wants_batch(call):
            return cloudevents.written_batch(messages)
        return Reply(200, b'{"messages":[%b]}' % b",".join([self._shown(message) for message in messages]))

    async def _parked(
        self, call: Call, names: Sequence[str], limit: int, consuming: Coroutine[Any, Any, list[Message]]
    ) -> list[Message]:
        """Await, but let go when the client hangs up or loses the right to it: it takes no message along.

        Nothing comes where somebody disconnects it. Raises `ClientLeft`, `Unauthenticated`, `RateLimited` and as
        `core.access.require`.
        """
        parked = _Parked(call.user, names)
        try:
            self._presence.enter(parked)
        except BrokerError:
            consuming.close()
            raise
        seats = self._seated(call, parked, names, limit)
        waiting = asyncio.ensure_future(consuming)
        gone = asyncio.ensure_future(call.gone())
        self._counters.long_polls += 1
        try:
            ends = call.user.expires_at_ms
            left = None if ends is None else max(ends - self._wall(), 0) / 1_000
            done, _ = await asyncio.wait(
                (waiting, gone, parked.ended), return_when=asyncio.FIRST_COMPLETED, timeout=left
            )
            if not done:
                parked.expired()
            if not gone.done() and not parked.ended.done():
                return waiting.result()
            self._release(waiting)
            if gone.done():
                raise ClientLeft
            if (refusal := parked.ended.result()) is not None:
                raise refusal
            return []
        except asyncio.CancelledError:
            self._release(waiting)
            raise
        finally:
            self._presence.leave(parked)
            for seat in seats:
                self._presence.consumers.leave(seat)
            self._counters.long_polls -= 1
            waiting.cancel()
            gone.cancel()

    def _seated(self, call: Call, parked: _Parked, names: Sequence[str], limit: int) -> list[Seat]:
        """Its seats among the consumers, one for each queue."""
        seats = [
            Seat(
                "long_poll",
                call.user.username,
                name,
                None,
                call.scope.get("streambroker.address", ""),
                self._broker.clock(),
                "fixed",
                lambda: Standing(limit, 0, False),
                parked.dismissed,
            )
            for name in names
        ]
        for seat in seats:
            self._presence.consumers.enter(seat)
        return seats

    def _release(self, waiting: asyncio.Future[list[Message]]) -> None:
        if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
            self._broker.release(waiting.result())

    def _door_of(self, call: Call) -> str:
        """The queue that the path names; it exists, or comes into being. Raises as `Call.queue`."""
        name = call.queue(Action.CONSUME)
        self._broker.check_queue(name)
        return name

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        path, query, messages = "/queues/{queue}/messages/consume", schemas.ConsumeQuery, {200: schemas.Messages}
        one = {200: MessageOut | None, 204: None}
        return [
            Endpoint(
                "GET",
                path,
                self.consume_one,
                "Consume a message",
                answers=one,
                query=query,
                head=False,
                limit=_KIND,
                gives=events.ONE,
                headers=_ACCEPT,
                answer_headers=events.DELIVERED,
            ),
            *(
                Endpoint("POST", where, door, title, body, messages, limit=_KIND, gives=events.MANY, headers=_ACCEPT)
                for where, door, title, body in (
                    (path, self.consume, "Consume messages", schemas.ConsumeIn),
                    ("/consume", self.consume_many, "Consume from several queues", schemas.ConsumeManyIn),
                )
            ),
        ]


class _Parked:
    """A poll that is held open, as `presence.Guest`.

    `ended` is set where it does not go on: with the reason why it may not, None where somebody disconnected it.
    """

    def __init__(self, principal: Principal, queues: Sequence[str]) -> None:
        self.principal = principal
        self.ended: asyncio.Future[BrokerError | None] = asyncio.get_running_loop().create_future()
        self._queues = queues

    def expired(self) -> None:
        """The token's or key's own time is over."""
        self._end(Unauthenticated("the token or key has expired; come back with a new one"))

    def turned_out(self) -> None:
        """See `presence.Guest`."""
        self._end(Unauthenticated("the session has ended; log in again"))

    def recognized(self, principal: Principal) -> None:
        """See `presence.Guest`."""
        self.principal = principal
        try:
            for queue in self._queues:
                require(principal, Action.CONSUME, queue)
        except BrokerError as error:
            self._end(error)

    def dismissed(self) -> None:
        """Somebody who manages the queue ends it."""
        self._end(None)

    def _end(self, reason: BrokerError | None) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
