"""A webhook as a consumer: it takes messages, makes a request of each, and settles it by what comes back."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Protocol

import msgspec

from streambroker.broker.broker import Broker
from streambroker.broker.holder import LostReason
from streambroker.core.errors import BrokerError
from streambroker.core.lifecycle import Event, LeaseTerms, Settlement
from streambroker.core.message import Attributes, Message, weight
from streambroker.protocol.messages import shown
from streambroker.store.sql.webhooks import Webhook
from streambroker.transport.roster import Seat
from streambroker.transport.webhooks.answers import Answer, Headers
from streambroker.transport.webhooks.circuit import Circuit

log = logging.getLogger(__name__)

MAX_BYTES = 1024 * 1024
"""About how much content one webhook works on at a time; one message always fits."""
_UNSETTLED = 4
"""How many answers may wait for their commit for each request at a time: a store that is slow holds requests up."""
_RETRY_S = 1.0
_MAX_REASON = 300

_traceparent = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_attributes = msgspec.json.Decoder(Attributes)


class Post(Protocol):
    """Makes one signed request when its turn comes, and notes it in the log."""

    async def __call__(
        self, message: Message, body: bytes, headers: Headers, going: Callable[[], bool], /
    ) -> Answer | None:
        """`going` is asked, when it is its turn, whether the request is still to be made; None where it was not."""


class Push:
    """One run of one webhook, from when it is enabled or changed until it is no more; a `broker.Holder`.

    Owns the messages that it works on, one task each until the answer, and one until that is settled, when the next
    request may be under way already; `seat` is its place among the consumers. Leases last as long as
    the requests do, and those are bounded by `timeout_ms`. `may` is asked before each request whether it still has the
    right to. `given_up` hears why it is to be disabled, and ends it at once; `turned` that its circuit has opened or
    closed; `ended` that its queue was deleted.
    """

    session_lease = True

    def __init__(
        self,
        webhook: Webhook,
        broker: Broker,
        post: Post,
        may: Callable[[], bool],
        given_up: Callable[[str], None],
        turned: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self.webhook = webhook
        self.queue = webhook.queue
        self.holder = webhook.username
        self.held: dict[int, str] = {}
        self.circuit = Circuit(webhook.failing_since)
        self.seat: Seat | None = None
        self.closed = False
        self.last_failure: str | None = None
        self._broker = broker
        self._post = post
        self._may = may
        self._given_up = given_up
        self._turned = turned
        self._ended = ended
        self._working: dict[asyncio.Task[None], Message] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._unsent: set[tuple[int, str | None]] = set()
        self._reserved = 0
        self._bytes = 0
        self._waking: asyncio.TimerHandle | None = None
        self._given_back: asyncio.Future[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # -- its life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take messages from now on. Raises `NotFound` where there is no such queue."""
        self._broker.subscribe(self)

    def finish(self) -> None:
        """Take no more; what is under way comes to its end, what was not sent yet goes back."""
        self.closed = True
        self._quiet()
        for task, message in list(self._working.items()):
            if _delivery(message) in self._unsent:
                task.cancel()
        self._rest()

    async def abort(self) -> None:
        """Take no more, and break off what is under way: its messages go back, which counts no failure.

        Returns when they are ready for others.
        """
        self.closed = True
        self._quiet()
        tasks = [*self._working, *self._settling]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._leave()
        if self._given_back is not None:
            await asyncio.shield(self._given_back)

    def took(self) -> None:
        """The receiver is there again: a request outside of the queue succeeded."""
        was_open = self.circuit.open
        self.circuit.succeeded()
        if was_open:
            self._turned()
        self._wake()

    async def drained(self) -> None:
        """Returns when no request is under way, and every answer is settled."""
        await self._idle.wait()

    @property
    def in_flight(self) -> int:
        """How many messages it works on."""
        return len(self._working) + len(self._settling)

    def _quiet(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None

    def _leave(self) -> None:
        self._given_back = self._broker.unsubscribe(self, True) or self._given_back

    # -- what the broker asks: `broker.Holder` -------------------------------------------------------------------------

    def wants(self) -> tuple[int, int]:
        """See `Consumer`."""
        now = self._broker.clock()
        if self.closed:
            return 0, 0
        most = self.webhook.concurrency
        room = self.circuit.room(most, now) - len(self._working) - self._reserved
        room = min(room, most * _UNSETTLED - self.in_flight)
        if now < self.circuit.resume_at:
            self._wake_in(self.circuit.resume_at - now)
        left = MAX_BYTES - self._bytes
        return (room, left) if room > 0 and left > 0 else (0, 0)

    def terms(self, token: str, now: int, lease_ms: int) -> LeaseTerms:
        """See `Consumer`. The lease ends with the request, or with the broker."""
        return LeaseTerms(token, self.holder, None)

    def reserve(self, count: int, size: int) -> None:
        """See `Consumer`."""
        self._reserved += count

    def deliver(self, count: int, size: int, messages: list[Message]) -> list[Message]:
        """See `Consumer`."""
        self._reserved -= count
        if self.closed:
            return messages
        for message in messages:
            self.held[message.id] = message.lease or ""
        self._broker.hold(self, messages)
        for message in messages:
            self._begin(message)
        return []

    def lost(self, message_id: int, reason: LostReason) -> None:
        """See `Holder`. The request goes on, for the receiver may have it already; what it answers counts no more."""

    def queue_dropped(self) -> None:
        """See `Holder`."""
        self.closed = True
        self._quiet()
        self._ended()

    def _wake_in(self, ms: int) -> None:
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(ms / 1_000, self._wake)

    def _wake(self) -> None:
        self._quiet()
        if not self.closed:
            self._broker.feed(self)

    # -- one message ---------------------------------------------------------------------------------------------------

    def _begin(self, message: Message) -> None:
        self._idle.clear()
        self._bytes += weight(message.content, message.attributes)
        self._unsent.add(_delivery(message))
        task = asyncio.create_task(self._push(message))
        self._working[task] = message
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        message = self._working.pop(task)
        self._bytes -= weight(message.content, message.attributes)
        if _delivery(message) in self._unsent:
            self._unsent.discard(_delivery(message))
            if self.held.get(message.id) == message.lease:
                self._broker.let_go(self, message.id)
                self._given_back = self._broker.release([message])
        self._rest()
        if not self.closed:
            self._broker.feed(self)

    def _rest(self) -> None:
        """Where nothing is under way any more, say so; one that is closed leaves then."""
        if not self.in_flight:
            self._idle.set()
            if self.closed:
                self._leave()

    async def _push(self, message: Message) -> None:
        if not self._broker.knows(self.queue):
            return
        try:
            body = shown(message, self._broker.queue(self.queue).config, delivered=True)
            answer = await self._post(message, body, trace_headers(message), lambda: self._going(message))
        except Exception:  # a lease that lasts until somebody settles it must be settled
            log.exception("webhook %s failed at a message", self.webhook.id)
            answer = Answer("unreachable", 0, error="the broker failed at this; its log says why")
            self._unsent.discard(_delivery(message))
        if answer is not None:
            task = asyncio.create_task(self._settle(self._verdict(message, answer)))
            self._settling.add(task)
            task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        self._rest()
        if not self.closed:
            self._broker.feed(self)

    def _going(self, message: Message) -> bool:
        """Asked when a request's turn has come: whether it still is to be made."""
        if self.closed or not self._may() or self.held.get(message.id) != message.lease:
            return False
        self._unsent.discard(_delivery(message))
        if self.seat is not None:
            self.seat.delivered += 1
        return True

    def _verdict(self, message: Message, answer: Answer) -> Settlement:
        """What becomes of the message, and of the webhook."""
        token, now = message.lease, self._broker.clock()
        was_open = self.circuit.open
        if answer.outcome == "delivered":
            self.circuit.succeeded()
            settlement = Settlement(message.id, Event.ACK, token, self.holder)
        elif answer.outcome == "gone":
            self._given_up("the receiver answered 410 Gone")
            return Settlement(message.id, Event.RELEASE, token, self.holder)
        else:
            self.last_failure = failure(answer)
            # The receiver's wish holds for everything that it gets where it says that it is too much for it.
            asked_ms = answer.retry_after_ms if answer.status in (429, 503) else None
            self.circuit.failed(now, asked_ms, self._broker.chance())
            settlement = Settlement(
                message.id,
                Event.REQUEUE,
                token,
                self.holder,
                answer.retry_after_ms,
                self.last_failure,
                chance=self._broker.chance(),
            )
            if self.circuit.given_up(now, self.webhook.disable_after_ms):
                self._given_up(f"failed for {self.webhook.disable_after_ms} ms without a break; {self.last_failure}")
        if self.circuit.open is not was_open:
            self._turned()
        return settlement

    async def _settle(self, item: Settlement) -> None:
        """Settle, again where the store refuses it: nobody else would ever end the lease."""
        while True:
            try:
                await self._broker.settle([item])
                return
            except BrokerError as error:
                log.warning("settling a message of webhook %s has to wait: %s", self.webhook.id, error.detail)
                await asyncio.sleep(_RETRY_S)


def _delivery(message: Message) -> tuple[int, str | None]:
    """What tells one delivery of a message from the next: it may come again while a request for it is under way."""
    return message.id, message.lease


def trace_headers(message: Message) -> list[tuple[bytes, bytes]]:
    """The message's trace context, where it is one: publishers may write anything there."""
    if message.attributes is None:
        return []
    trace = _attributes.decode(message.attributes).traceparent
    return [(b"traceparent", trace.encode())] if trace is not None and _traceparent(trace) else []


def failure(answer: Answer) -> str:
    """What went wrong, in words for the message's `error`."""
    said = f"the receiver answered {answer.status}" if answer.status is not None else answer.outcome
    return f"webhook: {said}{f': {answer.error}' if answer.error else ''}"[:_MAX_REASON]
