"""Consuming within the program: one subscription, without a connection in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from streambroker.client.consuming import LeaseMode
from streambroker.client.errors import ApiError
from streambroker.client.messages import Verdict
from streambroker.client.models import MessageInfo
from streambroker.core.errors import BrokerError, Forbidden, NotFound, invalid
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Message, weight
from streambroker.core.names import parse_id
from streambroker.embedded.heart import Heart, check_queue
from streambroker.embedded.refusals import as_api_error, refused, told_as_client
from streambroker.embedded.seats import seat
from streambroker.protocol.session import Subscription
from streambroker.store.contract import Acked, Settled
from streambroker.transport.roster import Seat, Standing

MAX_CREDIT = 10_000


class Consumer:
    """One consume: the `Owner` of its subscription. Lives on the broker's loop; `lost` hears of leases that ended.

    Messages arrive up to the credit, and about 1 MiB of them wait for whoever takes them with `next()`.
    """

    def __init__(self, heart: Heart, queue: str, credit: int, lease_ms: int | None, lease_mode: LeaseMode) -> None:
        self.lost_message: Callable[[str], None] = lambda message_id: None
        self._heart = heart
        self._broker = heart.node.broker
        self._subscription = Subscription(self, queue, queue, credit, lease_ms, lease_mode == "session", heart.admin)
        self._arrived: deque[Message] = deque()
        self._something = asyncio.Event()
        self._ended: ApiError | None = None
        self._seat: Seat | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, heart: Heart, queue: str, credit: int, lease_ms: int | None, lease_mode: LeaseMode) -> Consumer:
        """Begin to take messages. Raises `Invalid`, `NotFound`."""
        heart.check_open()
        with told_as_client():
            if not 1 <= credit <= MAX_CREDIT:
                raise invalid("/credit", f"is 1 to {MAX_CREDIT:,}")
            if lease_mode not in ("session", "fixed"):
                raise invalid("/lease_mode", "is session or fixed")
            check_queue(queue)
            await heart.node.broker.ensure_queue(queue)
            consumer = cls(heart, queue, credit, lease_ms, lease_mode)
            heart.on_close.append(consumer.close)
            consumer._sit_down()
            heart.node.broker.subscribe(consumer._subscription)
        return consumer

    # -- as the subscription's owner -----------------------------------------------------------------------------------

    def deliverable(self, subscription: Subscription, messages: list[Message]) -> None:
        """See `Owner`."""
        self._broker.hold(subscription, messages)
        subscription.unsent += sum([_weight(message) for message in messages])
        if self._seat is not None:
            self._seat.delivered += len(messages)
        self._arrived.extend(messages)
        self._something.set()

    def lost(self, subscription: Subscription, message_id: int, reason: str) -> None:
        """See `Owner`."""
        self.lost_message(f"{message_id:016x}")

    def queue_dropped(self, subscription: Subscription) -> None:
        """See `Owner`."""
        subscription.closed = True
        self._stand_up()
        self._end(as_api_error(NotFound(f"queue {subscription.queue} was deleted")))

    def _end(self, error: ApiError) -> None:
        self._ended = self._ended or error
        self._something.set()

    # -- among the consumers -------------------------------------------------------------------------------------------

    def _sit_down(self) -> None:
        one = self._subscription
        mode: LeaseMode = "session" if one.session_lease else "fixed"

        def standing() -> Standing:
            return Standing(one.credit, len(one.held), one.paused)

        self._seat = seat(self._heart.node, self._heart.admin, one.queue, one.name, mode, standing, self._dismissed)

    def _stand_up(self) -> None:
        if self._seat is not None:
            self._heart.node.consumers.leave(self._seat)

    def _dismissed(self) -> None:
        """Somebody disconnected it."""
        self._end(as_api_error(Forbidden("disconnected by an administrator")))
        self._closing = asyncio.create_task(self.close())

    # -- for whoever consumes ------------------------------------------------------------------------------------------

    async def next(self) -> MessageInfo | None:
        """The next message that is still ours; None once the broker was closed. Raises `NotFound` for a queue that was
        deleted."""
        subscription = self._subscription
        while True:
            while self._arrived:
                message = self._arrived.popleft()
                subscription.unsent -= _weight(message)
                self._broker.feed(subscription)
                if subscription.held.get(message.id) == message.lease:
                    return self._heart.shown(message)
            if self._ended is not None:
                raise self._ended
            if subscription.closed:
                return None
            self._something.clear()
            await self._something.wait()

    async def close(self) -> None:
        """Give back what is not settled; for a session's leases that is no failure. Again, it does nothing."""
        if self.close in self._heart.on_close:
            self._heart.on_close.remove(self.close)
        if self._subscription.closed:
            return
        self._subscription.closed = True
        self._stand_up()
        self._something.set()
        unseen = list(self._arrived)
        self._arrived.clear()
        given_back = self._broker.unsubscribe(self._subscription, True, unseen)
        if given_back is not None:
            await given_back

    # -- settling ------------------------------------------------------------------------------------------------------

    async def settle(self, message_id: str, lease: str | None, verdict: Verdict) -> None:
        """Settle a message that came from here; durable when it returns. Raises as `Heart.settle`."""
        subscription, number = self._subscription, parse_id(message_id) or 0
        ours = subscription.held.get(number) == lease
        if verdict.what == "extend" and not (ours and subscription.session_lease):
            await self._heart.settle(message_id, lease, verdict)
        elif verdict.what != "extend":  # a session's lease has no end to move
            await self._settle(self._heart.settlement(message_id, lease, verdict), ours)

    async def _settle(self, item: Settlement, ours: bool) -> None:
        self._heart.check_open()
        subscription, number, lease = self._subscription, item.id, item.lease or ""
        if ours:
            self._broker.let_go(subscription, number)
        answered: asyncio.Future[Sequence[Settled] | Acked] = asyncio.get_running_loop().create_future()

        def told(answer: Sequence[Settled] | Acked | BrokerError) -> None:
            if isinstance(answer, BrokerError):
                if ours:
                    self._broker.hold_again([(subscription, number, lease)])
                if not answered.done():
                    answered.set_exception(as_api_error(answer))
            elif not answered.done():
                answered.set_result(answer)

        queue = subscription.queue if ours and item.event is Event.ACK else None
        self._broker.post_settle([item], told, queue=queue, holder=subscription.holder if ours else None)
        if ours:
            self._broker.feed(subscription)
        answer = await answered
        if not isinstance(answer, Acked) and (refusal := answer[0].refusal) is not None:
            refused(refusal)


def _weight(message: Message) -> int:
    return weight(message.content, message.attributes)
