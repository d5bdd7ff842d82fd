"""Settles of many messages, gathered, confirmed, and sent again until they are.

What the open connection delivered is settled over it, by ids: all settles of one turn of the loop and one verdict in
one frame. Everything else, and what was not confirmed when a connection ended, is settled over REST with its lease: the
broker judges that by the token alone and answers a repeat as it did the first time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from streambroker.client import frames
from streambroker.client.errors import (
    ConnectionLost,
    ServerError,
    StreambrokerError,
    StreambrokerTimeout,
    Unavailable,
    from_code,
)
from streambroker.client.link import Answer, Link
from streambroker.client.messages import Message, Verdict, lost_lease
from streambroker.client.messages_api import Messages
from streambroker.client.models import SettleItem, SettleResult
from streambroker.client.retrying import RetryPolicy

log = logging.getLogger("streambroker.client")

SWEEP_S = 1.0
CATCH_UP_S = 5.0
_RETRY = RetryPolicy(base_s=0.1, most_s=5.0)


class Settlement:
    """One settle that is not confirmed yet. `repeated`: the broker may have done it already."""

    __slots__ = ("future", "message", "repeated", "since", "verdict")

    def __init__(self, message: Message, verdict: Verdict, future: asyncio.Future[None], since: float) -> None:
        self.message = message
        self.verdict = verdict
        self.future = future
        self.since = since
        self.repeated = False


class Settler:
    """Owns all settles of a client until each is confirmed, refused, or older than `timeout` seconds."""

    def __init__(
        self,
        rest: Messages,
        need: Callable[[], None],
        timeout: float,
        chance: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._rest = rest
        self._need = need
        self._timeout = timeout
        self._chance = chance
        self._sleep = sleep
        self._live: dict[Verdict, list[Settlement]] = {}
        self._by_lease: deque[Settlement] = deque()
        self._unconfirmed: dict[Settlement, None] = {}
        self._catching_up: asyncio.Task[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._all_told = asyncio.Event()
        self._closed = False

    @property
    def unconfirmed(self) -> int:
        """Settles that nobody knows the fate of yet."""
        return len(self._unconfirmed)

    # -- from whoever settles ------------------------------------------------------------------------------------------

    def settle(self, message: Message, verdict: Verdict) -> asyncio.Future[None]:
        """Settle a message; done once the broker has confirmed it. Raises as `Message.ack` says, when awaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        settlement = Settlement(message, verdict, future, loop.time())
        if self._closed:
            self._fail(settlement, ConnectionLost("the client is closed", sent=False))
            return future
        self._unconfirmed[settlement] = None
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_S, self._sweep)
        self._send(settlement)
        return future

    def _send(self, settlement: Settlement) -> None:
        if settlement.message.held_by is None:
            self._by_lease.append(settlement)
            self._catch_up()
            return
        group = self._live.get(settlement.verdict)
        if group is None:
            self._live[settlement.verdict] = [settlement]
            self._need()
        else:
            group.append(settlement)

    async def all_told(self) -> None:
        """Wait until nothing is unconfirmed."""
        while self._unconfirmed:
            self._all_told.clear()
            await self._all_told.wait()

    def close(self) -> None:
        """Give up what is not confirmed, and take no more."""
        self._closed = True
        if self._catching_up is not None:
            self._catching_up.cancel()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for settlement in list(self._unconfirmed):
            self._fail(settlement, ConnectionLost("the client was closed before the broker confirmed it"))

    # -- over the connection -------------------------------------------------------------------------------------------

    def outgoing(self, link: Link) -> Iterable[bytes]:
        """The frames of what has gathered."""
        live, self._live = self._live, {}
        for verdict, group in live.items():
            for start in range(0, len(group), frames.MAX_IDS):
                batch = group[start : start + frames.MAX_IDS]
                number = link.expect(partial(self._told, batch))
                yield _frame(verdict, number, [one.message.message_id for one in batch])

    def _told(self, batch: list[Settlement], answer: Answer) -> None:
        if isinstance(answer, frames.Ok):
            self._judge(batch, answer.results)
        elif isinstance(answer, ConnectionLost):
            self._again_by_lease(batch)
        elif _comes_back(answer):
            wait = _RETRY.wait_s(1, answer, self._chance())
            asyncio.get_running_loop().call_later(wait, self._again, batch)
        else:
            for settlement in batch:
                self._fail(settlement, answer)

    def _again(self, batch: list[Settlement]) -> None:
        for settlement in batch:
            settlement.repeated = True
            if settlement in self._unconfirmed:
                self._send(settlement)

    def _again_by_lease(self, batch: Sequence[Settlement]) -> None:
        for settlement in batch:
            settlement.repeated = True
            if settlement in self._unconfirmed:
                self._by_lease.append(settlement)
        self._catch_up()

    def ended(self) -> None:
        """The connection has ended: what was not sent goes another way."""
        live, self._live = self._live, {}
        for group in live.values():
            self._by_lease.extend(group)
        self._catch_up()

    # -- over REST, by the leases --------------------------------------------------------------------------------------

    async def caught_up(self) -> None:
        """Wait a little until what waits for REST has been answered: before another consumer can get these messages."""
        self._catch_up()
        if self._catching_up is not None:
            await asyncio.wait([self._catching_up], timeout=CATCH_UP_S)

    def _catch_up(self) -> None:
        if self._by_lease and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.create_task(self._settle_by_lease(), name="streambroker settles")

    async def _settle_by_lease(self) -> None:
        """One request at a time until nothing waits; a broker that is away is asked again and again."""
        tries = 0
        while self._by_lease:
            batch = self._next_batch()
            if not batch:
                continue
            try:
                results = await self._rest.settle_many(batch[0].verdict.what, [_item(one) for one in batch])
            except StreambrokerError as error:
                if not _comes_back(error):
                    for settlement in batch:
                        self._fail(settlement, error)
                    continue
                for settlement in reversed(batch):
                    settlement.repeated = True
                    self._by_lease.appendleft(settlement)
                tries += 1
                await self._sleep(_RETRY.wait_s(tries, error, self._chance()))
            else:
                tries = 0
                self._judge(batch, results)

    def _next_batch(self) -> list[Settlement]:
        """The first that wait and want the same request; those that were given up meanwhile are passed over."""
        waiting = self._by_lease
        while waiting and waiting[0] not in self._unconfirmed:
            waiting.popleft()
        what = waiting[0].verdict.what if waiting else None
        batch: list[Settlement] = []
        seen: set[str] = set()
        for settlement in islice(waiting, frames.MAX_IDS):
            if settlement.verdict.what != what or settlement.message.message_id in seen:
                break
            seen.add(settlement.message.message_id)
            batch.append(settlement)
        for _ in batch:
            waiting.popleft()
        return [settlement for settlement in batch if settlement in self._unconfirmed]

    # -- what became of them -------------------------------------------------------------------------------------------

    def _judge(self, batch: Sequence[Settlement], results: Sequence[SettleResult]) -> None:
        if len(batch) == len(results):
            for settlement, result in zip(batch, results, strict=True):
                if result.ok:
                    self._done(settlement)
                else:
                    self._refused(settlement, result.code or "")
            return
        for settlement in batch:
            self._fail(settlement, from_code("internal", "the broker's answer does not match what was settled"))

    def _done(self, settlement: Settlement) -> None:
        if self._unconfirmed.pop(settlement, self) is self:
            return
        if not settlement.future.done():
            settlement.future.set_result(None)
        if not self._unconfirmed:
            self._all_told.set()

    def _refused(self, settlement: Settlement, code: str) -> None:
        if settlement.repeated and _done_before(settlement.verdict, code):
            self._done(settlement)
            return
        lost = code in ("lease_lost", "not_found")
        if lost:
            settlement.message.lose()
        self._fail(settlement, lost_lease(settlement.message) if code == "lease_lost" else from_code(code))

    def _fail(self, settlement: Settlement, error: StreambrokerError) -> None:
        self._unconfirmed.pop(settlement, None)
        future = settlement.future
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever does not await it does not care
            log.info("%s of %s: %s", settlement.verdict.what, settlement.message.message_id, error)
        if not self._unconfirmed:
            self._all_told.set()

    def _sweep(self) -> None:
        """Once a second: what has waited too long is given up, for the memory of it must have a bound."""
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        for settlement in list(self._unconfirmed):
            if now - settlement.since < self._timeout:
                break
            late = f"the broker has not confirmed it within {self._timeout:g} s"
            self._fail(settlement, StreambrokerTimeout(late))
        if self._unconfirmed:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


