"""A total-queue checker in the manner of Jepsen's, for a broker with leases, tokens and dead letters.

Pure: a history in, a list of violations out. Every rule is one function and one property of the contract's section on
delivery. A rule only speaks where the history proves a breach; what a crash or a cut connection left unknown is given
the benefit of the doubt.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, pairwise

from tests.system.history import Delivery, History, Item, Outcome, Publish, Resting, Settle, Verdict

SAME_MOMENT = 0.25
"""A lease handed out this shortly (seconds) before a crash may be forgotten: the broker died in the same moment."""

CLOCK_GRAIN = 0.005
"""Times on the wire are whole milliseconds; two roundings and a clock read lie between them and ours (seconds)."""


class Property(StrEnum):
    LOST = "lost"
    UNEXPECTED = "unexpected"
    PUBLISHED_TWICE = "published twice"
    TORN_BATCH = "torn batch"
    DELIVERED_AFTER_ACK = "delivered after ack"
    UNEXPLAINED_DUPLICATE = "unexplained duplicate"
    TOKEN_REUSED = "token reused"
    STALE_TOKEN_ACCEPTED = "stale token accepted"
    LEASE_NOT_KEPT = "lease not kept"
    OUT_OF_ORDER = "out of order"
    UNEXPLAINED_STATUS = "unexplained status"


@dataclass(frozen=True, slots=True)
class Violation:
    property: Property
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.property}: {self.subject}: {self.text}"


def check(history: History) -> list[Violation]:
    """Every breach of the contract that the history proves."""
    index = _Index(history)
    return [violation for rule in _RULES for violation in rule(index)]


def summary(violations: Iterable[Violation], limit: int = 8) -> str:
    """How many of each, and the first few of each in full."""
    found = list(violations)
    counts = Counter(violation.property for violation in found)
    lines = [f"{count} x {name}" for name, count in counts.most_common()]
    for name in counts:
        lines += [str(v) for v in [v for v in found if v.property is name][:limit]]
    return "\n".join(lines)


class _Index:
    """The history by message, by value and by token; built once, read by every rule."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.crashes = sorted(crash.at for crash in history.crashes)
        self.stops = sorted(stop.at for stop in history.stops)
        self.ended = {end.connection: end.at for end in reversed(history.endings)}
        self.publishes_of: dict[str, list[Publish]] = defaultdict(list)
        self.item_of: dict[str, Item] = {}
        self.confirmed_id: dict[str, str] = {}
        self.confirmed_at: dict[str, float] = {}
        self._ids: dict[str, set[str]] = defaultdict(set)
        for publish in sorted(history.publishes, key=lambda p: p.invoked):
            for item in publish.items:
                self.publishes_of[item.value].append(publish)
                self.item_of[item.value] = item
            if publish.outcome is Outcome.OK:
                for item, message_id in zip(publish.items, publish.message_ids, strict=True):
                    self.confirmed_id.setdefault(item.value, message_id)
                    self.confirmed_at.setdefault(item.value, publish.completed)
                    self._ids[item.value].add(message_id)
        everything: Iterator[Delivery | Resting] = chain(history.deliveries, history.resting)
        for seen in everything:
            self._ids[seen.value].add(seen.message_id)
        self.deliveries_of: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in history.deliveries:
            self.deliveries_of[delivery.message_id].append(delivery)
        for deliveries in self.deliveries_of.values():
            deliveries.sort(key=lambda d: (*self.place(d), d.received))
        self.settles_of: dict[tuple[str, str], list[Settle]] = defaultdict(list)
        for settle in history.settles:
            self.settles_of[settle.message_id, settle.lease].append(settle)
        self.resting = {rest.message_id: rest for rest in history.resting}

    def place(self, delivery: Delivery) -> tuple[int, int]:
        """Where a delivery stands in its message's life: the home queue before the dead-letter queue, then attempts."""
        item = self.item_of.get(delivery.value)
        return (0 if item is None or delivery.queue == item.queue else 1, delivery.attempt)

    def crashed_between(self, start: float, end: float) -> bool:
        return _any_between(self.crashes, start, end)

    def stopped_between(self, start: float, end: float) -> bool:
        return _any_between(self.stops, start, end)

    def settles(self, delivery: Delivery) -> list[Settle]:
        return self.settles_of.get((delivery.message_id, delivery.lease), [])

    def ids_of(self, value: str) -> set[str]:
        """Every message id under which a value was confirmed, delivered or found."""
        return self._ids.get(value, set())


def _any_between(times: list[float], start: float, end: float) -> bool:
    at = bisect_left(times, start)
    return at < len(times) and times[at] <= end


