"""The way of a settle, and what comes of it: who loses the message, what is due, and who can have it now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from streambroker.broker.clock import Clock
from streambroker.broker.events import Observers
from streambroker.broker.holder import Holder, Holding
from streambroker.broker.registry import Registry
from streambroker.broker.tick import Tick
from streambroker.broker.tracing import Tracer, traced_settle
from streambroker.core.errors import BrokerError
from streambroker.core.lifecycle import Event, Fate, Settlement
from streambroker.core.message import Message, State
from streambroker.notify.contract import Notifier
from streambroker.store.contract import Acked, Lapsed, Settle, Settled, Store
from streambroker.store.groupcommit import resolve

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""How long to wait before leases that the store did not take back are given back again, in seconds."""


@dataclass(frozen=True, slots=True)
class Settling:
    """Whatever ends a lease or changes what a message is, asked for or by the time, is followed up here."""

    store: Store
    notifier: Notifier
    clock: Clock
    queues: Registry
    holding: Holding
    tick: Tick
    events: Observers
    tracer: Tracer | None

    def settle(self, items: Sequence[Settlement], relaxed: bool = False) -> asyncio.Future[list[Settled]]:
        """Ack, nack, extend: each item is judged on its own; resolves once what was granted is durable."""
        future: asyncio.Future[list[Settled]] = asyncio.get_running_loop().create_future()
        self.post_settle(items, partial(resolve, future), relaxed)
        return future

    def post_settle(
        self,
        items: Sequence[Settlement],
        told: Callable[[list[Settled] | Acked | BrokerError], None],
        relaxed: bool = False,
        queue: str | None = None,
        lazy: bool = False,
        holder: str | None = None,
    ) -> None:
        """As `settle`, and call `told` with what became of each. `relaxed`, `queue`: see `store.contract.Settle`;
        `lazy`: see `Store.post`. `holder` is the user that holds all of them; without it `queue` may not help."""
        if self.tracer is not None:
            told = traced_settle(self.tracer, items, queue, told)

        def done(answer: list[Settled] | Acked | BrokerError) -> None:
            told(answer)
            if isinstance(answer, Acked):
                self.tick.due(answer.due_at)
                if dispatcher := self.queues.dispatchers.get(queue or ""):
                    dispatcher.meter.settled += len(items)
                    if holder is not None:
                        dispatcher.leases.change(holder, -len(items))
            else:
                self._settled(items, answer)

        if holder is None and self.queues.in_flight.most:
            queue = None  # whose leases end has to come with the answer
        if queue is not None and queue in self.events.watched:
            queue = None  # and so has which delivery it was
        self.store.post(Settle(items, self.clock(), relaxed, queue), done, lazy)

    # -- give back -----------------------------------------------------------------------------------------------------

    def unsubscribe(self, holder: Holder, clean: bool, unseen: Sequence[Message] = ()) -> asyncio.Future[None] | None:
        """End a subscription that is closed already. Session leases are given back; not `clean`: as a failure each.

        `unseen` were handed to it but never sent: giving them back is no delivery and no failure.
        """
        items = self.holding.leave(holder, clean, unseen)
        return self._give_back(items) if items else None

    def hold_again(self, taken: Sequence[tuple[Holder, int, str]]) -> None:
        """A settle was refused as a whole: its holders still hold what it was for, or give it back when they ended."""
        for holder, message_id, token in taken:
            if not self.holding.hold_again(holder, message_id, token) and holder.session_lease:
                self._give_back([Settlement(message_id, Event.RELEASE, token)])

    def release(self, messages: Sequence[Message]) -> asyncio.Future[None] | None:
        """Give back what was claimed but not seen by anybody. The future is done when it is ready for others."""
        items = [Settlement(m.id, Event.RELEASE, m.lease, unseen=True) for m in messages]
        return self._give_back(items) if items else None

    def _give_back(self, items: Sequence[Settlement]) -> asyncio.Future[None]:
        """Release or lose leases, and again where the store refuses it: nobody else would ever end them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(answer: list[Settled] | Acked | BrokerError) -> None:
            if isinstance(answer, BrokerError) and not self.tick.stopped:
                log.warning("giving back %d messages has to wait: %s", len(items), answer.detail)
                asyncio.get_running_loop().call_later(RETRY_S, self.post_settle, items, told)
            elif not done.done():
                done.set_result(None)

        self.post_settle(items, told)
        return done

    # -- what comes of it ----------------------------------------------------------------------------------------------

    def _settled(self, items: Sequence[Settlement], answer: list[Settled] | BrokerError) -> None:
        if isinstance(answer, BrokerError):
            for queue in list(self.queues.dispatchers):  # unknown what became ready
                self.notifier.notify(queue)
            return
        if self.events.watched:
            self.events.settled(answer)
        woken: set[str] = set()
        for item, settled in zip(items, answer, strict=True):
            fate = settled.fate
            if fate is None:
                self.queues.in_flight.home(item.id, item.lease)
                continue
            self._count_lease(settled)
            self.queues.in_flight.home(item.id, item.lease)
            if dispatcher := self.queues.dispatchers.get(settled.queue):
                dispatcher.meter.ended(item.event, fate)
            if fate is not Fate.EXTENDED:
                self.holding.lose(settled.id, settled.lease, "settled")
            if fate is Fate.PROCESSED:
                self.tick.due(settled.due_at or 0)
            else:
                self._follow(settled, woken)
        for queue in woken:
            self.notifier.notify(queue)

    def _follow(self, settled: Settled, woken: set[str]) -> None:
        """See to what comes of a change: when it is due, and who can have it."""
        if settled.due_at is not None:
            self.tick.due(settled.due_at)
        if settled.fate is Fate.READY or settled.fate is Fate.DEAD_LETTERED:
            woken.add(settled.now_in)
            if settled.now_in not in self.queues.dispatchers:
                source = self.queues.dispatchers.get(settled.queue)
                self.queues.came_about(settled.now_in, source.queue.owner if source else "")

    def _count_lease(self, settled: Settled) -> None:
        """A lease may have ended, or one that was over goes on."""
        if self.queues.in_flight.is_stray(settled.id, settled.lease):
            return
        leased = settled.state is State.LEASED and settled.fate is not Fate.GONE
        if leased is not settled.leased and (dispatcher := self.queues.dispatchers.get(settled.queue)):
            dispatcher.leases.change(settled.holder or "", 1 if leased else -1)

    def lapsed(self, lapsed: Lapsed) -> None:
        """What was due was done, and that became of it."""
        if self.events.watched:
            self.events.lapsed(lapsed.items)
        woken: set[str] = set()
        for item in lapsed.items:
            self._count_lease(item)
            if item.fate is not None and (dispatcher := self.queues.dispatchers.get(item.queue)):
                dispatcher.meter.overdue(item.leased, item.fate)
            if item.fate is not Fate.GONE:
                self.holding.lose(item.id, item.lease, "expired")
                self._follow(item, woken)
        for queue in woken:
            self.notifier.notify(queue)

    def deleted(self, gone: Settled) -> None:
        """A message was deleted, whoever held it."""
        if gone.refusal is None:
            self._count_lease(gone)
            self.holding.lose(gone.id, None, "deleted")
