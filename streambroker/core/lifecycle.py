"""The life of a message: every change of state is decided here, and nowhere else.

`TRANSITIONS` is the whole picture; the functions below fill in what goes with each change. They are pure: the time
and the dice come in as arguments, a changed copy of the `Standing` comes out, and an engine only writes it down.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Literal, NamedTuple

import msgspec

from streambroker.core.message import DeadLetter, Draft, Message, Standing, State, Verdict
from streambroker.core.policy import QueueConfig, backoff_ms

RETENTION_STEP_MS = 1_000
"""Processed messages are purged at whole seconds, so that a steady stream of acks does not wake the tick for each."""


class Event(IntEnum):
    """What can happen to a message."""

    CLAIM = auto()
    ACK = auto()
    REQUEUE = auto()
    REJECT = auto()
    RELEASE = auto()
    LOSE = auto()
    EXTEND = auto()
    DUE = auto()
    REDRIVE = auto()


class Fate(IntEnum):
    """What became of a message; observers are told."""

    LEASED = auto()
    READY = auto()
    DELAYED = auto()
    PROCESSED = auto()
    FAILED = auto()
    DEAD_LETTERED = auto()
    EXTENDED = auto()
    GONE = auto()


R, D, L, P, F = State.READY, State.DELAYED, State.LEASED, State.PROCESSED, State.FAILED

# (state, event) → the states it can lead to. A settle by the newest lease counts from READY, DELAYED and FAILED too:
# its time was over, but nobody else got the message yet. None stands for "gone".
TRANSITIONS: dict[tuple[State, Event], frozenset[State | None]] = {
    (R, Event.CLAIM): frozenset({L}),
    **{(s, Event.ACK): frozenset({P}) for s in (R, D, L, F)},
    **{(s, Event.REQUEUE): frozenset({R, D, F}) for s in (R, D, L, F)},
    **{(s, Event.REJECT): frozenset({R, F}) for s in (R, D, L, F)},
    **{(s, Event.EXTEND): frozenset({L}) for s in (R, D, L, F)},
    (L, Event.RELEASE): frozenset({R}),
    (L, Event.LOSE): frozenset({R, F}),
    (R, Event.DUE): frozenset({R, F}),  # its life is over: dead-lettered (ready elsewhere), or failed
    (D, Event.DUE): frozenset({R, F}),
    (L, Event.DUE): frozenset({R, F}),
    (P, Event.DUE): frozenset({None}),
    (F, Event.REDRIVE): frozenset({R}),
    (R, Event.REDRIVE): frozenset({R}),  # out of a dead-letter queue, home
    (D, Event.REDRIVE): frozenset({R}),
}


class LeaseTerms(NamedTuple):
    """What a lease is given out with: fencing token, the user that holds it, its end (None: the session's end)."""

    token: str
    holder: str
    until: int | None


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """One settle as asked for. Without `lease`, `holder` says who asks. `delay_ms` None takes the queue's backoff."""

    id: int
    event: Event
    lease: str | None = None
    holder: str | None = None
    delay_ms: int | None = None
    reason: str | None = None
    until: int | None = None
    unseen: bool = False
    chance: float = 0.5


Refusal = Literal["not_found", "not_processing", "lease_lost", "already_settled", "not_failed"]


class Ruling(NamedTuple):
    """The answer to a `Settlement`: a refusal, or what the message becomes (`already`: it is that, nothing changes)."""

    refusal: Refusal | None
    standing: Standing | None
    fate: Fate | None = None
    already: bool = False


def published(draft: Draft, queue: str, now: int) -> Message:
    """What becomes of a draft: a message that is ready, or delayed."""
    available = now if draft.available_at is None else draft.available_at
    state = D if available > now else R
    return Message(
        id=draft.id,
        queue=queue,
        state=state,
        attempt=0,
        failures=0,
        max_attempts=draft.max_attempts,
        updated_at=now,
        available_at=available,
        expires_at=draft.expires_at,
        due_at=waiting_due(state, available, draft.expires_at),
        lease=None,
        holder=None,
        verdict=Verdict.NONE,
        error=None,
        dead_letter=None,
        priority=draft.priority,
        created_at=now,
        key=draft.key,
        attributes=draft.attributes,
        content=draft.content,
    )


_VERDICT_OF = {Event.ACK: Verdict.ACKED, Event.REQUEUE: Verdict.NACKED, Event.REJECT: Verdict.NACKED}


def judge(standing: Standing, asked: Settlement) -> Refusal | Literal["already"] | None:
    """Whether the one who asks may settle: by the token, not by the clock. None means yes."""
    if asked.lease is None:
        if standing.state is not L:
            return "not_processing"
        return None if standing.holder == asked.holder else "lease_lost"
    if asked.lease != standing.lease:
        return "lease_lost"
    if standing.verdict is Verdict.NONE:
        return None
    return "already" if _VERDICT_OF.get(asked.event) is standing.verdict else "already_settled"


def settle(standing: Standing, asked: Settlement, config: QueueConfig, dlq: QueueConfig | None, now: int) -> Ruling:
    """Decide on one settle. `dlq` is the configuration of the dead-letter queue, where the queue names one."""
    refusal = judge(standing, asked)
    if refusal == "already":
        return Ruling(None, standing, None, already=True)
    if refusal is None and (standing.state, asked.event) not in TRANSITIONS:
        refusal = "lease_lost"
    if refusal is not None:
        return Ruling(refusal, standing)
    after = msgspec.structs.replace(standing, updated_at=now)
    match asked.event:
        case Event.ACK:
            return Ruling(None, _processed(after, config, now), Fate.PROCESSED)
        case Event.REQUEUE:
            after.verdict = Verdict.NACKED
            after.error = asked.reason
            return Ruling(None, after, _failure(after, asked, config, dlq, now))
        case Event.REJECT:
            after.verdict = Verdict.NACKED
            return Ruling(None, after, _fail(after, "rejected", asked.reason or "rejected", config, dlq, now))
        case Event.RELEASE:
            # Given back unseen it was no delivery, so it does not count as one. A lease that was extended after its
            # message had been dead-lettered has none to take back.
            after.attempt = max(after.attempt - asked.unseen, 0)
            return Ruling(None, after, _ready(after))
        case Event.LOSE:
            after.error = asked.reason or "connection lost"
            return Ruling(None, after, _failure(after, asked, config, dlq, now))
        case Event.EXTEND:
            after.state, after.due_at = L, asked.until
            return Ruling(None, after, Fate.EXTENDED)
        case _:
            raise AssertionError(f"{asked.event} is not a settle")


def overdue(standing: Standing, config: QueueConfig, dlq: QueueConfig | None, now: int) -> tuple[Standing, Fate]:
    """What becomes of a message whose `due_at` has come: a delay, a lease, a life or a retention is over."""
    after = msgspec.structs.replace(standing, updated_at=now)
    if standing.state is P:
        return after, Fate.GONE
    if standing.state is L:
        after.error = "lease expired"
        lapse = Settlement(standing.id, Event.LOSE)
        return after, _failure(after, lapse, config, dlq, now)
    if standing.expires_at is not None and standing.expires_at <= now:
        return after, _fail(after, "expired", "expired", config, dlq, now)
    return after, _ready(after)


def redrive(standing: Standing, home: str, config: QueueConfig, now: int) -> Standing:
    """The message ready again in `home`: no failures; its note of where it died stays."""
    after = msgspec.structs.replace(standing, updated_at=now, available_at=now, failures=0)
    if after.queue != home:
        after.queue, after.attempt = home, 0
    after.expires_at = now + config.message_ttl_ms if config.message_ttl_ms else None
    _ready(after)
    return after


def retry(standing: Standing, config: QueueConfig, now: int) -> Ruling:
    """A failed message ready again where it failed, as `redrive` makes it; any other is refused."""
    if standing.state is not F:
        return Ruling("not_failed", standing)
    return Ruling(None, redrive(standing, standing.queue, config, now), Fate.READY)


def processed_until(config: QueueConfig, now: int) -> int:
    """When a message that is acked now may be purged."""
    return -(-(now + config.retention_ms) // RETENTION_STEP_MS) * RETENTION_STEP_MS


def waiting_due(state: State, available_at: int, expires_at: int | None) -> int | None:
    """`due_at` of a message that waits: when it becomes ready, or when its life ends."""
    if state is D:
        return available_at if expires_at is None else min(available_at, expires_at)
    return expires_at


def _processed(after: Standing, config: QueueConfig, now: int) -> Standing:
    after.state, after.verdict = P, Verdict.ACKED
    after.due_at = processed_until(config, now)
    return after


def _ready(after: Standing) -> Fate:
    after.state = R
    after.due_at = after.expires_at
    return Fate.READY


def _failure(after: Standing, asked: Settlement, config: QueueConfig, dlq: QueueConfig | None, now: int) -> Fate:
    after.failures += 1
    limit = config.max_attempts if after.max_attempts is None else after.max_attempts
    if limit and after.failures >= limit:
        return _fail(after, "attempts", after.error or "attempts used up", config, dlq, now)
    # Only a nack waits: an expired or lost lease has taken its time already.
    delay = asked.delay_ms if asked.event is Event.REQUEUE else 0
    if delay is None:
        delay = backoff_ms(config.backoff, after.failures, asked.chance)
    if delay == 0:
        return _ready(after)
    after.state, after.available_at = D, now + delay
    after.due_at = waiting_due(D, after.available_at, after.expires_at)
    return Fate.DELAYED


def _fail(
    after: Standing,
    reason: Literal["rejected", "attempts", "expired"],
    error: str,
    config: QueueConfig,
    dlq: QueueConfig | None,
    now: int,
) -> Fate:
    after.error = error
    if dlq is None or config.dead_letter_queue is None:
        after.state, after.due_at = F, None
        return Fate.FAILED
    note = DeadLetter(after.queue, reason, error, after.attempt, now)
    after.dead_letter = msgspec.json.encode(note).decode()
    after.queue, after.attempt, after.failures, after.available_at = config.dead_letter_queue, 0, 0, now
    after.expires_at = now + dlq.message_ttl_ms if dlq.message_ttl_ms else None
    _ready(after)
    return Fate.DEAD_LETTERED
