"""What happens to messages, for whoever watches a queue: the dashboard, and streams of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from streambroker.broker.clock import Clock
from streambroker.core.lifecycle import Fate
from streambroker.core.message import Message, Status
from streambroker.store.contract import Publish, Published, Settled

EventName = Literal["new_message", "message_delivered", "message_processed", "message_failed", "message_requeued"]


class QueueEvent(NamedTuple):
    """Something happened to a message of `queue`; `status` is what it has there since. `at` in ms since 1970.

    `attempt` counts deliveries: it is 0 of a message that is new to the queue. One that fails there and moves to its
    dead-letter queue has the number of its last delivery.
    """

    event: EventName
    message_id: int
    queue: str
    status: Status
    attempt: int
    at: int


class Observer(Protocol):
    """Somebody who watches a queue."""

    def happened(self, events: Iterator[QueueEvent], count: int) -> None:
        """So many things happened, in that order. Each is made only when it is taken from `events`."""
        ...


_AFTER_SETTLE: dict[Fate, tuple[EventName, Status]] = {
    Fate.READY: ("message_requeued", Status.PENDING),
    Fate.DELAYED: ("message_requeued", Status.PENDING),
    Fate.PROCESSED: ("message_processed", Status.PROCESSED),
    Fate.FAILED: ("message_failed", Status.FAILED),
    Fate.DEAD_LETTERED: ("message_failed", Status.FAILED),
}


class Observers:
    """Who watches which queue, whether there is such a queue or not. Owned by the event loop.

    The broker looks whether `watched` holds anything before it says a word, so that nothing is made for nobody.
    """

    def __init__(self, clock: Clock) -> None:
        self.watched: dict[str, list[Observer]] = {}
        self._dropped: dict[Observer, Callable[[], None]] = {}
        self._clock = clock

    def watch(self, queue: str, observer: Observer, dropped: Callable[[], None] | None = None) -> None:
        """The observer hears from now on; `dropped` is called each time that the queue is deleted."""
        self.watched.setdefault(queue, []).append(observer)
        if dropped is not None:
            self._dropped[observer] = dropped

    def unwatch(self, queue: str, observer: Observer) -> None:
        """It hears no more."""
        self._dropped.pop(observer, None)
        here = self.watched[queue]
        here.remove(observer)
        if not here:
            del self.watched[queue]

    # -- what the broker tells -----------------------------------------------------------------------------------------

    def published(self, command: Publish, answer: Published) -> None:
        """A publish is durable."""
        if answer.replayed or command.queue not in self.watched:
            return
        again = frozenset(answer.duplicates)
        fresh = [number for index, number in enumerate(answer.ids) if index not in again]
        self._tell("new_message", command.queue, [(number, 0) for number in fresh], Status.PENDING)

    def delivered(self, queue: str, messages: Sequence[Message]) -> None:
        """Messages were handed out."""
        if messages and queue in self.watched:
            about = [(message.id, message.attempt) for message in messages]
            self._tell("message_delivered", queue, about, Status.PROCESSING)

    def redriven(self, queue: str, items: Sequence[Settled]) -> None:
        """Failed messages are ready again in `queue`: there, or dead letters, which come home as new ones."""
        if items and queue in self.watched:
            name: EventName = "message_requeued" if items[0].queue == queue else "new_message"
            self._tell(name, queue, [(item.id, item.attempt) for item in items], Status.PENDING)

    def dropped(self, queue: str) -> None:
        """The queue was deleted, with all that was in it."""
        for observer in tuple(self.watched.get(queue, ())):
            if (tell := self._dropped.get(observer)) is not None:
                tell()

    def settled(self, items: Iterable[Settled]) -> None:
        """Settles were granted."""
        for item in items:
            if item.fate is not None:
                self._followed(item, item.fate)

    def lapsed(self, items: Iterable[Settled]) -> None:
        """What was due was done; that a delay was over is no event."""
        for item in items:
            if item.fate is not None and (item.leased or item.fate is not Fate.READY):
                self._followed(item, item.fate)

    def _followed(self, item: Settled, fate: Fate) -> None:
        if (told := _AFTER_SETTLE.get(fate)) is None:
            return
        if item.queue in self.watched:
            attempt = item.delivered if fate is Fate.DEAD_LETTERED else item.attempt
            self._tell(told[0], item.queue, [(item.id, attempt)], told[1])
        if fate is Fate.DEAD_LETTERED and item.now_in in self.watched:
            self._tell("new_message", item.now_in, [(item.id, 0)], Status.PENDING)

    def _tell(self, event: EventName, queue: str, about: Sequence[tuple[int, int]], status: Status) -> None:
        at = self._clock()
        for observer in tuple(self.watched[queue]):
            made = (QueueEvent(event, number, queue, status, attempt, at) for number, attempt in about)
            observer.happened(made, len(about))
