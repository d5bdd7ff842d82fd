"""Settling over one WebSocket connection: ack, nack, extend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from streambroker.broker.broker import Broker
from streambroker.core.errors import BrokerError
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.names import parse_id
from streambroker.protocol import frames
from streambroker.protocol.session import Owner, Subscription
from streambroker.store.contract import Acked, Settled
from streambroker.transport.websocket.answers import Answers


class Settling:
    """What a connection does for a consumer that settles. `owner` is the connection, which settles only its own."""

    def __init__(self, broker: Broker, answers: Answers, owner: Owner) -> None:
        self._broker = broker
        self._answers = answers
        self._owner = owner

    def settle(self, frame: frames.Ack | frames.Nack) -> None:
        """Ack or nack what the frame names, fenced by the tokens in hand."""
        if isinstance(frame, frames.Ack):
            event, delay_ms, reason = Event.ACK, None, None
        else:
            event = Event.REQUEUE if frame.requeue else Event.REJECT
            delay_ms, reason = frame.delay_ms, frame.reason
        items: list[Settlement] = []
        unknown: set[str] = set()
        fed: set[Subscription] = set()
        taken: list[tuple[Subscription, int, str]] = []
        relaxed = True
        for text in dict.fromkeys(frame.ids):
            number = parse_id(text)
            subscription = None if number is None else self._holder_of(number)
            if number is None or subscription is None:
                unknown.add(text)
                continue
            token = self._broker.let_go(subscription, number)
            taken.append((subscription, number, token or ""))
            if subscription not in fed:
                fed.add(subscription)
                relaxed = relaxed and self._is_relaxed(subscription)
            chance = self._broker.chance() if event is Event.REQUEUE else 0.5
            items.append(Settlement(number, event, token, None, delay_ms, reason, chance=chance))
        # All of one queue, as they mostly are, and each by the token in hand.
        queue = next(iter(fed)).queue if len(fed) == 1 and event is Event.ACK else None
        self._send_settlements(frame, items, unknown, relaxed, queue, taken)
        for subscription in fed:
            self._broker.feed(subscription)

    def extend(self, frame: frames.Extend) -> None:
        """Extend the leases that the frame names."""
        items: list[Settlement] = []
        unknown: set[str] = set()
        until = self._broker.clock() + frame.lease_ms
        for text in dict.fromkeys(frame.ids):
            number = parse_id(text)
            subscription = None if number is None else self._holder_of(number)
            if number is None or subscription is None:
                unknown.add(text)
                continue
            # A session's lease has no end to move: it lasts as long as the connection.
            end = None if subscription.session_lease else until
            items.append(Settlement(number, Event.EXTEND, subscription.held[number], until=end))
        self._send_settlements(frame, items, unknown, False)

    def _send_settlements(
        self,
        frame: frames.Ack | frames.Nack | frames.Extend,
        items: list[Settlement],
        unknown: set[str],
        relaxed: bool,
        queue: str | None = None,
        taken: Sequence[tuple[Subscription, int, str]] = (),
    ) -> None:
        if items:
            self._answers.owe(1)
            tell = partial(_say_settled, frame, unknown)

            def told(answer: Any) -> None:
                if isinstance(answer, BrokerError):
                    self._broker.hold_again(taken)
                self._answers.told(frame.id, tell, answer)

            # An ack without an id is not answered, so nobody waits for its commit.
            lazy = frame.id is None and isinstance(frame, frames.Ack)
            holder = taken[0][0].holder if taken else None
            self._broker.post_settle(items, told, relaxed, queue, lazy, holder)
        elif frame.id is not None:
            self._answers.say(_results(frame, {}, unknown))

    def _is_relaxed(self, subscription: Subscription) -> bool:
        name = subscription.queue
        return self._broker.knows(name) and self._broker.queue(name).config.durability == "memory"

    def _holder_of(self, number: int) -> Subscription | None:
        """The subscription of this very connection that holds the message."""
        holder = self._broker.holder_of(number)
        return holder if isinstance(holder, Subscription) and holder.owner is self._owner else None


def _say_settled(
    frame: frames.Ack | frames.Nack | frames.Extend, unknown: set[str], settled: Sequence[Settled] | Acked
) -> bytes | None:
    if frame.id is None:
        return None
    if isinstance(settled, Acked):
        return _results(frame, {parse_id(text) or 0: None for text in frame.ids}, unknown)
    return _results(frame, {one.id: one.refusal for one in settled}, unknown)


def _results(
    frame: frames.Ack | frames.Nack | frames.Extend, refusals: dict[int, str | None], unknown: set[str]
) -> bytes:
    results = []
    for text in frame.ids:  # one for each mention, in their order, as over REST
        code = "lease_lost" if text in unknown else refusals.get(parse_id(text) or 0, "lease_lost")
        results.append(frames.Result(text, code is None, code))
    return frames.settled(frame.id, results)
