"""Spans of publishes, deliveries and settles: what the broker tells a tracer, where there is one.

The broker looks whether it has a tracer before it says a word; all that follows is done only then. Trace contexts are
the text of the header ``traceparent`` (W3C Trace Context), as a message carries it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from time import time_ns
from typing import Protocol

import msgspec

from streambroker.core.errors import BrokerError
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Attributes, Draft, Message
from streambroker.protocol.json import encode
from streambroker.store.contract import Acked, Published, Settled


class Publishing(Protocol):
    """The span of a publish that is on its way. Ended by one of the two, or left alone and then never seen.

    `traceparent` is its context; None where there is none, because tracing is switched off elsewhere.
    """

    traceparent: str | None

    def stored(self, ids: Sequence[int]) -> None:
        """It is durable, under these ids."""
        ...

    def refused(self, code: str) -> None:
        """It is not, for that reason."""
        ...


class Tracer(Protocol):
    """Keeps spans. Called on the event loop: it must not wait, and must not raise."""

    def publishing(self, queue: str, parent: str | None, contexts: Sequence[str | None]) -> Publishing:
        """A publish begins, within what the request's `parent` is part of. `contexts` are the messages' own."""
        ...

    def delivered(self, queue: str, contexts: Mapping[int, str | None], took_ms: int) -> None:
        """One consumer was handed messages, given by id, `took_ms` after they were asked for on its behalf."""
        ...

    def settled(
        self, queue: str | None, events: Collection[Event], ids: Sequence[int], began_ns: int, refusal: str | None
    ) -> None:
        """Leases were settled, released or extended. `queue` is None where the messages are of several, or of none;
        `refusal` is why nothing came of it."""
        ...


class _Carried(msgspec.Struct):
    traceparent: str | None = None


_carried = msgspec.json.Decoder(_Carried).decode
_attributes = msgspec.json.Decoder(Attributes).decode


def traced_publish(
    tracer: Tracer,
    queue: str,
    drafts: Sequence[Draft],
    parent: str | None,
    told: Callable[[Published | BrokerError], None],
) -> Callable[[Published | BrokerError], None]:
    """`told`, and the end of a span that begins now. Drafts that carry no context of their own get the span's."""
    span = tracer.publishing(queue, parent, [context_of(draft.attributes) for draft in drafts])
    if span.traceparent is not None:
        _give(drafts, span.traceparent)

    def done(answer: Published | BrokerError) -> None:
        told(answer)
        if isinstance(answer, BrokerError):
            span.refused(answer.code)
        else:
            span.stored(answer.ids)

    return done


def traced_delivery(tracer: Tracer, queue: str, messages: Sequence[Message], took_ms: int) -> None:
    """Tell of messages that one consumer was handed, if it got any."""
    if messages:
        tracer.delivered(queue, {message.id: context_of(message.attributes) for message in messages}, took_ms)


def traced_settle(
    tracer: Tracer,
    items: Sequence[Settlement],
    queue: str | None,
    told: Callable[[list[Settled] | Acked | BrokerError], None],
) -> Callable[[list[Settled] | Acked | BrokerError], None]:
    """`told`, and a span from now until then. `queue` is that of all items, where it is known before the answer."""
    began = time_ns()

    def done(answer: list[Settled] | Acked | BrokerError) -> None:
        told(answer)
        where, refusal = _outcome(queue, answer)
        tracer.settled(where, {item.event for item in items}, [item.id for item in items], began, refusal)

    return done


def _outcome(queue: str | None, answer: list[Settled] | Acked | BrokerError) -> tuple[str | None, str | None]:
    """The one queue of all that was settled, if it is one; and why nothing was, if nothing was."""
    match answer:
        case Acked():
            return queue, None
        case BrokerError():
            return queue, answer.code
        case _:
            queues = {one.queue for one in answer if one.queue}
            refused = all(one.refusal is not None for one in answer)
            return queues.pop() if len(queues) == 1 else None, answer[0].refusal if answer and refused else None


def context_of(attributes: bytes | None) -> str | None:
    """The trace context that a message carries."""
    return None if attributes is None else _carried(attributes).traceparent


def _give(drafts: Sequence[Draft], traceparent: str) -> None:
    bare = encode(Attributes(traceparent=traceparent))
    for draft in drafts:
        if draft.attributes is None:
            draft.attributes = bare
        elif (attributes := _attributes(draft.attributes)).traceparent is None:
            draft.attributes = encode(msgspec.structs.replace(attributes, traceparent=traceparent))