def _lost(index: _Index) -> Iterator[Violation]:
    """A confirmed message is there at the end, or somebody may have acked it (§7.1)."""
    gone_by = {
        message_id
        for (message_id, _), settles in index.settles_of.items()
        if any(s.verdict is Verdict.ACK and s.outcome is not Outcome.FAIL for s in settles)
    }
    for value, message_id in index.confirmed_id.items():
        if message_id not in index.resting and message_id not in gone_by:
            delivered = len(index.deliveries_of.get(message_id, ()))
            yield Violation(
                Property.LOST, value, f"{message_id} was confirmed, delivered {delivered} times, and is gone"
            )


def _unexpected(index: _Index) -> Iterator[Violation]:
    """Nothing appears that nobody published or that was certainly refused, and nothing in a strange queue (§7.2)."""
    everything: Iterator[Delivery | Resting] = chain(index.history.deliveries, index.history.resting)
    for seen in everything:
        publishes = index.publishes_of.get(seen.value)
        if publishes is None:
            yield Violation(Property.UNEXPECTED, seen.message_id, f"nobody published {seen.value!r}")
            continue
        item = index.item_of[seen.value]
        if all(publish.outcome is Outcome.FAIL for publish in publishes):
            yield Violation(Property.UNEXPECTED, seen.value, f"{seen.message_id} came of a publish that was refused")
        elif seen.queue not in (item.queue, index.history.dead_letters.get(item.queue)):
            yield Violation(Property.UNEXPECTED, seen.value, f"published to {item.queue}, found in {seen.queue}")
        elif isinstance(seen, Delivery) and seen.priority != item.priority:
            yield Violation(Property.UNEXPECTED, seen.value, f"priority {item.priority} came out as {seen.priority}")


def _published_twice(index: _Index) -> Iterator[Violation]:
    """One message for each publish that may have worked; only one in all with a dedup_id (§7.9)."""
    for value, publishes in index.publishes_of.items():
        possible = sum(publish.outcome is not Outcome.FAIL for publish in publishes)
        allowed = min(possible, 1) if index.item_of[value].dedup_id is not None else possible
        ids = index.ids_of(value)
        if possible and len(ids) > allowed:
            yield Violation(Property.PUBLISHED_TWICE, value, f"{allowed} allowed, found {sorted(ids)}")


def _torn_batch(index: _Index) -> Iterator[Violation]:
    """A batch of which nobody knows the outcome is there as a whole or not at all (§7.3)."""
    for publish in index.history.publishes:
        if publish.outcome is not Outcome.INFO or len(publish.items) < 2:
            continue
        there = sum(bool(index.ids_of(item.value)) for item in publish.items)
        if 0 < there < len(publish.items):
            first = publish.items[0].value
            yield Violation(Property.TORN_BATCH, first, f"{there} of {len(publish.items)} messages were stored")


def _delivered_after_ack(index: _Index) -> Iterator[Violation]:
    """No delivery is begun after an ack was confirmed (§7.5).

    By attempt, which counts deliveries, or by time where the delivery cannot have begun before the ack's reply.
    """
    for deliveries in index.deliveries_of.values():
        acked = [
            (index.place(delivery), settle.completed)
            for delivery in deliveries
            for settle in index.settles(delivery)
            if settle.verdict is Verdict.ACK and settle.outcome is Outcome.OK
        ]
        if not acked:
            continue
        place, at = min(acked)
        for delivery in deliveries:
            if index.place(delivery) > place or delivery.not_before > at:
                yield Violation(
                    Property.DELIVERED_AFTER_ACK,
                    delivery.value,
                    f"{delivery.message_id} acked at attempt {place[1]} ({at:.3f}), "
                    f"delivered at attempt {delivery.attempt} ({delivery.received:.3f}) to {delivery.connection}",
                )


def _unexplained_duplicate(index: _Index) -> Iterator[Violation]:
    """Between two deliveries the first lease expired or was given back, or the broker crashed (§7.9)."""
    for deliveries in index.deliveries_of.values():
        for earlier, later in pairwise(deliveries):
            if not _lease_over(index, earlier, later):
                yield Violation(
                    Property.UNEXPLAINED_DUPLICATE,
                    later.value,
                    f"{later.message_id} to {earlier.connection} at {earlier.received:.3f} (attempt {earlier.attempt})"
                    f" and to {later.connection} at {later.received:.3f} (attempt {later.attempt})",
                )


def _lease_over(index: _Index, earlier: Delivery, later: Delivery) -> bool:
    first, last = sorted((earlier, later), key=lambda d: d.received)
    return (
        index.crashed_between(first.not_before, last.received)
        or index.stopped_between(first.not_before, last.received)
        or index.ended.get(earlier.connection, float("inf")) <= later.received
        or (earlier.expires is not None and earlier.expires - CLOCK_GRAIN <= later.received)
        or any(
            settle.verdict is not Verdict.ACK
            and settle.outcome is not Outcome.FAIL
            and settle.invoked <= later.received
            for settle in index.settles(earlier)
        )
    )


