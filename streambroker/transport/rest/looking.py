"""Messages over REST: browse, look, retry, delete; nothing is leased."""

from __future__ import annotations

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Decision, decide, require
from streambroker.core.errors import NotFound
from streambroker.core.message import STATUS_OF, Message, Status
from streambroker.core.names import format_id
from streambroker.core.timeline import Moment
from streambroker.protocol.json import encode
from streambroker.protocol.messages import MessageOut, shown
from streambroker.protocol.times import rfc3339
from streambroker.transport import cloudevents, schemas
from streambroker.transport.auditing import audited
from streambroker.transport.cloudevents import schema as events
from streambroker.transport.http import Call, Endpoint, Reply, reply


class MessageDoor:
    """Handlers over one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

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
        """Look at one message; as a CloudEvent where that is asked for."""
        message = await self._broker.get(call.message_id())
        require_message(call, Action.VIEW, message)
        form = cloudevents.format_of(call, call.options(schemas.LookQuery).format)
        if form != "json":
            return cloudevents.written(message, form)
        return Reply(200, shown(message, self._broker.queue(message.queue).config))

    async def timeline(self, call: Call) -> Reply:
        """What happened to a message."""
        message, moments = await self._broker.timeline(call.message_id())
        require_message(call, Action.VIEW, message)
        return reply(schemas.Timeline([_moment(moment) for moment in moments]))

    @audited
    async def retry(self, call: Call) -> Reply:
        """Make a failed message ready again."""
        number = call.message_id()
        require_message(call, Action.MANAGE, await self._broker.get(number))
        now = await self._broker.retry(number)
        return reply(schemas.Settled(format_id(number), STATUS_OF[now.state].value, now.now_in, now.attempt))

    @audited
    async def delete_message(self, call: Call) -> Reply:
        """Delete one message, whatever its status; who holds it hears of it."""
        number = call.message_id()
        require_message(call, Action.MANAGE, await self._broker.get(number))
        await self._broker.delete(number)
        return reply(schemas.Deleted(format_id(number)))

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        many, item, page = "/queues/{queue}/messages", "/messages/{message_id}", {200: schemas.MessagePage}
        one = {200: MessageOut}
        gone, past, again = {200: schemas.Deleted}, {200: schemas.Timeline}, {200: schemas.Settled}
        return [
            Endpoint("GET", many, self.browse, "Browse messages", answers=page, query=schemas.BrowseQuery),
            Endpoint(
                "GET",
                item,
                self.get_message,
                "Look at a message",
                answers=one,
                query=schemas.LookQuery,
                gives=events.ONE,
                answer_headers=events.LOOKED,
            ),
            Endpoint("GET", f"{item}/timeline", self.timeline, "See what happened to a message", answers=past),
            Endpoint("POST", f"{item}/retry", self.retry, "Retry a failed message", answers=again, codes=("conflict",)),
            Endpoint("DELETE", item, self.delete_message, "Delete a message", answers=gone),
        ]


def _moment(moment: Moment) -> schemas.MomentOut:
    ends = moment.lease_expires_at
    return schemas.MomentOut(
        rfc3339(moment.at),
        moment.mark.name.lower(),
        moment.attempt,
        moment.consumer,
        None if ends is None else rfc3339(ends),
        moment.error,
    )


def require_message(call: Call, action: Action, message: Message) -> None:
    """Raise `NotFound`, as for a message that does not exist, or `Forbidden`."""
    if decide(call.user, action, message.queue) is Decision.HIDDEN:
        raise NotFound("there is no such message")
    require(call.user, action, message.queue)
