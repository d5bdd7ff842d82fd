"""What waits to be sent to one WebSocket client: what gathers in one turn of the loop goes out as one frame."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from starlette.types import Send

from streambroker.core.message import Message, weight
from streambroker.protocol import frames
from streambroker.protocol.session import Subscription
from streambroker.transport.websocket.incoming import Close

CLOSE_S = 3
"""How long a close may wait for a peer that does not read."""
FRAME_BYTES = 256 * 1024
"""About how much goes into one frame of deliveries, so that a small message behind does not wait for megabytes."""
MAX_BYTES = 4 * 1024 * 1024
"""Answers that may wait: beyond it the client is not read until some are sent."""


class Outbox:
    """Owned by its connection; `run()` is its one task. The server cuts off a peer that does not read.

    `shown` makes the JSON of messages as they are sent, `sent` hears that a subscription's have been, and `moved` that
    there is more room, or that nothing will be sent any more.
    """

    def __init__(
        self,
        send: Send,
        transport: asyncio.Transport | None,
        shown: Callable[[Subscription, Sequence[Message]], list[bytes]],
        sent: Callable[[Subscription], None],
        moved: Callable[[], None],
    ) -> None:
        self._send = send
        self._transport = transport
        self._shown = shown
        self._sent = sent
        self._moved = moved
        self._frames: list[bytes] = []
        self._size = 0
        self._deliveries: deque[tuple[Subscription, list[Message]]] = deque()
        self._something = asyncio.Event()
        self._cut: asyncio.TimerHandle | None = None
        self.closing: Close | None = None
        self.ended = False

    @property
    def size(self) -> int:
        """The bytes of the answers that wait."""
        return self._size

    def say(self, frame: bytes) -> None:
        """Send a frame."""
        self._frames.append(frame)
        self._size += len(frame)
        self._something.set()

    def deliver(self, subscription: Subscription, messages: list[Message]) -> None:
        """Send messages; until then they count as the subscription's `unsent`."""
        subscription.unsent += sum([weight(message.content, message.attributes) for message in messages])
        self._deliveries.append((subscription, messages))
        self._something.set()

    def withdraw(self, subscription: Subscription) -> list[Message]:
        """What was not sent of a subscription's messages, which now is not sent any more."""
        unsent = [message for owner, messages in self._deliveries if owner is subscription for message in messages]
        self._deliveries = deque(entry for entry in self._deliveries if entry[0] is not subscription)
        return unsent

    def close(self, close: Close) -> None:
        """Close the connection after the answers that wait; the first reason given counts.

        A peer that does not read is cut off `CLOSE_S` later.
        """
        if self.closing is None:
            self.closing = close
            self._something.set()
            if self._transport is not None:
                self._cut = asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    def stop(self) -> None:
        """It has ended: there is nobody to cut off any more."""
        if self._cut is not None:
            self._cut.cancel()

    async def run(self) -> None:
        """Send what gathers, until the connection ends."""
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while self._frames or (self._deliveries and self.closing is None):
                    await self._send_some()
                if (close := self.closing) is not None:
                    await self._send({"type": "websocket.close", "code": close.code, "reason": close.reason})
                    return
        except OSError:
            return  # the peer is gone; the reader hears of it too
        finally:
            self.ended = True
            self._moved()

    async def _send_some(self) -> None:
        """Send one frame: all answers, and deliveries up to `FRAME_BYTES`, together for each subscription."""
        parts, self._frames, self._size = self._frames, [], 0
        taken = self._take()
        for subscription, messages in taken.items():
            parts.append(frames.deliver(subscription.name, self._shown(subscription, messages)))
        text = frames.batch(parts)
        await self._send({"type": "websocket.send", "text": text.decode()})
        for subscription, messages in taken.items():
            subscription.unsent -= sum([weight(message.content, message.attributes) for message in messages])
            self._sent(subscription)
        self._moved()

    def _take(self) -> dict[Subscription, list[Message]]:
        """Deliveries for one frame: at least one message, about `FRAME_BYTES` at most."""
        taken: dict[Subscription, list[Message]] = {}
        size = 0
        while self._deliveries and size < FRAME_BYTES:
            subscription, messages = self._deliveries.popleft()
            some, count = _first(messages, FRAME_BYTES - size)
            size += count
            if subscription in taken:
                taken[subscription] += some
            else:
                taken[subscription] = some
            if len(some) < len(messages):
                self._deliveries.appendleft((subscription, messages[len(some) :]))
        return taken


def _first(messages: list[Message], room: int) -> tuple[list[Message], int]:
    """The first of `messages` that fit into `room` bytes, at least one; and their size."""
    size = 0
    for index, message in enumerate(messages):
        own = weight(message.content, message.attributes)
        if size + own > room and index:
            return messages[:index], size
        size += own
    return messages, size