def _frame(verdict: Verdict, number: int, ids: list[str]) -> bytes:
    if verdict.what == "ack":
        return frames.request("ack", number, ids=ids)
    if verdict.what == "extend":
        return frames.request("extend", number, ids=ids, lease_ms=verdict.lease_ms)
    more: dict[str, Any] = {"requeue": verdict.requeue, "delay_ms": verdict.delay_ms, "reason": verdict.reason}
    return frames.request("nack", number, ids=ids, **more)


def _item(settlement: Settlement) -> SettleItem:
    verdict, message = settlement.verdict, settlement.message
    return SettleItem(
        message.message_id, message.lease, verdict.requeue, verdict.delay_ms, verdict.reason, verdict.lease_ms
    )


def _comes_back(error: StreambrokerError) -> bool:
    """Whether the same settle can succeed later."""
    return isinstance(error, ConnectionLost | StreambrokerTimeout | Unavailable | ServerError)


def _done_before(verdict: Verdict, code: str) -> bool:
    """Whether a refusal of a repeated settle says that its end is reached: the first try may have been granted.

    A message that was acked is never handed out again, but it may have been purged since. One that was nacked to be
    tried again, and is held by somebody else now, is being tried again.
    """
    if verdict.what == "ack":
        return code == "not_found"
    return verdict.what == "nack" and verdict.requeue and code in ("lease_lost", "not_found")
