"""The queues that this node knows: created, changed, dropped, and who deals out what is in each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from streambroker.broker.clock import Clock
from streambroker.broker.dispatcher import Claimer, Dispatcher, Tokens
from streambroker.broker.quotas import InFlight, Leases, QueueCount, Quotas
from streambroker.broker.rates import Rates, Traffic
from streambroker.core.errors import BrokerError, Conflict, NotFound, invalid
from streambroker.core.message import Message
from streambroker.core.policy import QueueConfig, QueueConfigChange
from streambroker.store.contract import DropQueue, Queue, SaveQueue, Store
from streambroker.store.groupcommit import resolve

log = logging.getLogger(__name__)


class Registry:
    """Owns the dispatchers, one for each queue, and the counts that quotas bind.

    `claim` and `release` are what each dispatcher asks for messages and gives back by; `dropped` is called with the
    name of a queue that is gone, before its consumers hear of it. `exempt`: see `InFlight`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        auto_create_queues: bool,
        quotas: Quotas,
        exempt: Callable[[str], bool],
        claim: Claimer,
        release: Callable[[Sequence[Message]], object],
        dropped: Callable[[str], None],
    ) -> None:
        self.dispatchers: dict[str, Dispatcher] = {}
        self.generation = 0
        """Another number whenever a queue comes or goes, so that nobody has to compare lists of them."""
        self.draining = False
        self.in_flight = InFlight(quotas.max_in_flight_per_user, exempt)
        self._store = store
        self._clock = clock
        self._auto_create_queues = auto_create_queues
        self._queue_count = QueueCount(quotas)
        self._tokens = Tokens()
        self._claim = claim
        self._release = release
        self._dropped = dropped
        self._dropping: dict[asyncio.Future[None], str] = {}

    async def load(self) -> None:
        """Know the queues that the store holds, and who holds leases of them."""
        for queue in await self._store.queues():
            self.know(queue)
        for name, holder, count in await self._store.leases() if self.in_flight.most else ():
            self.dispatchers[name].leases.change(holder, count)

    def drain(self) -> None:
        """Deliver nothing more, from no queue."""
        self.draining = True
        for dispatcher in self.dispatchers.values():
            dispatcher.stop()

    # -- what there is -------------------------------------------------------------------------------------------------

    def queue(self, name: str) -> Queue:
        """The queue of that name. Raises `NotFound`."""
        return self.dispatcher(name).queue

    def queues(self) -> list[Queue]:
        """All queues by name."""
        return [self.dispatchers[name].queue for name in sorted(self.dispatchers)]

    def knows(self, name: str) -> bool:
        """Whether there is a queue of that name."""
        return name in self.dispatchers

    def check_queue(self, name: str) -> None:
        """Raise `NotFound` where there is no queue of that name and none would be created."""
        if name not in self.dispatchers and not self._auto_create_queues:
            raise NotFound(f"there is no queue {name}; create it with POST /queues")

    def rates(self, name: str) -> Rates:
        """What passed through the queue, per second over a minute."""
        return self.dispatcher(name).meter.rates(self._clock())

    def consumers(self, name: str) -> int:
        """Subscriptions and parked polls on the queue."""
        return len(self.dispatcher(name).consumers)

    def traffic(self) -> Mapping[str, Traffic]:
        """What passes through each queue. May be called from any thread: nothing but the copy needs to be whole."""
        known = self.dispatchers.copy()
        return {name: Traffic(dispatcher.meter, len(dispatcher.consumers)) for name, dispatcher in known.items()}

    def know(self, queue: Queue) -> None:
        """There is such a queue, and it is so configured."""
        dispatcher = self.dispatchers.get(queue.name)
        if dispatcher is not None:
            dispatcher.configure(queue)
            return
        leases = Leases(self.in_flight)
        dispatcher = Dispatcher(queue, self._clock, self._tokens, self._claim, self._release, leases)
        self._queue_count.known(queue)
        if self.draining:
            dispatcher.stop()
        self.dispatchers[queue.name] = dispatcher
        self.generation += 1

    def came_about(self, name: str, owner: str) -> None:
        """A dead letter made this queue, known from now on; it is forgotten if the store says that it is gone again."""
        self.know(Queue(name, QueueConfig(), False, self._clock(), owner))
        log.info("queue %s was created for dead letters", name, extra={"queue": name})

        def told(answer: Queue | BrokerError) -> None:
            if isinstance(answer, Queue):
                self.know(answer)
            elif isinstance(answer, NotFound):
                self._forget(name)

        # It replaces a queue that there never was: so nothing is changed, and what there is comes back.
        never = Queue(name, QueueConfig(), False, -1)
        self._store.post(SaveQueue(name, never.config, False, self._clock(), never), told)

    def dispatcher(self, name: str) -> Dispatcher:
        """Who deals out what is in the queue. Raises `NotFound`."""
        dispatcher = self.dispatchers.get(name)
        if dispatcher is None:
            raise NotFound(f"there is no queue {name}")
        return dispatcher

    def wake(self, name: str) -> None:
        """Messages of the queue may be ready."""
        if dispatcher := self.dispatchers.get(name):
            dispatcher.wake()

    # -- what changes it -----------------------------------------------------------------------------------------------

    async def ensure_queue(self, name: str, owner: str = "") -> Queue:
        """The queue of that name, created with defaults where that is allowed. Raises `NotFound` or `RateLimited`.

        `owner` is whose quotas a new queue counts against; nobody's where it is empty.
        """
        if name in self.dispatchers:
            return self.dispatchers[name].queue
        self.check_queue(name)
        await self._deletions_of(name)
        return (await self._made(SaveQueue(name, QueueConfig(), False, self._clock(), None, owner=owner)))[0]

    async def create_queue(self, name: str, config: QueueConfig, owner: str = "") -> tuple[Queue, bool]:
        """The queue, and whether it is new. `owner`: as for `ensure_queue`.

        Raises `Conflict` where it exists with another configuration, and `RateLimited`.
        """
        _check_dead_letters(name, config)
        await self._deletions_of(name, config.dead_letter_queue)
        queue, new = await self._made(SaveQueue(name, config, False, self._clock(), None, owner=owner))
        if queue.config != config:
            raise Conflict(f"queue {name} exists with another configuration; change it with PATCH /queues/{name}")
        return queue, new

    async def change_queue(self, name: str, change: QueueConfigChange) -> Queue:
        """The queue with some of its configuration changed. Raises `NotFound`, `Invalid` or `RateLimited`."""
        while True:
            queue = self.queue(name)
            config = change.applied_to(queue.config)
            _check_dead_letters(name, config)
            await self._deletions_of(config.dead_letter_queue)
            saved = await self._save(SaveQueue(name, config, queue.paused, self._clock(), queue, owner=queue.owner))
            if saved.config == config:  # else somebody else was quicker: once more, on what stands there now
                log.info("queue %s was changed", name, extra={"queue": name})
                return saved

    async def pause(self, name: str, paused: bool) -> Queue:
        """Deliver nothing from the queue, or go on. Raises `NotFound`."""
        while True:
            queue = self.queue(name)
            await self._deletions_of(queue.config.dead_letter_queue)
            saved = await self._save(SaveQueue(name, queue.config, paused, self._clock(), queue))
            if saved.paused == paused:
                log.info("queue %s was %s", name, "paused" if paused else "resumed", extra={"queue": name})
                return saved

    async def drop_queue(self, name: str) -> None:
        """Delete a queue and all that is in it. Raises `NotFound`."""
        self.dispatcher(name)
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[bool] = loop.create_future()
        over: asyncio.Future[None] = loop.create_future()  # its own: the caller's leaving would cancel the other

        def told(answer: bool | BrokerError) -> None:
            del self._dropping[over]
            if not isinstance(answer, BrokerError):
                self._forget(name)
            over.set_result(None)
            resolve(gone, answer)

        self._store.post(DropQueue(name), told)
        self._dropping[over] = name
        await gone
        log.info("queue %s was deleted", name, extra={"queue": name})

    async def _deletions_of(self, *names: str | None) -> None:
        """Until no deletion of these queues is on its way.

        A store applies settles before deletions that came with them. If the queue were made anew in the same turn, what
        ended a lease of the old one would be taken for the new one's.
        """
        while going := [over for over, name in self._dropping.items() if name in names]:
            await asyncio.wait(going)

    def _forget(self, name: str) -> None:
        if (dispatcher := self.dispatchers.pop(name, None)) is None:
            return
        self.generation += 1
        self._queue_count.dropped(name)
        dispatcher.leases.drop()
        self._dropped(name)
        for consumer in tuple(dispatcher.consumers):
            dispatcher.remove(consumer)
            consumer.queue_dropped()

    async def _made(self, command: SaveQueue) -> tuple[Queue, bool]:
        """The queue, and whether it is new."""
        existed = command.name in self.dispatchers
        queue = await self._save(command)
        new = not existed and queue.created_at == command.now
        if new:
            log.info("queue %s was created", queue.name, extra={"queue": queue.name})
        return queue, new

    def _save(self, command: SaveQueue) -> asyncio.Future[Queue]:
        """Raises `RateLimited` where it would be a queue too many."""
        saved: asyncio.Future[Queue] = asyncio.get_running_loop().create_future()
        coming = self._queue_count.expect((command.name, command.config.dead_letter_queue), command.owner)

        def told(answer: Queue | BrokerError) -> None:
            self._queue_count.came(coming)
            if not isinstance(answer, BrokerError):
                self._saved(answer, command.now)
            resolve(saved, answer)

        self._store.post(command, told)
        return saved

    def _saved(self, queue: Queue, now: int) -> None:
        self.know(queue)
        dlq = queue.config.dead_letter_queue
        if dlq is not None and dlq not in self.dispatchers:
            self.know(Queue(dlq, QueueConfig(), False, now, queue.owner))


def _check_dead_letters(name: str, config: QueueConfig) -> None:
    if config.dead_letter_queue == name:
        raise invalid("/dead_letter_queue", "a queue cannot be its own dead-letter queue")
