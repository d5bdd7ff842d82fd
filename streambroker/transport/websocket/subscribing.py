"""Consuming over one WebSocket connection: its subscriptions, from subscribe to the last message given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Decision, Principal, accountable, decide, require
from streambroker.core.errors import Forbidden, NotFound, RateLimited
from streambroker.core.message import Message
from streambroker.core.names import format_id
from streambroker.protocol import frames
from streambroker.protocol.messages import shown
from streambroker.protocol.session import Session, Subscription
from streambroker.transport.roster import LeaseMode, Roster, Seat, Standing
from streambroker.transport.websocket.answers import Answers
from streambroker.transport.websocket.incoming import Close
from streambroker.transport.websocket.outbox import Outbox

MAX_SUBSCRIPTIONS = 1_000
_RETRY_AFTER_MS = 60_000


class Subscribing:
    """Owns the connection's session; the `Owner` of its subscriptions.

    `queue` is what the path subscribes to by itself, if it does: the connection ends with that subscription, by
    `close(code, reason)`. `user` tells who consumes, `address` from where; each subscription has a seat in `roster`.
    """

    def __init__(
        self,
        broker: Broker,
        outbox: Outbox,
        answers: Answers,
        user: Callable[[], Principal],
        close: Callable[[int, str], None],
        queue: str | None,
        roster: Roster,
        address: str,
    ) -> None:
        self._broker = broker
        self._outbox = outbox
        self._answers = answers
        self._user = user
        self._close = close
        self._queue = queue
        self._roster = roster
        self._address = address
        self._seats: dict[Subscription, Seat] = {}
        self.session = Session()

    # -- what the client asks ------------------------------------------------------------------------------------------

    async def subscribe(self, frame: frames.Subscribe) -> None:
        """Deliver from now on. Raises a `BrokerError` where it is refused."""
        user = self._user()
        require(user, Action.CONSUME, frame.queue)
        await self._broker.ensure_queue(frame.queue, accountable(user))
        require(self._user(), Action.CONSUME, frame.queue)  # it may have lost the right meanwhile
        if len(self.session.subscriptions) >= MAX_SUBSCRIPTIONS:
            fault = f"a connection holds at most {MAX_SUBSCRIPTIONS:,} subscriptions; end some, or open another one"
            raise RateLimited(fault, retry_after_ms=_RETRY_AFTER_MS)
        name, by_session = frame.sub or frame.queue, frame.lease_mode == "session"
        subscription = Subscription(self, name, frame.queue, frame.credit, frame.lease_ms, by_session, user.username)
        self.session.add(subscription)
        self._seat(subscription, frame.lease_mode)
        if frame.id is not None or self._queue is None:  # the one that the path makes was not asked for by a frame
            self._answers.say(frames.ok(frame.id))
        self._broker.subscribe(subscription)

    async def by_path(self, credit: int) -> None:
        """Subscribe to the path's queue, if it names one. Raises `Close`."""
        if self._queue is None:
            return
        try:
            await self.subscribe(frames.Subscribe(queue=self._queue, credit=credit))
        except NotFound as error:
            raise Close(4404, error.detail) from None
        except Forbidden as error:
            raise Close(4403, error.detail) from None
        except RateLimited as error:
            raise Close(4429, error.detail[:100]) from None

    async def unsubscribe(self, frame: frames.Unsubscribe) -> None:
        """End a subscription; returns when what it held is given back. Raises `NotFound`."""
        given_back = self._end(frame.sub)
        if given_back is not None:
            await given_back
        self._answers.say(frames.ok(frame.id))

    def pause(self, frame: frames.Pause | frames.Resume) -> None:
        """Deliver nothing for a while, or go on. Raises `NotFound`."""
        subscription = self.session.find(frame.sub)
        subscription.paused = isinstance(frame, frames.Pause)
        self._broker.feed(subscription)
        self._answers.say(frames.ok(frame.id))

    # -- what becomes of it --------------------------------------------------------------------------------------------

    def give_back(self, clean: bool) -> None:
        """The connection has ended; not `clean`: each message that it held counts a failure."""
        for subscription in self.session.close():
            self._unseat(subscription)
            self._broker.unsubscribe(subscription, clean, self._outbox.withdraw(subscription))

    def recheck(self, principal: Principal) -> None:
        """The user's rights have changed: subscriptions that it may not hold any more end."""
        for subscription in list(self.session.subscriptions.values()):
            queue = subscription.queue
            if decide(principal, Action.CONSUME, queue) is Decision.ALLOW:
                continue
            self._end(subscription.name)
            fault = Forbidden(f"you may no longer consume from {queue}; the sub {subscription.name!r} has ended")
            self._answers.refuse(None, fault)
            if self._queue == queue:
                self._close(4403, "you may no longer consume from the queue")

    def _end(self, name: str) -> asyncio.Future[None] | None:
        """End a subscription cleanly. Raises `NotFound`."""
        subscription = self.session.remove(name)
        self._unseat(subscription)
        return self._broker.unsubscribe(subscription, True, self._outbox.withdraw(subscription))

    # -- among the consumers -------------------------------------------------------------------------------------------

    def _seat(self, subscription: Subscription, lease_mode: LeaseMode) -> None:
        seat = self._seats[subscription] = Seat(
            "websocket",
            subscription.holder,
            subscription.queue,
            subscription.name,
            self._address,
            self._broker.clock(),
            lease_mode,
            lambda: Standing(subscription.credit, len(subscription.held), subscription.paused),
            lambda: self._close(4403, "disconnected by an administrator"),
        )
        self._roster.enter(seat)

    def _unseat(self, subscription: Subscription) -> None:
        self._roster.leave(self._seats.pop(subscription))

    # -- what the subscriptions tell: `protocol.session.Owner` ---------------------------------------------------------

    def deliverable(self, subscription: Subscription, messages: list[Message]) -> None:
        """See `Owner`."""
        self._seats[subscription].delivered += len(messages)
        self._broker.hold(subscription, messages)
        self._outbox.deliver(subscription, messages)

    def lost(self, subscription: Subscription, message_id: int, reason: str) -> None:
        """See `Owner`."""
        self._answers.say(frames.lease_lost(subscription.name, [format_id(message_id)], reason))

    def queue_dropped(self, subscription: Subscription) -> None:
        """See `Owner`."""
        self.session.remove(subscription.name)
        self._unseat(subscription)
        gone = NotFound(f"queue {subscription.queue} was deleted; the sub {subscription.name!r} has ended")
        self._answers.refuse(None, gone)
        if self._queue == subscription.queue:
            self._close(4404, "the queue was deleted")


def shown_to(broker: Broker, subscription: Subscription, messages: Sequence[Message]) -> list[bytes]:
    """Messages as they are delivered; what was lost before it could be sent (deleted, settled) is left out."""
    config = broker.queue(subscription.queue).config if broker.knows(subscription.queue) else None
    if config is None:
        return []
    held = subscription.held
    return [shown(m, config, delivered=True) for m in messages if held.get(m.id) == m.lease]
