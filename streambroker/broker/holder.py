"""Those who hold messages on a connection, a WebSocket subscription or another that stays, and who holds which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from streambroker.broker.dispatcher import Consumer
from streambroker.broker.registry import Registry
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Message

LostReason = Literal["expired", "deleted", "settled"]


class Holder(Consumer, Protocol):
    """A consumer that stays, and holds each message until it is settled. `held` maps message ids to fencing tokens."""

    queue: str
    held: dict[int, str]
    session_lease: bool

    def lost(self, message_id: int, reason: LostReason) -> None:
        """The message is no longer its own; it has been taken out of `held`."""
        ...


class Holding:
    """Owns the table of held messages; each holder's own `held` says the same from its side."""

    def __init__(self, queues: Registry) -> None:
        self._queues = queues
        self._held: dict[int, Holder] = {}

    def subscribe(self, holder: Holder) -> None:
        """Deliver to the holder from now on. Raises `NotFound`."""
        self._queues.dispatcher(holder.queue).add(holder)

    def feed(self, holder: Holder) -> None:
        """The holder may have room again."""
        if dispatcher := self._queues.dispatchers.get(holder.queue):
            dispatcher.feed(holder)

    def hold(self, holder: Holder, messages: Sequence[Message]) -> None:
        """The holder has been handed these: it is told when they are no longer its own."""
        for message in messages:
            before = self._held.get(message.id)
            self._held[message.id] = holder
            if before is not None and before is not holder and before.held.pop(message.id, None) is not None:
                # It changed hands before the news of how the old lease ended came round.
                before.lost(message.id, "expired")
                self.feed(before)

    def holder_of(self, message_id: int) -> Holder | None:
        """Who on this node's connections holds the message."""
        return self._held.get(message_id)

    def let_go(self, holder: Holder, message_id: int) -> str | None:
        """The token with which the holder held the message, which counts against its credit no more."""
        token = holder.held.pop(message_id, None)
        if token is not None:
            self._held.pop(message_id, None)
        return token

    def hold_again(self, holder: Holder, message_id: int, token: str) -> bool:
        """Undo `let_go`, unless the holder has ended meanwhile; answers whether it was undone."""
        dispatcher = self._queues.dispatchers.get(holder.queue)
        if dispatcher is None or holder not in dispatcher.consumers:
            return False
        holder.held[message_id] = token
        self._held[message_id] = holder
        return True

    def leave(self, holder: Holder, clean: bool, unseen: Sequence[Message]) -> list[Settlement]:
        """The holder has ended and holds nothing more: what gives it back. See `Settling.unsubscribe`."""
        if dispatcher := self._queues.dispatchers.get(holder.queue):
            dispatcher.remove(holder)
        never_sent = {message.id for message in unseen}
        items = []
        for message_id, token in holder.held.items():
            if self._held.get(message_id) is holder:
                del self._held[message_id]
            if message_id in never_sent:
                items.append(Settlement(message_id, Event.RELEASE, token, unseen=True))
            elif holder.session_lease:
                items.append(Settlement(message_id, Event.RELEASE if clean else Event.LOSE, token))
        holder.held.clear()
        return items

    def lose(self, message_id: int, lease: str | None, reason: LostReason) -> None:
        """Tell the holder of the message with that lease (None: whatever lease) that it holds it no more."""
        holder = self._held.get(message_id)
        if holder is None or (lease is not None and holder.held.get(message_id) != lease):
            return
        del self._held[message_id]
        if holder.held.pop(message_id, None) is not None:
            holder.lost(message_id, reason)
            self.feed(holder)

    def dropped(self, queue: str) -> None:
        """The queue was deleted: what was held of it is lost."""
        for message_id in [m for m, holder in self._held.items() if holder.queue == queue]:
            self.lose(message_id, None, "deleted")
