"""What all clients of one workload share: where the broker is, what phase it is in, and the history they write."""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.system.history import Delivery, History, Item, Outcome, Publish, Settle, Verdict, now, to_monotonic
from tests.system.wire import Json, Rest, Socket

WORK, LIMITED, DEAD, ORDERED = "work", "limited", "limited.dead", "ordered"

MOST_UNSETTLED = 1500
"""Publishers wait while more messages than this are confirmed and not yet settled."""


@dataclass(slots=True)
class Stage:
    """``up`` is set while the broker accepts connections, ``roomy`` while the consumers keep up with the publishers;
    ``publishing``, ``draining`` and ``over`` tell the clients the phase."""

    rng: random.Random
    history: History
    token: str = ""
    url: str = ""
    ws_url: str = ""
    up: asyncio.Event = field(default_factory=asyncio.Event)
    publishing: bool = True
    draining: bool = False
    over: bool = False
    roomy: asyncio.Event = field(default_factory=asyncio.Event)
    confirmed: int = 0
    _settled: set[str] = field(default_factory=set)

    def rest(self) -> Rest:
        return Rest(self.url, self.token)

    async def socket(self) -> Socket:
        return await Socket.open(self.ws_url, self.token)

    async def room(self) -> None:
        """Wait until the broker is up and the consumers have nearly caught up."""
        self._measure()
        await self.roomy.wait()
        await self.up.wait()

    def stop_publishing(self) -> None:
        self.publishing = False
        self._measure()

    def _measure(self) -> None:
        if self.confirmed - len(self._settled) <= MOST_UNSETTLED or not self.publishing:
            self.roomy.set()
        else:
            self.roomy.clear()

    def published(self, entry: Publish) -> None:
        self.history.publishes.append(entry)
        if entry.outcome is Outcome.OK:
            self.confirmed += len(entry.items)

    def delivered(self, entry: Delivery) -> None:
        self.history.deliveries.append(entry)

    def settle(self, entry: Settle) -> None:
        self.history.settles.append(entry)
        if entry.outcome is not Outcome.FAIL and entry.verdict is not Verdict.REQUEUE:
            self._settled.add(entry.message_id)
            self._measure()


def content_of(value: str) -> Json:
    """A payload that its value determines, so that damage shows."""
    return {"value": value, "pad": "x" * (zlib.crc32(value.encode()) % 300)}


def value_of(content: Any) -> str:
    """The value in a payload; a damaged payload gives a value that nobody published."""
    if isinstance(content, dict) and content == content_of(str(content.get("value"))):
        return str(content["value"])
    return f"damaged: {str(content)[:80]}"


def draft_of(item: Item) -> Json:
    draft: Json = {"content": content_of(item.value), "priority": item.priority}
    return draft if item.dedup_id is None else {**draft, "dedup_id": item.dedup_id}


def delivery_of(
    message: Json, process: str, connection: str, not_before: float, *, session: bool = False, sole: bool = False
) -> Delivery:
    """What a client received, as the history keeps it."""
    return Delivery(
        process=process,
        connection=connection,
        message_id=message["message_id"],
        value=value_of(message["content"]),
        queue=message["queue"],
        priority=message["priority"],
        attempt=message["attempt"],
        lease=message["lease"],
        not_before=not_before,
        received=message.get("received") or now(),
        expires=None if session else to_monotonic(message["lease_expires_at"]),
        sole=sole,
    )
