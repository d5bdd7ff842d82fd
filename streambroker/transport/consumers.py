"""The door to those who consume: who they are, and how to disconnect one."""

from __future__ import annotations

import logging
import re

import msgspec

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Decision, decide, require
from streambroker.core.errors import invalid
from streambroker.core.names import QueueName
from streambroker.transport import schemas
from streambroker.transport.auditing import audited
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.roster import Consumer, Roster, Seat, no_such_consumer

log = logging.getLogger(__name__)

_is_id = re.compile(r"[0-9a-f]{18}").fullmatch


class ConsumersQuery(schemas.Body, frozen=True):
    """A page of the consumers, of one queue if it is named."""

    queue: QueueName | None = None
    limit: schemas.Limit = 50
    cursor: str | None = None


class ConsumerPage(msgspec.Struct):
    """A page of consumers."""

    items: list[Consumer]
    next_cursor: str | None


class ConsumersDoor:
    """Handlers over the roster."""

    def __init__(self, broker: Broker, roster: Roster) -> None:
        self._broker = broker
        self._roster = roster

    async def consumers(self, call: Call) -> Reply:
        """Who consumes from the queues that one may view, in the order in which they came."""
        call.user  # noqa: B018
        asked = call.options(ConsumersQuery)
        if asked.queue is not None:
            require(call.user, Action.VIEW, asked.queue)
            self._broker.queue(asked.queue)
        after = asked.cursor or ""
        if after and not _is_id(after):
            raise invalid("/cursor", "is not a cursor of this list; take the last answer's next_cursor")
        found: list[Seat] = []
        for seat in self._roster.seats():
            if seat.id <= after or asked.queue not in (None, seat.queue):
                continue
            if decide(call.user, Action.VIEW, seat.queue) is Decision.ALLOW:
                found.append(seat)
                if len(found) > asked.limit:
                    break
        items = found[: asked.limit]
        return reply(ConsumerPage([seat.shown() for seat in items], items[-1].id if len(found) > len(items) else None))

    @audited
    async def disconnect(self, call: Call) -> Reply:
        """End a consumer, and the connection that it came by."""
        call.user  # noqa: B018
        seat = self._roster.find(call.params["consumer_id"])
        if decide(call.user, Action.MANAGE, seat.queue) is Decision.HIDDEN:
            raise no_such_consumer()
        require(call.user, Action.MANAGE, seat.queue)
        seat.dismiss()
        log.info("consumer %s was disconnected", seat.id, extra={"queue": seat.queue})
        return Reply(204)

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        page, one = {200: ConsumerPage}, "/consumers/{consumer_id}"
        return [
            Endpoint(
                "GET",
                "/consumers",
                self.consumers,
                "Who consumes",
                answers=page,
                query=ConsumersQuery,
                codes=("not_found",),
            ),
            Endpoint("DELETE", one, self.disconnect, "Disconnect a consumer", answers={204: None}),
        ]
