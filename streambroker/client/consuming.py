"""Subscriptions that outlive connections."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from streambroker.client import frames
from streambroker.client.errors import (
    ConnectionLost,
    NotFound,
    QueueFull,
    ServerError,
    StorageFull,
    StreambrokerError,
    Unavailable,
)
from streambroker.client.link import Answer, Link
from streambroker.client.messages import Hold, Message, Settle
from streambroker.client.models import MessageInfo
from streambroker.client.retrying import RetryPolicy

log = logging.getLogger("streambroker.client")

LeaseMode = Literal["session", "fixed"]
GIVE_BACK_S = 2.0
"""How long the end of a subscription waits to be confirmed."""
_RETRY = RetryPolicy(base_s=0.2, most_s=10.0)


class Consumption:
    """A subscription to one queue, subscribed anew on each connection. Owns what was delivered and not yet taken.

    At most `credit` messages are delivered and not settled on one connection, so what waits here is bounded by it.
    When a connection ends the broker gives its session leases back: what waits here is dropped and will be delivered
    again. Fixed leases run on: what waits here is handed out first, and then it is subscribed anew.
    """

    def __init__(
        self, owner: Consumptions, sub: str, queue: str, credit: int, lease_mode: LeaseMode, lease_ms: int | None
    ) -> None:
        self._owner = owner
        self.sub = sub
        self.queue = queue
        self.credit = credit
        self._lease_mode = lease_mode
        self._lease_ms = lease_ms
        self._buffer: deque[Message] = deque()
        self._held: dict[str, Message] = {}
        self._before: dict[str, Message] = {}
        self._takers: deque[asyncio.Future[None]] = deque()
        self._hold = Hold()
        self._link: Link | None = None
        self._error: StreambrokerError | None = None
        self._refusals = 0
        self._closed = False
        self._paused = False

    # -- from whoever consumes -----------------------------------------------------------------------------------------

    async def take(self) -> Message:
        """The next message. Raises what ended the subscription for good. Several may wait at once."""
        while not self._buffer:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise ConnectionLost("the consumer is closed")
            await self._something()
        return self._buffer.popleft()

    def take_now(self) -> Message | None:
        """The next message, if one is here."""
        return self._buffer.popleft() if self._buffer else None

    async def _something(self) -> None:
        if self._link is None and not self._refusals:
            self._owner.offer(self)
        taker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        try:
            await taker
        except asyncio.CancelledError:
            if taker.done() and not taker.cancelled() and self._buffer:
                self._wake(1)  # it was woken for a message that somebody else can have
            raise
        finally:
            if not taker.done():
                taker.cancel()

    def _wake(self, count: int) -> None:
        takers = self._takers
        while count and takers:
            taker = takers.popleft()
            if not taker.done():
                taker.set_result(None)
                count -= 1

    def pause(self) -> asyncio.Future[None]:
        """Ask for no more messages, on this connection and on later ones. It is for a consumer about to close.

        Those that are on their way still come; once the future is done, there are none.
        """
        self._paused = True
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._link is None:
            told.set_result(None)
        else:
            number = self._link.expect(lambda _: None if told.done() else told.set_result(None))
            self._link.say(frames.request("pause", number, sub=self.sub))
        return told

    async def close(self) -> None:
        """End the subscription: what is not settled is given back and counts no failure."""
        self._closed = True
        self._hold.alive = False
        self._buffer.clear()
        link, self._link = self._link, None
        self._wake(len(self._takers))
        try:
            if link is not None and link.alive:
                await self._unsubscribe(link)
        finally:
            self._owner.forget(self)  # only now: another subscription of this name would get what is on its way

    async def _unsubscribe(self, link: Link) -> None:
        ended = asyncio.Event()
        link.say(frames.request("unsubscribe", link.expect(lambda _: ended.set()), sub=self.sub))
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await ended.wait()
        except TimeoutError:
            log.warning("the broker has not confirmed the end of the subscription to %s", self.queue)

    # -- from the connection -------------------------------------------------------------------------------------------

    def subscribe(self, link: Link) -> None:
        """Subscribe on a connection, unless what another one delivered under fixed leases is still here."""
        done_with = self._closed or self._paused or self._error is not None
        if self._buffer or self._link is not None or done_with:
            return
        self._link, self._hold = link, Hold()
        self._before, self._held = self._held, {}
        number = link.expect(partial(self._subscribed, link))
        options = {"sub": self.sub, "queue": self.queue, "credit": self.credit, "lease_mode": self._lease_mode}
        link.say(frames.request("subscribe", number, **options, lease_ms=self._lease_ms))

    def _subscribed(self, link: Link, answer: Answer) -> None:
        if isinstance(answer, frames.Ok):
            self._refusals = 0
        elif not isinstance(answer, ConnectionLost):
            self.refused(link, answer)

    def refused(self, link: Link, error: StreambrokerError) -> None:
        """The broker does not deliver, or no longer: it is asked again where that can help."""
        if self._link is not link:
            return
        self._link = None
        self._hold.alive = False
        if isinstance(error, Unavailable | ServerError) and not isinstance(error, QueueFull | StorageFull):
            self._refusals += 1
            wait = _RETRY.wait_s(self._refusals, error, self._owner.chance())
            asyncio.get_running_loop().call_later(wait, self._owner.offer, self)
        else:
            self.fail(error)

    def delivered(self, infos: Sequence[MessageInfo]) -> None:
        """Messages came. Those that come after the end are given back by it."""
        if self._closed:
            return
        held, before, hold, settle, settled = self._held, self._before, self._hold, self._owner.settle, self._settled
        for info in infos:
            message_id = info.message_id
            if before and (old := before.pop(message_id, None)) is not None:
                old.lose()  # the newest token wins, and this is it
            held[message_id] = message = Message(info, settle, hold, settled)
            self._buffer.append(message)
        if self._takers:
            self._wake(len(infos))

    def _settled(self, message_id: str) -> None:
        if self._held.pop(message_id, None) is None:
            self._before.pop(message_id, None)

    def lost(self, ids: Sequence[str]) -> None:
        """Leases are gone; what was not handed out never will be."""
        for message_id in ids:
            message = self._held.pop(message_id, None)
            if message is not None:
                message.lose()
                if message in self._buffer:
                    self._buffer.remove(message)

    def check(self, link: Link, error: StreambrokerError) -> None:
        """Some subscription has ended by itself; the broker does not say which, but knows whether this one lives."""

        def told(answer: Answer) -> None:
            if isinstance(answer, NotFound):
                self.refused(link, error)

        if self._link is link:
            asked = "pause" if self._paused else "resume"  # what changes nothing
            link.say(frames.request(asked, link.expect(told), sub=self.sub))

    def ended(self, link: Link) -> None:
        """The connection has ended."""
        self._hold.alive = False
        if self._link is link:
            self._link = None
        if self._lease_mode == "session":
            for message in self._buffer:
                self._held.pop(message.message_id, None)
            self._buffer.clear()

    def fail(self, error: StreambrokerError) -> None:
        """There will be no more messages: whoever waits is told why."""
        self._error, self._link = error, None
        self._owner.forget(self)
        self._wake(len(self._takers))


class Consumptions:
    """All subscriptions of a client, by the names that they have on its connection."""

    def __init__(self, settle: Settle, need: Callable[[], None], chance: Callable[[], float]) -> None:
        self.settle = settle
        self.chance = chance
        self._need = need
        self._by_sub: dict[str, Consumption] = {}
        self._number = 0
        self._link: Link | None = None

    def __len__(self) -> int:
        return len(self._by_sub)

    def begin(self, queue: str, credit: int, lease_mode: LeaseMode, lease_ms: int | None) -> Consumption:
        """Subscribe to a queue, now and whenever a connection is there."""
        sub = queue
        while sub in self._by_sub:
            self._number += 1
            sub = f"{queue}#{self._number}"  # no queue has such a name
        consumption = self._by_sub[sub] = Consumption(self, sub, queue, credit, lease_mode, lease_ms)
        self.offer(consumption)
        return consumption

    def offer(self, consumption: Consumption) -> None:
        """Subscribe where it can be, or see that there will be a connection."""
        if self._by_sub.get(consumption.sub) is not consumption:
            return
        if self._link is not None:
            consumption.subscribe(self._link)
        else:
            self._need()

    def forget(self, consumption: Consumption) -> None:
        """It has ended."""
        if self._by_sub.get(consumption.sub) is consumption:
            del self._by_sub[consumption.sub]

    def all(self) -> list[Consumption]:
        """Those that are open."""
        return list(self._by_sub.values())

    # -- from the connection -------------------------------------------------------------------------------------------

    def opened(self, link: Link) -> None:
        """A connection is there."""
        self._link = link
        for consumption in self.all():
            consumption.subscribe(link)

    def ended(self, link: Link) -> None:
        """It is gone."""
        self._link = None
        for consumption in self.all():
            consumption.ended(link)

    def delivered(self, frame: frames.Deliver) -> None:
        """Messages came; those for nobody are of a subscription that has ended."""
        consumption = self._by_sub.get(frame.sub)
        if consumption is not None:
            consumption.delivered(frame.messages)

    def lost(self, frame: frames.Lost) -> None:
        """Leases are gone."""
        consumption = self._by_sub.get(frame.sub)
        if consumption is not None:
            consumption.lost(frame.ids)

    def unsettling(self, link: Link, error: StreambrokerError) -> None:
        """The broker told of an end without saying whose."""
        for consumption in self.all():
            consumption.check(link, error)

    def fail_all(self, error: StreambrokerError) -> None:
        """There will be no connection."""
        for consumption in self.all():
            consumption.fail(error)
