"""What the broker needs to know of one who holds messages on a connection: a WebSocket subscription."""

from __future__ import annotations

from typing import Literal, Protocol

from streambroker.broker.dispatcher import Consumer

LostReason = Literal["expired", "deleted", "settled"]


class Holder(Consumer, Protocol):
    """A consumer that stays, and holds each message until it is settled. `held` maps message ids to fencing tokens."""

    queue: str
    held: dict[int, str]
    session_lease: bool

    def lost(self, message_id: int, reason: LostReason) -> None:
        """The message is no longer its own; it has been taken out of `held`."""
        ...

    def queue_dropped(self) -> None:
        """The queue was deleted, and with it the subscription."""
        ...
