"""The broker: publish, deliver, settle. Transports call it, a store keeps what it does, dispatchers deal it out.

Used on one event loop. Everything that a caller is told is durable by then; consumers and observers are told after.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from streambroker.broker.clock import Clock
from streambroker.broker.dispatcher import Dispatcher, Reservation, Tokens
from streambroker.broker.events import Observers
from streambroker.broker.holder import Holder, LostReason
from streambroker.broker.poll import Poll
from streambroker.broker.quotas import NO_QUOTAS, InFlight, Leases, QueueCount, Quotas
from streambroker.broker.rates import SAMPLE_MS, Rates, Traffic, Waits
from streambroker.broker.tick import Tick
from streambroker.broker.tracing import Tracer, traced_delivery, traced_publish, traced_settle
from streambroker.core.errors import BrokerError, Conflict, Draining, NotFound, invalid
from streambroker.core.lifecycle import Event, Fate, Settlement
from streambroker.core.message import STATES_OF, STATUS_OF, Draft, Message, State, Status, weight
from streambroker.core.names import IdSequence
from streambroker.core.policy import QueueConfig, QueueConfigChange
from streambroker.core.timeline import Moment, moments
from streambroker.notify.contract import Notifier
from streambroker.store.contract import (
    Acked,
    Claim,
    Command,
    Delete,
    Depth,
    DropQueue,
    Lapsed,
    Overdue,
    Publish,
    Published,
    Purge,
    Queue,
    Redrive,
    Retry,
    SaveQueue,
    Settle,
    Settled,
    Store,
    Sweep,
)
from streambroker.store.groupcommit import resolve

log = logging.getLogger(__name__)

CHUNK = 1_000
"""Messages that one command of a purge, a redrive or the tick changes, so that none keeps the writer for long."""


SWEEP_S = 600
"""How often dedup records that are over are looked for, in seconds."""
RETRY_S = 1.0
"""How long to wait before a command that the store refused is given again, in seconds."""


class Broker:
    """Owns the dispatchers, the tick and the table of who holds which message on this node.

    `last_id` is the newest message id that the store holds; ids made here are larger. `exempt` says whom the quota of
    leases does not bind.
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
        self.draining = False
        self._stopped = False
        self.auto_create_queues = auto_create_queues
        self.waits = Waits()
        self.events = Observers(clock)
        self.generation = 0
        """Another number whenever a queue comes or goes, so that nobody has to compare lists of them."""
        self._tracer = tracer
        self._store = store
        self._notifier = notifier
        self._ids = IdSequence(last_id)
        self._chance = chance
        self._dispatchers: dict[str, Dispatcher] = {}
        self._queue_count = QueueCount(quotas)
        self._in_flight = InFlight(quotas.max_in_flight_per_user, exempt)
        self._tokens = Tokens()
        self._held: dict[int, Holder] = {}
        self._holders: set[Holder] = set()
        self._polls: set[Poll] = set()
        self._tick = Tick(clock, self._do_overdue)
        self._sweeping: asyncio.Task[None] | None = None
        self._dropped = asyncio.Event()
        self._sampling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the queues and begin to do what is due."""
        for queue in await self._store.queues():
            self._know(queue)
        for name, holder, count in await self._store.leases() if self._in_flight.most else ():
            self._dispatchers[name].leases.change(holder, count)
        self._notifier.watch(self._wake)
        self._tick.start()
        self._sampling = asyncio.create_task(self._sample())
        self._sweeping = asyncio.create_task(self._sweep_all())

    async def stop(self) -> None:
        """Stop the tick; the store is closed by whoever opened it."""
        self._stopped = True
        await self._tick.stop()
        for task in (self._sweeping, self._sampling):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    # -- queues --------------------------------------------------------------------------------------------------------

    def queue(self, name: str) -> Queue:
        """The queue of that name. Raises `NotFound`."""
        return self._dispatcher(name).queue

    def queues(self) -> list[Queue]:
        """All queues by name."""
        return [self._dispatchers[name].queue for name in sorted(self._dispatchers)]

    def knows(self, name: str) -> bool:
        """Whether there is a queue of that name."""
        return name in self._dispatchers

    def check_queue(self, name: str) -> None:
        """Raise `NotFound` where there is no queue of that name and none would be created."""
        if name not in self._dispatchers and not self.auto_create_queues:
            raise NotFound(f"there is no queue {name}; create it with POST /queues")

    async def ensure_queue(self, name: str, owner: str = "") -> Queue:
        """The queue of that name, created with defaults where that is allowed. Raises `NotFound` or `RateLimited`.

        `owner` is whose quotas a new queue counts against; nobody's where it is empty.
        """
        if name in self._dispatchers:
            return self._dispatchers[name].queue
        self.check_queue(name)
        return await self._save(SaveQueue(name, QueueConfig(), False, self.clock(), None, owner=owner))

    async def create_queue(self, name: str, config: QueueConfig, owner: str = "") -> tuple[Queue, bool]:
        """The queue, and whether it is new. `owner`: as for `ensure_queue`.

        Raises `Conflict` where it exists with another configuration, and `RateLimited`.
        """
        _check_dead_letters(name, config)
        existed, now = name in self._dispatchers, self.clock()
        queue = await self._save(SaveQueue(name, config, False, now, None, owner=owner))
        if queue.config != config:
            raise Conflict(f"queue {name} exists with another configuration; change it with PATCH /queues/{name}")
        return queue, not existed and queue.created_at == now

    async def change_queue(self, name: str, change: QueueConfigChange) -> Queue:
        """The queue with some of its configuration changed. Raises `NotFound`, `Invalid` or `RateLimited`."""
        while True:
            queue = self.queue(name)
            config = change.applied_to(queue.config)
            _check_dead_letters(name, config)
            saved = await self._save(SaveQueue(name, config, queue.paused, self.clock(), queue, owner=queue.owner))
            if saved.config == config:  # else somebody else was quicker: once more, on what stands there now
                return saved

    async def pause(self, name: str, paused: bool) -> Queue:
        """Deliver nothing from the queue, or go on. Raises `NotFound`."""
        while True:
            queue = self.queue(name)
            saved = await self._save(SaveQueue(name, queue.config, paused, self.clock(), queue))
            if saved.paused == paused:
                return saved

    async def drop_queue(self, name: str) -> None:
        """Delete a queue and all that is in it. Raises `NotFound`."""
        self._dispatcher(name)
        await self._applied(DropQueue(name), lambda _: self._forget_queue(name))

    def _forget_queue(self, name: str) -> None:
        if (dispatcher := self._dispatchers.pop(name, None)) is None:
            return
        self.generation += 1
        self._queue_count.dropped(name)
        dispatcher.leases.drop()
        for message_id in [m for m, holder in self._held.items() if holder.queue == name]:
            self._lose(message_id, None, "deleted")
        for poll in self._polls & dispatcher.consumers:
            poll.close()
        for holder in [h for h in self._holders if h.queue == name]:
            dispatcher.remove(holder)
            self._holders.discard(holder)
            holder.queue_dropped()
        if self.events.watched:
            self.events.dropped(name)
        self._dropped.set()

    async def purge(self, name: str, states: Sequence[State]) -> int:
        """Delete the messages that stand in `states`; answers how many."""
        self._dispatcher(name)
        purged = 0
        while gone := await self._store.submit(Purge(name, states, CHUNK)):
            purged += gone
        return purged

    async def redrive(self, name: str, source: str | None, limit: int | None) -> int:
        """Failed messages, or dead letters in the queue `source`, ready again in `name`; answers how many."""
        self._dispatcher(name)
        if source == name:
            raise invalid("/from", "a queue is no dead-letter queue of its own; leave it out for the failed messages")
        if source is not None:
            self._dispatcher(source)
        redriven = 0
        while limit is None or redriven < limit:
            chunk = CHUNK if limit is None else min(CHUNK, limit - redriven)
            items: list[Settled] = await self._store.submit(Redrive(name, source, chunk, self.clock()))
            moved = len(items)
            redriven += moved
            if self.events.watched:
                self.events.redriven(name, items)
            if moved:
                self._tick.due(self.clock())
                self._notifier.notify(name)
            if moved < chunk:
                break
        return redriven

    async def depth(self, name: str) -> Depth:
        """How many messages of the queue stand where."""
        return await self._store.depth(name)

    async def oldest_age_ms(self, name: str) -> int | None:
        """How long the oldest message that is ready has been waiting."""
        oldest = await self._store.oldest_ready(name)
        return None if oldest is None else max(self.clock() - oldest, 0)

    def rates(self, name: str) -> Rates:
        """What passed through the queue, per second over a minute."""
        return self._dispatcher(name).meter.rates(self.clock())

    def consumers(self, name: str) -> int:
        """Subscriptions and parked polls on the queue."""
        return len(self._dispatcher(name).consumers)

    def traffic(self) -> Mapping[str, Traffic]:
        """What passes through each queue. May be called from any thread: nothing but the copy needs to be whole."""
        known = self._dispatchers.copy()
        return {name: Traffic(dispatcher.meter, len(dispatcher.consumers)) for name, dispatcher in known.items()}

    # -- publish -------------------------------------------------------------------------------------------------------

    def new_ids(self, count: int, now: int) -> range:
        """Ids for drafts, in publish order."""
        return self._ids.take(count, now)

    def publish(self, queue: str, drafts: Sequence[Draft], **idempotency: Any) -> asyncio.Future[Published]:
        """Store drafts, all or none; what is awaited resolves once they are durable. Arguments as for `post`.

        The command is on its way when this returns, whatever happens to the caller.
        """
        future: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self.post(queue, drafts, partial(resolve, future), **idempotency)
        return future

    def post(
        self,
        queue: str,
        drafts: Sequence[Draft],
        told: Callable[[Published | BrokerError], None],
        *,
        batch_key: str | None = None,
        digest: bytes = b"",
        digests: Sequence[bytes] = (),
        parent: str | None = None,
    ) -> None:
        """Store drafts, all or none, and call `told` once they are durable, or with the reason why they are not:
        `Invalid`, `QueueFull`, `StorageFull`. Raises `Draining`, `NotFound`, `Overloaded`.

        `parent` is the trace context of the request. With a tracer, drafts without a context of their own get one."""
        if self.draining:
            raise Draining("the broker is stopping; publish again in a moment", retry_after_ms=1_000)
        began = perf_counter()
        dispatcher = self._dispatcher(queue)
        now = self.clock()
        if self._tracer is not None:
            told = traced_publish(self._tracer, queue, drafts, parent, told)
        size = sum([weight(draft.content, draft.attributes) for draft in drafts])
        reservations, claims = dispatcher.reserve(len(drafts), size, now)
        command = Publish(queue, drafts, now, claims, batch_key, digest, digests, size)

        def done(answer: Published | BrokerError) -> None:
            told(answer)
            if not isinstance(answer, BrokerError):
                self.waits.confirm.add(perf_counter() - began)
            self._published(dispatcher, command, reservations, answer)

        try:
            self._store.post(command, done)
        except BrokerError:
            dispatcher.served(reservations, ())
            raise

    def _published(
        self, dispatcher: Dispatcher, command: Publish, reservations: list[Reservation], answer: Published | BrokerError
    ) -> None:
        if isinstance(answer, BrokerError):
            dispatcher.served(reservations, ())
            self._notifier.notify(command.queue)  # whether it was stored may be unknown: a hint too many is harmless
            return
        for draft in command.drafts:
            if draft.available_at is not None:
                self._tick.due(draft.available_at)
            if draft.expires_at is not None:
                self._tick.due(draft.expires_at)
        fresh = 0 if answer.replayed else len(command.drafts) - len(answer.duplicates)
        dispatcher.meter.published += fresh
        dispatcher.meter.deduplicated += len(command.drafts) - fresh
        dispatcher.meter.dropped += answer.dropped
        if self.events.watched:
            self.events.published(command, answer)
        if reservations:
            self._note_leases(dispatcher, command.claims, answer.claimed)
            dispatcher.served(reservations, answer.claimed)
            dispatcher.pump()  # who got nothing of it stands in line again, and something else may be ready
        if answer.ready:
            self._notifier.notify(command.queue)

    # -- deliver -------------------------------------------------------------------------------------------------------

    def subscribe(self, holder: Holder) -> None:
        """Deliver to the holder from now on. Raises `NotFound`."""
        dispatcher = self._dispatcher(holder.queue)
        self._holders.add(holder)
        dispatcher.add(holder)

    def feed(self, holder: Holder) -> None:
        """The holder may have room again."""
        if dispatcher := self._dispatchers.get(holder.queue):
            dispatcher.feed(holder)

    def hold(self, holder: Holder, messages: Sequence[Message]) -> None:
        """The holder has been handed these: it is told when they are no longer its own."""
        for message in messages:
            before = self._held.get(message.id)
            self._held[message.id] = holder
            if before is not None and before is not holder and before.held.pop(message.id, None) is not None:
                # It changed hands before the news of how the old lease ended came round.
                before.lost(message.id, "expired")
                self.feed(before)

    def unsubscribe(self, holder: Holder, clean: bool, unseen: Sequence[Message] = ()) -> asyncio.Future[None] | None:
        """End a subscription that is closed already. Session leases are given back; not `clean`: as a failure each.

        `unseen` were handed to it but never sent: giving them back is no delivery and no failure.
        """
        if dispatcher := self._dispatchers.get(holder.queue):
            dispatcher.remove(holder)
        self._holders.discard(holder)
        never_sent = {message.id for message in unseen}
        items = []
        for message_id, token in holder.held.items():
            if self._held.get(message_id) is holder:
                del self._held[message_id]
            if message_id in never_sent:
                items.append(Settlement(message_id, Event.RELEASE, token, unseen=True))
            elif holder.session_lease:
                items.append(Settlement(message_id, Event.RELEASE if clean else Event.LOSE, token))
        holder.held.clear()
        return self._give_back(items) if items else None

    async def consume(
        self, queues: Sequence[str], holder: str, limit: int, wait_ms: int, lease_ms: int | None
    ) -> list[Message]:
        """Up to `limit` messages of the queues, waiting up to `wait_ms` for the first. Raises `NotFound`, and
        `RateLimited` where the holder has its quota of leases already.

        Cancelled while waiting, it takes no message along. While the broker drains it does not wait.
        """
        dispatchers = [self._dispatcher(name) for name in queues]
        self._in_flight.check(holder)
        poll = Poll(holder, limit, lease_ms)
        try:
            for dispatcher in dispatchers:
                if poll.arrived.done():
                    break
                await self._claim_now(dispatcher, poll)
            if not poll.arrived.done() and wait_ms and not self.draining:
                await self._park(poll, dispatchers, wait_ms)
            if poll.arrived.done() and not poll.arrived.cancelled():
                return poll.arrived.result()
            poll.close()
            return []
        except asyncio.CancelledError:
            self.release(poll.close())
            raise

    async def _claim_now(self, dispatcher: Dispatcher, poll: Poll) -> None:
        if dispatcher.queue.paused or not (await self._store.depth(dispatcher.queue.name)).ready:
            return
        reservations, claims = dispatcher.reserve_for(poll)
        came = asyncio.get_running_loop().create_future()

        def served(got: list[list[Message]]) -> None:
            dispatcher.served(reservations, got)
            if not came.done():
                came.set_result(None)

        if claims:
            self._claim(dispatcher, claims, served)
            await came

    async def _park(self, poll: Poll, dispatchers: Sequence[Dispatcher], wait_ms: int) -> None:
        if any(self._dispatchers.get(dispatcher.queue.name) is not dispatcher for dispatcher in dispatchers):
            return  # one of the queues was deleted while the others were asked
        self._polls.add(poll)
        poll.lines = dispatchers
        try:
            for dispatcher in dispatchers:
                dispatcher.add(poll)
            await asyncio.wait([poll.arrived], timeout=wait_ms / 1_000)
        finally:
            poll.lines = ()
            self._polls.discard(poll)
            for dispatcher in dispatchers:
                dispatcher.remove(poll)
        await poll.claimed()

    def release(self, messages: Sequence[Message]) -> None:
        """Give back what was claimed but not seen by anybody."""
        items = [Settlement(m.id, Event.RELEASE, m.lease, unseen=True) for m in messages]
        if items:
            self._give_back(items)

    def _give_back(self, items: Sequence[Settlement]) -> asyncio.Future[None]:
        """Release or lose leases, and again where the store refuses it: nobody else would ever end them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(answer: list[Settled] | Acked | BrokerError) -> None:
            if isinstance(answer, BrokerError) and not self._stopped:
                log.warning("giving back %d messages has to wait: %s", len(items), answer.detail)
                asyncio.get_running_loop().call_later(RETRY_S, self.post_settle, items, told)
            elif not done.done():
                done.set_result(None)

        self.post_settle(items, told)
        return done

    def _claim(
        self, dispatcher: Dispatcher, claims: Sequence[Claim], served: Callable[[list[list[Message]]], None]
    ) -> None:
        """Submit claims, one command each; `served` gets what they brought, in their order."""
        got: list[list[Message]] = []

        # The commands share a turn, and answers come in the order of the commands.
        def told(answer: list[Message] | BrokerError) -> None:
            if isinstance(answer, BrokerError):
                # Not that the queue is empty: whoever is hungry asks again.
                asyncio.get_running_loop().call_later(RETRY_S, dispatcher.wake)
            got.append([] if isinstance(answer, BrokerError) else answer)
            if len(got) == len(claims):
                self._note_leases(dispatcher, claims, got)
                served(got)

        for claim in claims:
            self._store.post(claim, told)

    def _note_leases(self, dispatcher: Dispatcher, claims: Sequence[Claim], got: Sequence[list[Message]]) -> None:
        now = self.clock()
        for claim, messages in zip(claims, got, strict=True):
            waited = [now - message.available_at for message in messages if message.attempt == 1]
            self.waits.delivery.add_all(waited)
            dispatcher.meter.delivered += len(messages)
            dispatcher.meter.redelivered += len(messages) - len(waited)
            if self.events.watched:
                self.events.delivered(claim.queue, messages)
            if self._tracer is not None:
                traced_delivery(self._tracer, claim.queue, messages, now - claim.now)
            if messages and claim.terms.until is not None:
                self._tick.due(claim.terms.until)

    # -- settle --------------------------------------------------------------------------------------------------------

    def let_go(self, holder: Holder, message_id: int) -> str | None:
        """The token with which the holder held the message, which counts against its credit no more."""
        token = holder.held.pop(message_id, None)
        if token is not None:
            self._held.pop(message_id, None)
        return token

    def hold_again(self, taken: Sequence[tuple[Holder, int, str]]) -> None:
        """A settle was refused as a whole: its holders still hold what it was for, or give it back when they ended."""
        for holder, message_id, token in taken:
            if holder in self._holders:
                holder.held[message_id] = token
                self._held[message_id] = holder
            elif holder.session_lease:
                self._give_back([Settlement(message_id, Event.RELEASE, token)])

    def holder_of(self, message_id: int) -> Holder | None:
        """Who on this node's connections holds the message."""
        return self._held.get(message_id)

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
        if self._tracer is not None:
            told = traced_settle(self._tracer, items, queue, told)

        def done(answer: list[Settled] | Acked | BrokerError) -> None:
            told(answer)
            if isinstance(answer, Acked):
                self._tick.due(answer.due_at)
                if dispatcher := self._dispatchers.get(queue or ""):
                    dispatcher.meter.settled += len(items)
                    if holder is not None:
                        dispatcher.leases.change(holder, -len(items))
            else:
                self._settled(items, answer)

        if holder is None and self._in_flight.most:
            queue = None  # whose leases end has to come with the answer
        if queue is not None and queue in self.events.watched:
            queue = None  # and so has which delivery it was
        self._store.post(Settle(items, self.clock(), relaxed, queue), done, lazy)

    def chance(self) -> float:
        """A throw of the dice in [0, 1), for the jitter of a settlement."""
        return self._chance()

    def _settled(self, items: Sequence[Settlement], answer: list[Settled] | BrokerError) -> None:
        if isinstance(answer, BrokerError):
            for queue in list(self._dispatchers):  # unknown what became ready
                self._notifier.notify(queue)
            return
        if self.events.watched:
            self.events.settled(answer)
        woken: set[str] = set()
        for item, settled in zip(items, answer, strict=True):
            fate = settled.fate
            if fate is None:
                continue
            self._count_lease(settled)
            if dispatcher := self._dispatchers.get(settled.queue):
                dispatcher.meter.ended(item.event, fate)
            if fate is not Fate.EXTENDED:
                self._lose(settled.id, settled.lease, "settled")
            if fate is Fate.PROCESSED:
                self._tick.due(settled.due_at or 0)
            else:
                self._follow(settled, woken)
        for queue in woken:
            self._notifier.notify(queue)

    def _follow(self, settled: Settled, woken: set[str]) -> None:
        """See to what comes of a change: when it is due, and who can have it."""
        if settled.due_at is not None:
            self._tick.due(settled.due_at)
        if settled.fate is Fate.READY or settled.fate is Fate.DEAD_LETTERED:
            woken.add(settled.now_in)
            if settled.now_in not in self._dispatchers:
                source = self._dispatchers.get(settled.queue)
                owner = source.queue.owner if source else ""
                self._know(Queue(settled.now_in, QueueConfig(), False, self.clock(), owner))

    def _count_lease(self, settled: Settled) -> None:
        """A lease may have ended, or one that was over goes on."""
        leased = settled.state is State.LEASED and settled.fate is not Fate.GONE
        if leased is not settled.leased and (dispatcher := self._dispatchers.get(settled.queue)):
            dispatcher.leases.change(settled.holder or "", 1 if leased else -1)

    def _lose(self, message_id: int, lease: str | None, reason: LostReason) -> None:
        """Tell the holder of the message with that lease (None: whatever lease) that it holds it no more."""
        holder = self._held.get(message_id)
        if holder is None or (lease is not None and holder.held.get(message_id) != lease):
            return
        del self._held[message_id]
        if holder.held.pop(message_id, None) is not None:
            holder.lost(message_id, reason)
            self.feed(holder)

    # -- look ----------------------------------------------------------------------------------------------------------

    async def get(self, message_id: int) -> Message:
        """One message. Raises `NotFound`."""
        message = await self._store.get(message_id)
        if message is None:
            raise NotFound("there is no such message")
        return message

    async def timeline(self, message_id: int) -> tuple[Message, list[Moment]]:
        """One message, and what happened to it, the oldest first. Raises `NotFound`."""
        found = await self._store.timeline(message_id)
        if found is None:
            raise NotFound("there is no such message")
        message, records = found
        return message, moments(message, records)

    async def browse(
        self, queue: str, status: Status | None, key: str | None, contains: bytes | None, limit: int, cursor: str | None
    ) -> tuple[list[Message], str | None]:
        """See `Store.browse`. Raises `NotFound`."""
        self._dispatcher(queue)
        return await self._store.browse(queue, status, key, contains, limit, cursor)

    async def retry(self, message_id: int) -> Settled:
        """Make a failed message ready again where it failed. Raises `NotFound`, `Conflict` where it has not failed."""
        retried: Settled = await self._store.submit(Retry(message_id, self.clock()))
        if retried.refusal == "not_failed":
            raise Conflict(f"the message is {STATUS_OF[retried.state]}; only a failed one can be retried")
        if retried.refusal is not None:
            raise NotFound("there is no such message")
        if self.events.watched:
            self.events.redriven(retried.queue, [retried])
        if retried.due_at is not None:
            self._tick.due(retried.due_at)
        self._notifier.notify(retried.queue)
        return retried

    async def delete(self, message_id: int) -> Settled:
        """Delete a message from any state; a holder hears of it. Raises `NotFound`."""
        gone: Settled = await self._applied(Delete(message_id), self._deleted)
        if gone.refusal is not None:
            raise NotFound("there is no such message")
        return gone

    def _deleted(self, gone: Settled) -> None:
        if gone.refusal is None:
            self._count_lease(gone)
            self._lose(gone.id, None, "deleted")

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
        lapsed: Lapsed = await self._applied(Overdue(now, CHUNK), self._lapsed)
        return lapsed.next_due

    def _lapsed(self, lapsed: Lapsed) -> None:
        if self.events.watched:
            self.events.lapsed(lapsed.items)
        woken: set[str] = set()
        for item in lapsed.items:
            self._count_lease(item)
            if item.fate is not None and (dispatcher := self._dispatchers.get(item.queue)):
                dispatcher.meter.overdue(item.leased, item.fate)
            if item.fate is not Fate.GONE:
                self._lose(item.id, item.lease, "expired")
                self._follow(item, woken)
        for queue in woken:
            self._notifier.notify(queue)

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
            for dispatcher in self._dispatchers.values():
                dispatcher.meter.sample(now)

    # -- drain ---------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more publishes, answer parked polls now, deliver nothing more."""
        self.draining = True
        for poll in list(self._polls):
            poll.close()
        for dispatcher in self._dispatchers.values():
            dispatcher.stop()

    async def processing(self) -> int:
        """How many messages somebody is working on."""
        return sum([(await self._store.depth(name)).leased for name in self._dispatchers])

    def _applied(self, command: Command, apply: Callable[[Any], None]) -> asyncio.Future[Any]:
        """Submit a command, and `apply` its answer in its turn: in the order in which the store applied the commands.

        What is awaited comes a turn of the loop later, when the answers to younger commands may have been applied.
        """
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def told(answer: Any) -> None:
            if not isinstance(answer, BrokerError):
                apply(answer)
            resolve(answered, answer)

        self._store.post(command, told)
        return answered

    # -- small pieces --------------------------------------------------------------------------------------------------

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
        self._know(queue)
        dlq = queue.config.dead_letter_queue
        if dlq is not None and dlq not in self._dispatchers:
            self._know(Queue(dlq, QueueConfig(), False, now, queue.owner))

    def _know(self, queue: Queue) -> None:
        dispatcher = self._dispatchers.get(queue.name)
        if dispatcher is not None:
            dispatcher.configure(queue)
            return
        leases = Leases(self._in_flight)
        dispatcher = Dispatcher(queue, self.clock, self._tokens, self._claim, self.release, leases)
        self._queue_count.known(queue)
        if self.draining:
            dispatcher.stop()
        self._dispatchers[queue.name] = dispatcher
        self.generation += 1

    def _dispatcher(self, name: str) -> Dispatcher:
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None:
            raise NotFound(f"there is no queue {name}")
        return dispatcher

    def _wake(self, name: str) -> None:
        if dispatcher := self._dispatchers.get(name):
            dispatcher.wake()


def _check_dead_letters(name: str, config: QueueConfig) -> None:
    if config.dead_letter_queue == name:
        raise invalid("/dead_letter_queue", "a queue cannot be its own dead-letter queue")


def states_of(status: Status | None) -> tuple[State, ...]:
    """The states that a purge of `status` empties (None: all but what is processing)."""
    if status is None:
        return State.READY, State.DELAYED, State.PROCESSED, State.FAILED
    return STATES_OF[status]
