"""The broker: publish, deliver, settle. Transports call it, a store keeps what it does, dispatchers deal it out.

Used on one event loop. Everything that a caller is told is durable by then; consumers and observers are told after.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

from streambroker.broker.administration import CHUNK, Administration, states_of
from streambroker.broker.claims import Claims
from streambroker.broker.clock import Clock
from streambroker.broker.events import Observers
from streambroker.broker.holder import Holding
from streambroker.broker.in_turn import in_turn
from streambroker.broker.poll import Polling
from streambroker.broker.publishing import Publishing
from streambroker.broker.quotas import NO_QUOTAS, Quotas
from streambroker.broker.rates import SAMPLE_MS, Waits
from streambroker.broker.registry import Registry
from streambroker.broker.settling import Settling
from streambroker.broker.tick import Tick
from streambroker.broker.tracing import Tracer
from streambroker.core.errors import BrokerError
from streambroker.core.message import Message
from streambroker.core.names import IdSequence
from streambroker.notify.contract import Notifier
from streambroker.store.contract import Lapsed, Overdue, Store, Sweep

__all__ = ["Broker", "states_of"]

log = logging.getLogger(__name__)

SWEEP_S = 600
"""How often dedup records that are over are looked for, in seconds."""


class Broker:
    """Puts the parts together, and does what is due by the time.

    Its face is theirs: what the doors call are the parts' own methods, so a publish, a delivery or a settle costs no
    call more than its part, and what each promises is said there.

    `last_id` is the newest message id that the store holds; ids made here are larger. `chance` throws the dice in
    [0, 1), for the jitter of a settlement. `exempt` says whom the quota of leases does not bind.
    """

    def __init__(
        self,
        store: Store,
        notifier: Notifier,
        clock: Clock,
        last_id: int = 0,
        auto_create_queues: bool = True,
        chance: Callable[[], float] = random.random,
        quotas: Quotas = NO_QUOTAS,
        exempt: Callable[[str], bool] = lambda user: False,
        tracer: Tracer | None = None,
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.waits = waits = Waits()
        self.events = events = Observers(clock)
        self._store = store
        self._notifier = notifier
        self._tick = tick = Tick(clock, self._do_overdue)
        self._tasks: list[asyncio.Task[None]] = []
        self._dropped = asyncio.Event()
        claims = Claims(store, clock, tick, waits, events, tracer)
        self._queues = queues = Registry(
            store, clock, auto_create_queues, quotas, exempt, claims.claim, self._release, self._queue_dropped
        )
        self._holding = holding = Holding(queues)
        self._settling = settling = Settling(store, notifier, clock, queues, holding, tick, events, tracer)
        self._polling = polling = Polling(store, queues, claims.claim, settling.release)
        publishing = Publishing(store, notifier, clock, queues, claims, tick, waits, events, tracer)
        administration = Administration(store, notifier, clock, queues, settling, tick, events)

        self.queue, self.queues, self.knows = queues.queue, queues.queues, queues.knows
        self.check_queue, self.ensure_queue = queues.check_queue, queues.ensure_queue
        self.create_queue, self.change_queue = queues.create_queue, queues.change_queue
        self.pause, self.drop_queue = queues.pause, queues.drop_queue
        self.rates, self.consumers, self.traffic = queues.rates, queues.consumers, queues.traffic

        self.new_ids, self.publish, self.post = IdSequence(last_id).take, publishing.publish, publishing.post

        self.subscribe, self.hold, self.feed = holding.subscribe, holding.hold, holding.feed
        self.let_go, self.holder_of, self.hold_again = holding.let_go, holding.holder_of, settling.hold_again
        self.consume, self.release, self.unsubscribe = polling.consume, settling.release, settling.unsubscribe
        self.settle, self.post_settle = settling.settle, settling.post_settle

        self.get, self.timeline, self.browse = administration.get, administration.timeline, administration.browse
        self.depth, self.oldest_age_ms = administration.depth, administration.oldest_age_ms
        self.purge, self.redrive = administration.purge, administration.redrive
        self.retry, self.delete = administration.retry, administration.delete

    @property
    def draining(self) -> bool:
        """It takes no more publishes: see `drain`."""
        return self._queues.draining

    @property
    def generation(self) -> int:
        """See `Registry.generation`."""
        return self._queues.generation

    # -- its life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the queues and begin to do what is due."""
        await self._queues.load()
        self._notifier.watch(self._queues.wake)
        self._tick.start()
        self._tasks = [asyncio.create_task(run) for run in (self._sample(), self._sweep_all())]

    def drain(self) -> None:
        """Take no more publishes, answer parked polls now, deliver nothing more."""
        self._queues.drain()
        self._polling.drain()

    async def processing(self) -> int:
        """How many messages somebody is working on."""
        return sum([(await self._store.depth(name)).leased for name in tuple(self._queues.dispatchers)])

    async def stop(self) -> None:
        """Stop the tick; the store is closed by whoever opened it."""
        await self._tick.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- time ----------------------------------------------------------------------------------------------------------

    async def catch_up(self) -> int | None:
        """Do all that is due by now, for a clock that leaps; answers when the next thing is (None: nothing is).

        What became ready by it has been offered to those who wait for it when this returns.
        """
        before: int | None = -1
        while True:
            now = self.clock()
            following = await self._do_overdue(now)
            if following is not None and following <= now:
                continue  # there was more than one command takes
            if following == before:
                return following
            before = following
            # Claims that the above has begun are ahead of this command, and so are their answers. They bring new dates.
            while await self._store.submit(Sweep(now, CHUNK)):
                pass

    async def _do_overdue(self, now: int) -> int | None:
        """Do what is due; answers when to come back."""
        lapsed: Lapsed = await in_turn(self._store, Overdue(now, CHUNK), self._settling.lapsed)
        return lapsed.next_due

    async def _sweep_all(self) -> None:
        """Delete what dropped queues left, at once, and every ten minutes what dedup records are over."""
        while True:
            self._dropped.clear()
            try:
                while await self._store.submit(Sweep(self.clock(), CHUNK)):
                    pass
            except BrokerError as error:
                log.warning("sweeping has to wait: %s", error.detail)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._dropped.wait()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_MS / 1_000)
            now = self.clock()
            for dispatcher in self._queues.dispatchers.values():
                dispatcher.meter.sample(now)

    # -- what the registry of queues asks of the others ----------------------------------------------------------------

    def _release(self, messages: Sequence[Message]) -> None:
        self._settling.release(messages)

    def _queue_dropped(self, name: str) -> None:
        self._holding.dropped(name)
        self.events.dropped(name)
        self._dropped.set()
