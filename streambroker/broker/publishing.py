"""The way of a publish: from the drafts to the store, and to everybody who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from streambroker.broker.claims import Claims
from streambroker.broker.clock import Clock
from streambroker.broker.dispatcher import Dispatcher, Reservation
from streambroker.broker.events import Observers
from streambroker.broker.rates import Waits
from streambroker.broker.registry import Registry
from streambroker.broker.tick import Tick
from streambroker.broker.tracing import Tracer, traced_publish
from streambroker.core.errors import BrokerError, Draining
from streambroker.core.message import Draft, weight
from streambroker.notify.contract import Notifier
from streambroker.store.contract import Publish, Published, Store
from streambroker.store.groupcommit import resolve


@dataclass(frozen=True, slots=True)
class Publishing:
    """Reserves what waiting consumers have room for, so that a publish and their claims are one transaction."""

    store: Store
    notifier: Notifier
    clock: Clock
    queues: Registry
    claims: Claims
    tick: Tick
    waits: Waits
    events: Observers
    tracer: Tracer | None

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
        if self.queues.draining:
            raise Draining("the broker is stopping; publish again in a moment", retry_after_ms=1_000)
        began = perf_counter()
        dispatcher = self.queues.dispatcher(queue)
        now = self.clock()
        if self.tracer is not None:
            told = traced_publish(self.tracer, queue, drafts, parent, told)
        size = sum([weight(draft.content, draft.attributes) for draft in drafts])
        reservations, claims = dispatcher.reserve(len(drafts), size, now)
        command = Publish(queue, drafts, now, claims, batch_key, digest, digests, size)

        def done(answer: Published | BrokerError) -> None:
            told(answer)
            if not isinstance(answer, BrokerError):
                self.waits.confirm.add(perf_counter() - began)
            self._published(dispatcher, command, reservations, answer)

        try:
            self.store.post(command, done)
        except BrokerError:
            dispatcher.served(reservations, ())
            raise

    def _published(
        self, dispatcher: Dispatcher, command: Publish, reservations: list[Reservation], answer: Published | BrokerError
    ) -> None:
        if isinstance(answer, BrokerError):
            dispatcher.served(reservations, ())
            self.notifier.notify(command.queue)  # whether it was stored may be unknown: a hint too many is harmless
            return
        for draft in command.drafts:
            if draft.available_at is not None:
                self.tick.due(draft.available_at)
            if draft.expires_at is not None:
                self.tick.due(draft.expires_at)
        fresh = 0 if answer.replayed else len(command.drafts) - len(answer.duplicates)
        dispatcher.meter.published += fresh
        dispatcher.meter.deduplicated += len(command.drafts) - fresh
        dispatcher.meter.dropped += answer.dropped
        if self.events.watched:
            self.events.published(command, answer)
        if reservations:
            self.claims.note(dispatcher, command.claims, answer.claimed)
            dispatcher.served(reservations, answer.claimed)
            dispatcher.pump()  # who got nothing of it stands in line again, and something else may be ready
        if answer.ready:
            self.notifier.notify(command.queue)
