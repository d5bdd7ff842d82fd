"""What is kept of a message's past, and the timeline that is made of it."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from streambroker.core import lifecycle, timeline
from streambroker.core.lifecycle import TRANSITIONS, Event, Fate, Settlement
from streambroker.core.message import Draft, Message, Standing, State, Verdict
from streambroker.core.policy import Backoff, QueueConfig
from streambroker.core.timeline import ERROR_CHARS, Mark, Moment, Record, moments

NOW = 1_000_500
PLAIN = QueueConfig(backoff=Backoff(jitter=False))
TO_DEAD = QueueConfig(dead_letter_queue="dead", backoff=Backoff(jitter=False))
R, D, L, P, F = State
MESSAGE = lifecycle.published(Draft(7, b"{}"), "home", NOW - 900)


def standing(state: State = L, **changes: object) -> Standing:
    due = NOW + 100 if state is L else None
    base = Standing(7, "home", state, 2, 1, None, NOW - 50, 0, None, due, "t1", "ann", Verdict.NONE, "older", None)
    return msgspec.structs.replace(base, **changes)


def message(state: State, **changes: object) -> Message:
    return msgspec.structs.replace(MESSAGE, state=state, attempt=2, holder="ann", updated_at=NOW, **changes)


def settled(before: Standing, event: Event, config: QueueConfig = PLAIN, **asked: object) -> Record | None:
    wish = msgspec.structs.replace(Settlement(7, event, "t1", until=NOW + 400), **asked)
    ruling = lifecycle.settle(before, wish, config, QueueConfig() if config.dead_letter_queue else None, NOW)
    return timeline.settled(before, wish, ruling)


def lapsed(before: Standing, config: QueueConfig = PLAIN) -> Record | None:
    after, fate = lifecycle.overdue(before, config, None, NOW)
    return timeline.lapsed(before, after, fate)


# -- what is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "reason", "config", "mark", "error"),
    [
        (Event.REQUEUE, "busy", PLAIN, Mark.REQUEUED, "busy"),
        (Event.REQUEUE, None, PLAIN, Mark.REQUEUED, None),
        (Event.LOSE, None, PLAIN, Mark.LOST, "connection lost"),
        (Event.RELEASE, None, PLAIN, Mark.RELEASED, None),
        (Event.REJECT, "bad", PLAIN, Mark.FAILED, "bad"),
        (Event.REJECT, None, TO_DEAD, Mark.DEAD_LETTERED, "rejected"),
        (Event.LOSE, None, QueueConfig(max_attempts=2), Mark.FAILED, "connection lost"),
        (Event.REQUEUE, "again", QueueConfig(max_attempts=2), Mark.FAILED, "again"),
    ],
)
def test_an_attempt_that_ends_badly_is_kept_with_its_lease(
    event: Event, reason: str | None, config: QueueConfig, mark: Mark, error: str | None
) -> None:
    kept = settled(standing(), event, config, reason=reason)
    assert kept == Record(NOW, mark, 2, "ann", NOW - 50, NOW + 100, error)


def test_a_session_lease_has_no_end_to_keep() -> None:
    kept = settled(standing(due_at=None), Event.LOSE)
    assert kept is not None
    assert (kept.delivered_at, kept.lease_expires_at) == (NOW - 50, None)


@pytest.mark.parametrize("state", [R, D, F])
def test_a_late_nack_tells_nothing_of_the_lease_that_was_over(state: State) -> None:
    assert settled(standing(state), Event.REQUEUE, reason="slow") == Record(
        NOW, Mark.REQUEUED, 2, "ann", None, None, "slow"
    )


def test_nothing_is_kept_of_what_goes_well_or_is_refused() -> None:
    asked = itertools.product(State, [event for state, event in TRANSITIONS if state is L])
    for state, event in asked:
        if event in (Event.CLAIM, Event.DUE, Event.REDRIVE):
            continue
        before = standing(state)
        assert settled(before, event, lease="another") is None
        if event in (Event.ACK, Event.EXTEND):
            assert settled(before, event) is None
        if state is P:
            assert settled(before, event) is None
    assert settled(standing(R, verdict=Verdict.NACKED), Event.REQUEUE) is None  # once more, the same


def test_what_nobody_saw_was_no_attempt() -> None:
    assert settled(standing(), Event.RELEASE, unseen=True) is None


def test_what_is_due_is_kept_where_it_is_the_end_of_a_lease_or_a_life() -> None:
    assert lapsed(standing()) == Record(NOW, Mark.EXPIRED, 2, "ann", NOW - 50, NOW + 100, "lease expired")
    last = lapsed(standing(), QueueConfig(max_attempts=1))
    assert last == Record(NOW, Mark.FAILED, 2, "ann", NOW - 50, NOW + 100, "lease expired")
    for state in (R, D):
        assert lapsed(standing(state, expires_at=NOW)) == Record(NOW, Mark.FAILED, 2, error="expired")
    assert lapsed(standing(D)) is None
    assert lapsed(standing(P)) is None


def test_a_long_error_is_cut_and_says_so() -> None:
    kept = settled(standing(), Event.REQUEUE, reason="x" * 4_096)
    assert kept is not None
    assert kept.error == "x" * (ERROR_CHARS - 1) + "…"
    whole = settled(standing(), Event.REQUEUE, reason="x" * ERROR_CHARS)
    assert whole is not None
    assert whole.error == "x" * ERROR_CHARS


def test_the_numbers_of_marks_stay_what_they_are() -> None:
    names = "published delivered requeued expired lost released failed dead_lettered redriven processed"
    assert [mark.name.lower() for mark in sorted(Mark)] == names.split()
    assert [int(mark) for mark in sorted(Mark)] == list(range(10))


# -- the timeline ------------------------------------------------------------------------------------------------------


PUBLISHED = Moment(NOW - 900, Mark.PUBLISHED, 0)


def test_a_message_that_waits_was_published() -> None:
    assert moments(MESSAGE, []) == [PUBLISHED]


def test_a_message_that_is_processing_was_delivered_and_says_until_when() -> None:
    delivered = Moment(NOW - 5, Mark.DELIVERED, 2, "ann", NOW + 30)  # `updated_at` is when it was extended
    assert moments(message(L, due_at=NOW + 30, delivered_at=NOW - 5), []) == [PUBLISHED, delivered]


def test_a_processed_message_says_by_whom_and_not_what_its_due_at_is_now() -> None:
    delivered, processed = Moment(NOW - 5, Mark.DELIVERED, 2, "ann"), Moment(NOW, Mark.PROCESSED, 2, "ann")
    assert moments(message(P, due_at=NOW + 30, delivered_at=NOW - 5), []) == [PUBLISHED, delivered, processed]


def test_a_message_that_was_processed_before_deliveries_were_noted_does_not_make_one_up() -> None:
    assert moments(message(P), []) == [PUBLISHED, Moment(NOW, Mark.PROCESSED, 2, "ann")]


def test_a_delivery_whose_lease_was_over_before_the_ack_is_told_once() -> None:
    kept = [Record(NOW - 2, Mark.EXPIRED, 2, "ann", NOW - 5, NOW - 2, "lease expired")]
    marks = [moment.mark for moment in moments(message(P, delivered_at=NOW - 5), kept)]
    assert marks == [Mark.PUBLISHED, Mark.DELIVERED, Mark.EXPIRED, Mark.PROCESSED]


def test_a_redriven_message_tells_of_both_its_first_attempts() -> None:
    kept = [
        Record(NOW - 7, Mark.DEAD_LETTERED, 2, "ann", NOW - 9, None, "bad"),
        Record(NOW - 6, Mark.REDRIVEN, 2),
    ]
    marks = [moment.mark for moment in moments(message(P, delivered_at=NOW - 5), kept)]
    assert marks[-2:] == [Mark.DELIVERED, Mark.PROCESSED]


def test_each_record_of_a_lease_tells_of_its_delivery_too() -> None:
    kept = [
        Record(5, Mark.EXPIRED, 1, "bob", 2, 4, "lease expired"),
        Record(6, Mark.REQUEUED, 1, "bob", None, None, "late"),
        Record(9, Mark.REDRIVEN, 1),
    ]
    assert moments(MESSAGE, kept)[1:] == [
        Moment(2, Mark.DELIVERED, 1, "bob", 4),
        Moment(5, Mark.EXPIRED, 1, "bob", 4, "lease expired"),
        Moment(6, Mark.REQUEUED, 1, "bob", None, "late"),
        Moment(9, Mark.REDRIVEN, 1),
    ]


def test_a_failed_message_says_so_once_also_where_nothing_was_kept() -> None:
    failed = message(F, error="bad")
    assert moments(failed, []) == [PUBLISHED, Moment(NOW, Mark.FAILED, 2, None, None, "bad")]
    assert moments(failed, [Record(NOW, Mark.FAILED, 2, "ann", None, None, "bad")]) == [
        PUBLISHED,
        Moment(NOW, Mark.FAILED, 2, "ann", None, "bad"),
    ]


# -- retry -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [R, D, L, P])
def test_only_a_failed_message_is_retried(state: State) -> None:
    before = standing(state)
    assert lifecycle.retry(before, PLAIN, NOW) == lifecycle.Ruling("not_failed", before)


def test_a_retry_is_a_redrive_at_home() -> None:
    before = standing(F, failures=5, dead_letter="{}")
    config = QueueConfig(message_ttl_ms=70)
    ruling = lifecycle.retry(before, config, NOW)
    assert ruling == lifecycle.Ruling(None, lifecycle.redrive(before, "home", config, NOW), Fate.READY)
    assert ruling.standing is not None
    assert (ruling.standing.state, ruling.standing.failures, ruling.standing.attempt) == (R, 0, 2)
    assert (ruling.standing.dead_letter, ruling.standing.due_at) == ("{}", NOW + 70)
    assert timeline.redriven(before, ruling.standing) == Record(NOW, Mark.REDRIVEN, 2)