def _token_reused(index: _Index) -> Iterator[Violation]:
    """A token names one delivery of one message, for ever (§7.4)."""
    seen: dict[tuple[str, str], Delivery] = {}
    for delivery in index.history.deliveries:
        first = seen.setdefault((delivery.message_id, delivery.lease), delivery)
        if first is not delivery:
            yield Violation(
                Property.TOKEN_REUSED,
                delivery.value,
                f"{delivery.lease} to {first.connection} at {first.received:.3f} "
                f"and to {delivery.connection} at {delivery.received:.3f}",
            )


def _stale_token_accepted(index: _Index) -> Iterator[Violation]:
    """Once somebody else holds the message, an older token settles nothing (§7.6)."""
    for deliveries in index.deliveries_of.values():
        if len(deliveries) < 2:
            continue
        for delivery in deliveries:
            newer = [d.received for d in deliveries if index.place(d) > index.place(delivery)]
            for settle in index.settles(delivery):
                if settle.outcome is Outcome.OK and newer and min(newer) < settle.invoked:
                    yield Violation(
                        Property.STALE_TOKEN_ACCEPTED,
                        delivery.value,
                        f"{settle.verdict} with the token of attempt {delivery.attempt} at {settle.invoked:.3f}, "
                        f"handed out again at {min(newer):.3f}",
                    )


def _lease_not_kept(index: _Index) -> Iterator[Violation]:
    """A fixed lease runs to its end, also across a crash: its token counts, nobody else gets it (§7.4, 7.7)."""
    for deliveries in index.deliveries_of.values():
        for position, delivery in enumerate(deliveries):
            if delivery.expires is None or index.crashed_between(delivery.not_before, delivery.received + SAME_MOMENT):
                continue
            settles = index.settles(delivery)
            end = min(
                delivery.expires - CLOCK_GRAIN,
                index.ended.get(delivery.connection, float("inf")),
                *(s.invoked for s in settles if s.verdict is not Verdict.ACK and s.outcome is not Outcome.FAIL),
            )
            moments = [
                (f"{settle.verdict} refused", settle.completed)
                for settle in settles
                if settle.outcome is Outcome.FAIL and settle.code == "lease_lost"
            ]
            moments += [("delivered again", later.received) for later in deliveries[position + 1 :]]
            for what, at in moments:
                if at < end and not index.stopped_between(delivery.not_before, at):
                    text = f"{delivery.message_id} leased until {end:.3f}, {what} at {at:.3f}"
                    yield Violation(Property.LEASE_NOT_KEPT, delivery.value, text)


def _out_of_order(index: _Index) -> Iterator[Violation]:
    """First deliveries of one queue and priority come in the order of publishing (§7.8).

    Judged per connection that reads its queue alone, and only between publishes of which one was confirmed before the
    other was invoked, or of one batch.
    """
    streams: dict[tuple[str, str, int], list[Delivery]] = defaultdict(list)
    for delivery in index.history.deliveries:
        if delivery.sole and delivery.attempt == 1 and delivery.value in index.confirmed_at:
            streams[delivery.connection, delivery.queue, delivery.priority].append(delivery)
    for stream in streams.values():
        newest_invoked, newest = float("-inf"), ""
        last_in_batch: dict[int, int] = {}
        for delivery in stream:
            first = index.publishes_of[delivery.value][0]
            position = next(i for i, item in enumerate(first.items) if item.value == delivery.value)
            if index.confirmed_at[delivery.value] < newest_invoked:
                yield Violation(Property.OUT_OF_ORDER, delivery.value, f"came after {newest}, which is younger")
            elif position < last_in_batch.get(id(first), -1):
                yield Violation(Property.OUT_OF_ORDER, delivery.value, "came after a later message of its batch")
            last_in_batch[id(first)] = position
            if first.invoked > newest_invoked:
                newest_invoked, newest = first.invoked, delivery.value


def _unexplained_status(index: _Index) -> Iterator[Violation]:
    """Nothing is processed that nobody acked, nothing failed that nobody rejected or tried too often (§7.10)."""
    verdicts: dict[str, set[Verdict]] = defaultdict(set)
    for settle in index.history.settles:
        if settle.outcome is not Outcome.FAIL:
            verdicts[settle.message_id].add(settle.verdict)
    for rest in index.history.resting:
        settled = verdicts[rest.message_id]
        if rest.status == "processed" and Verdict.ACK not in settled:
            yield Violation(Property.UNEXPLAINED_STATUS, rest.value, f"{rest.message_id} is processed, nobody acked it")
        if rest.status == "failed" and Verdict.REJECT not in settled and rest.queue not in index.history.limited:
            yield Violation(Property.UNEXPLAINED_STATUS, rest.value, f"{rest.message_id} failed, nobody rejected it")


_RULES: tuple[Callable[[_Index], Iterator[Violation]], ...] = (
    _lost,
    _unexpected,
    _published_twice,
    _torn_batch,
    _delivered_after_ack,
    _unexplained_duplicate,
    _token_reused,
    _stale_token_accepted,
    _lease_not_kept,
    _out_of_order,
    _unexplained_status,
)
