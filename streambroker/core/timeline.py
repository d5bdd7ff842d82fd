"""The timeline of a message: what happened to it, for people who look at it.

A message that is published, delivered once and acked tells all of that by itself: nothing is kept beside it. A
`Record` is kept only where an attempt did not end well, where a message was given up, and where it was made ready
again. Which ones is decided here; a store keeps them with the change itself, and `moments` puts all together.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

from streambroker.core.lifecycle import Event, Fate, Ruling, Settlement
from streambroker.core.message import Message, Standing, State

MOST_RECORDS = 100
"""Records kept of one message; the oldest go first."""
ERROR_CHARS = 500
"""How much of an error a record keeps; the newest one stands whole in the message."""
RESTARTED = "the broker was started again"


class Mark(IntEnum):
    """What can stand in a timeline. The numbers are stored: they stay what they are."""

    PUBLISHED = 0
    DELIVERED = 1
    REQUEUED = 2
    EXPIRED = 3
    LOST = 4
    RELEASED = 5
    FAILED = 6
    DEAD_LETTERED = 7
    REDRIVEN = 8
    PROCESSED = 9


class Record(msgspec.Struct, frozen=True, gc=False):
    """Something that happened. Times in milliseconds since 1970.

    `consumer` is the user whose lease it ended, `delivered_at` and `lease_expires_at` are that lease's while it ran;
    None where it was over before, and where a session's lease had no end. `attempt` counts as on the message.
    """

    at: int
    mark: Mark
    attempt: int
    consumer: str | None = None
    delivered_at: int | None = None
    lease_expires_at: int | None = None
    error: str | None = None


class Moment(NamedTuple):
    """One entry of a timeline as it is shown; members as in `Record`."""

    at: int
    mark: Mark
    attempt: int
    consumer: str | None = None
    lease_expires_at: int | None = None
    error: str | None = None


_GIVEN_UP = {Fate.FAILED: Mark.FAILED, Fate.DEAD_LETTERED: Mark.DEAD_LETTERED}
_GIVEN_BACK = {Event.REQUEUE: Mark.REQUEUED, Event.LOSE: Mark.LOST, Event.RELEASE: Mark.RELEASED}
# A member that is looked up in its enum costs as much as the rest of a function here.
_LEASED, _RELEASED = State.LEASED, Mark.RELEASED


def settled(before: Standing, asked: Settlement, ruling: Ruling) -> Record | None:
    """What to keep of a settle that was ruled on: nothing of an ack, an extend, or a delivery that nobody saw."""
    if ruling.fate is None or ruling.standing is None:
        return None
    mark = _GIVEN_UP.get(ruling.fate) or _GIVEN_BACK.get(asked.event)
    if mark is None:
        return None
    if mark is not _RELEASED:
        return _ended(before, mark, ruling.standing.updated_at, ruling.standing.error)
    # A release leaves an older error where it is.
    return None if asked.unseen else _ended(before, mark, ruling.standing.updated_at, None)


def lapsed(before: Standing, after: Standing, fate: Fate) -> Record | None:
    """What to keep of something that was due: nothing where a delay or a retention was over."""
    mark = _GIVEN_UP.get(fate)
    if before.state is _LEASED:
        return _ended(before, mark or Mark.EXPIRED, after.updated_at, after.error)
    return None if mark is None else Record(after.updated_at, mark, before.attempt, error=after.error)


def redriven(before: Standing, after: Standing) -> Record:
    """What to keep of a redrive or a retry."""
    return Record(after.updated_at, Mark.REDRIVEN, before.attempt)


def restarted(before: Standing, now: int) -> Record:
    """What to keep of a session's lease that a restart gave back."""
    return _ended(before, Mark.RELEASED, now, RESTARTED)


def moments(message: Message, records: Sequence[Record]) -> list[Moment]:
    """The whole timeline, the oldest first: what was kept, and what the message says itself."""
    found = [Moment(message.created_at, Mark.PUBLISHED, 0)]
    for record in records:
        lease = record.attempt, record.consumer, record.lease_expires_at
        if record.delivered_at is not None:
            found.append(Moment(record.delivered_at, Mark.DELIVERED, *lease))
        found.append(Moment(record.at, record.mark, *lease, record.error))
    attempt, at, holder = message.attempt, message.updated_at, message.holder
    match message.state:
        case State.LEASED:
            found.append(Moment(message.delivered_at or at, Mark.DELIVERED, attempt, holder, message.due_at))
        case State.PROCESSED:
            # A late ack: the lease was over, and the record of that has told of its delivery.
            delivered = message.delivered_at
            told = any((record.delivered_at, record.attempt) == (delivered, attempt) for record in records)
            if delivered is not None and not told:
                found.append(Moment(delivered, Mark.DELIVERED, attempt, holder))
            found.append(Moment(at, Mark.PROCESSED, attempt, holder))
        case State.FAILED if not records or records[-1].mark is not Mark.FAILED:  # before records were kept, or no room
            found.append(Moment(at, Mark.FAILED, attempt, None, None, message.error))
        case _:
            pass
    return found


def _ended(before: Standing, mark: Mark, at: int, error: str | None) -> Record:
    if error is not None and len(error) > ERROR_CHARS:
        error = error[: ERROR_CHARS - 1] + "…"
    if before.state is _LEASED:
        return Record(
            at, mark, before.attempt, before.holder, before.delivered_at or before.updated_at, before.due_at, error
        )
    return Record(at, mark, before.attempt, before.holder, None, None, error)
