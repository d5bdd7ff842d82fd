"""Claims: asked of the store for a dispatcher, and what they brought, noted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from streambroker.broker.clock import Clock
from streambroker.broker.dispatcher import Dispatcher, Served
from streambroker.broker.events import Observers
from streambroker.broker.rates import Waits
from streambroker.broker.tick import Tick
from streambroker.broker.tracing import Tracer, traced_delivery
from streambroker.core.errors import BrokerError
from streambroker.core.message import Message
from streambroker.store.contract import Claim, Store

RETRY_S = 1.0
"""How long to wait before a claim that the store refused is made again, in seconds."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Holds nothing but what it was given: the store is asked, and whoever counts, watches or traces is told."""

    store: Store
    clock: Clock
    tick: Tick
    waits: Waits
    events: Observers
    tracer: Tracer | None

    def claim(self, dispatcher: Dispatcher, claims: Sequence[Claim], served: Served) -> None:
        """Submit claims, one command each; `served` gets what they brought, in their order."""
        got: list[list[Message]] = []

        # The commands share a turn, and answers come in the order of the commands.
        def told(answer: list[Message] | BrokerError) -> None:
            if isinstance(answer, BrokerError):
                # Not that the queue is empty: whoever is hungry asks again.
                asyncio.get_running_loop().call_later(RETRY_S, dispatcher.wake)
            got.append([] if isinstance(answer, BrokerError) else answer)
            if len(got) == len(claims):
                self.note(dispatcher, claims, got)
                served(got)

        for claim in claims:
            self.store.post(claim, told)

    def note(self, dispatcher: Dispatcher, claims: Sequence[Claim], got: Sequence[list[Message]]) -> None:
        """Claims that were durable brought these, each its own: count them, tell of them, and when they are due."""
        now = self.clock()
        for claim, messages in zip(claims, got, strict=True):
            waited = [now - message.available_at for message in messages if message.attempt == 1]
            self.waits.delivery.add_all(waited)
            dispatcher.meter.delivered += len(messages)
            dispatcher.meter.redelivered += len(messages) - len(waited)
            if self.events.watched:
                self.events.delivered(claim.queue, messages)
            if self.tracer is not None:
                traced_delivery(self.tracer, claim.queue, messages, now - claim.now)
            if messages and claim.terms.until is not None:
                self.tick.due(claim.terms.until)
