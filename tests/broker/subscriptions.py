"""Real subscriptions without a connection, and messages for them."""

from __future__ import annotations

import itertools

from streambroker.core.message import Message, State, Verdict
from streambroker.protocol.session import Subscription

_numbers = itertools.count(1)


class Basket:
    """The owner of subscriptions: what a connection would be told."""

    def __init__(self) -> None:
        self.got: list[tuple[Subscription, list[Message]]] = []
        self.losses: list[tuple[int, str]] = []
        self.dropped: list[Subscription] = []

    def deliverable(self, subscription: Subscription, messages: list[Message]) -> None:
        self.got.append((subscription, messages))

    def lost(self, subscription: Subscription, message_id: int, reason: str) -> None:
        self.losses.append((message_id, reason))

    def queue_dropped(self, subscription: Subscription) -> None:
        self.dropped.append(subscription)

    def of(self, subscription: Subscription) -> list[int]:
        return [message.id for one, messages in self.got if one is subscription for message in messages]


def subscription(
    credit: int = 100, name: str = "s", owner: Basket | None = None, lease_ms: int | None = None, session: bool = True
) -> Subscription:
    return Subscription(owner or Basket(), name, "q", credit, lease_ms, session, "ann")


def message(content: bytes = b"1", lease: str = "token") -> Message:
    """A message as a claim brings it."""
    return Message(
        id=next(_numbers),
        queue="q",
        state=State.LEASED,
        attempt=1,
        failures=0,
        max_attempts=None,
        updated_at=0,
        available_at=0,
        expires_at=None,
        due_at=None,
        lease=lease,
        holder="ann",
        verdict=Verdict.NONE,
        error=None,
        dead_letter=None,
        priority=0,
        created_at=0,
        key=None,
        attributes=None,
        content=content,
    )
