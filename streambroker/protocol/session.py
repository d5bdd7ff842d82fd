"""The conversation with one WebSocket client, without any I/O: subscriptions, credit, and who holds which message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from streambroker.core.errors import Conflict, NotFound
from streambroker.core.lifecycle import LeaseTerms
from streambroker.core.message import Message

SEND_BYTES = 1024 * 1024
"""What may wait to be sent to one subscriber: it bounds the memory that a slow one costs."""


class Owner(Protocol):
    """The connection that a subscription belongs to."""

    def deliverable(self, subscription: Subscription, messages: list[Message]) -> None:
        """Messages were claimed for the subscription."""

    def lost(self, subscription: Subscription, message_id: int, reason: str) -> None:
        """A message that the subscription held is no longer its own."""

    def queue_dropped(self, subscription: Subscription) -> None:
        """The subscription's queue was deleted."""


class Subscription:
    """One consumer of one queue. `held` maps each unsettled message to its fencing token.

    Credit that a claim on its way may use is `reserved`, so that the sum never exceeds the credit; so are the bytes
    that may wait to be sent.
    """

    __slots__ = (
        "closed", "credit", "held", "holder", "lease_ms", "name", "owner", "paused", "queue", "reserved",
        "reserved_bytes", "session_lease", "unsent",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, name: str, queue: str, credit: int, lease_ms: int | None, session_lease: bool, holder: str
    ) -> None:
        self.owner = owner
        self.name = name
        self.queue = queue
        self.credit = credit
        self.lease_ms = lease_ms
        self.session_lease = session_lease
        self.holder = holder
        self.held: dict[int, str] = {}
        self.reserved = 0
        self.reserved_bytes = 0
        self.unsent = 0
        self.paused = False
        self.closed = False

    def wants(self) -> tuple[int, int]:
        """How many messages, and how many bytes, may be claimed for it now."""
        if self.paused or self.closed:
            return 0, 0
        room = SEND_BYTES - self.unsent - self.reserved_bytes
        return (self.credit - len(self.held) - self.reserved, room) if room > 0 else (0, 0)

    def terms(self, token: str, now: int, lease_ms: int) -> LeaseTerms:
        """What its leases are given out with; `lease_ms` is the queue's."""
        until = None if self.session_lease else now + (self.lease_ms or lease_ms)
        return LeaseTerms(token, self.holder, until)

    def reserve(self, count: int, size: int) -> None:
        """A claim for so much is on its way."""
        self.reserved += count
        self.reserved_bytes += size

    def deliver(self, count: int, size: int, messages: list[Message]) -> list[Message]:
        """The claim that reserved `count` and `size` brought `messages`; those that it can no longer take come back."""
        self.reserved -= count
        self.reserved_bytes -= size
        if self.closed:
            return messages
        for message in messages:
            self.held[message.id] = message.lease or ""
        if messages:
            self.owner.deliverable(self, messages)
        return []

    def lost(self, message_id: int, reason: str) -> None:
        """A message that it held is no longer its own."""
        self.owner.lost(self, message_id, reason)

    def queue_dropped(self) -> None:
        """Its queue was deleted."""
        self.owner.queue_dropped(self)


class Session:
    """The subscriptions of one connection, by name."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}

    def add(self, subscription: Subscription) -> None:
        """Raises `Conflict` where the name is in use."""
        if subscription.name in self.subscriptions:
            raise Conflict(f"the sub {subscription.name!r} is in use on this connection; give another name")
        self.subscriptions[subscription.name] = subscription

    def find(self, name: str) -> Subscription:
        """Raises `NotFound`."""
        found = self.subscriptions.get(name)
        if found is None:
            raise NotFound(f"there is no sub {name!r} on this connection")
        return found

    def remove(self, name: str) -> Subscription:
        """Raises `NotFound`."""
        self.find(name).closed = True
        return self.subscriptions.pop(name)

    def close(self) -> Iterator[Subscription]:
        """End all subscriptions."""
        for name in list(self.subscriptions):
            yield self.remove(name)
