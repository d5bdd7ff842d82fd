"""The table of transitions, exhaustively, and what goes with each of them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

import msgspec
import pytest

from streambroker.core import lifecycle
from streambroker.core.lifecycle import TRANSITIONS, Event, Fate, Settlement, judge
from streambroker.core.message import DeadLetter, Standing, State, Verdict
from streambroker.core.policy import Backoff, QueueConfig

NOW = 1_000_500
PLAIN = QueueConfig(backoff=Backoff(jitter=False))
TO_DEAD = QueueConfig(dead_letter_queue="dead", backoff=Backoff(jitter=False))
DEAD = QueueConfig(message_ttl_ms=70)
SETTLES = (Event.ACK, Event.REQUEUE, Event.REJECT, Event.RELEASE, Event.LOSE, Event.EXTEND)
HELD = (State.READY, State.DELAYED, State.LEASED, State.FAILED)


def standing(state: State = State.LEASED, **changes: object) -> Standing:
    base = Standing(
        id=7,
        queue="home",
        state=state,
        attempt=2,
        failures=1,
        max_attempts=None,
        updated_at=NOW - 500,
        available_at=NOW - 900,
        expires_at=None,
        due_at=NOW + 100 if state is State.LEASED else None,
        lease="t1",
        holder="ann",
        verdict=Verdict.NONE,
        error=None,
        dead_letter=None,
    )
    return msgspec.structs.replace(base, **changes)


def asked(event: Event, **members: object) -> Settlement:
    return msgspec.structs.replace(Settlement(7, event, "t1", until=NOW + 400), **members)


def settle(before: Standing, wish: Settlement, config: QueueConfig = PLAIN) -> lifecycle.Ruling:
    return lifecycle.settle(before, wish, config, DEAD if config.dead_letter_queue else None, NOW)


def after(before: Standing, wish: Settlement, config: QueueConfig = PLAIN) -> Standing:
    ruling = settle(before, wish, config)
    assert ruling.refusal is None
    assert ruling.standing is not None
    return ruling.standing


def note(after: Standing) -> DeadLetter:
    assert after.dead_letter is not None
    return msgspec.json.decode(after.dead_letter, type=DeadLetter)


# -- the table ---------------------------------------------------------------------------------------------------------


def standings(state: State) -> Iterator[Standing]:
    for failures, limit, expires, verdict in itertools.product(
        (0, 4, 9), (None, 0, 1), (None, NOW - 1, NOW + 50), (Verdict.NONE, Verdict.NACKED)
    ):
        yield standing(state, failures=failures, max_attempts=limit, expires_at=expires, verdict=verdict)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, SETTLES)))
def test_a_settle_leads_where_the_table_says_or_is_refused(state: State, event: Event) -> None:
    reached: set[State | None] = set()
    for before, config, lease, delay, unseen in itertools.product(
        standings(state), (PLAIN, TO_DEAD), ("t1", "t0", None), (None, 0, 40), (False, True)
    ):
        untouched = msgspec.structs.replace(before)
        ruling = settle(before, asked(event, lease=lease, holder="ann", delay_ms=delay, unseen=unseen), config)
        assert before == untouched
        if ruling.refusal is not None or ruling.already:
            assert ruling.standing == before
            assert ruling.fate is None
        else:
            assert ruling.standing is not None
            reached.add(ruling.standing.state)
    assert reached == TRANSITIONS.get((state, event), frozenset())


@pytest.mark.parametrize("state", [State.READY, State.DELAYED, State.LEASED, State.PROCESSED])
def test_what_is_due_leads_where_the_table_says(state: State) -> None:
    reached: set[State | None] = set()
    for before, config in itertools.product(standings(state), (PLAIN, TO_DEAD)):
        if state is State.READY and (before.expires_at is None or before.expires_at > NOW):
            continue  # nothing is ever due of it
        changed, fate = lifecycle.overdue(before, config, DEAD if config is TO_DEAD else None, NOW)
        reached.add(None if fate is Fate.GONE else changed.state)
    assert reached == TRANSITIONS[state, Event.DUE]


@pytest.mark.parametrize("state", [State.READY, State.DELAYED, State.FAILED])
def test_redrive_leads_where_the_table_says(state: State) -> None:
    reached = {lifecycle.redrive(before, "home", PLAIN, NOW).state for before in standings(state)}
    assert reached == TRANSITIONS[state, Event.REDRIVE]


def test_the_table_holds_nothing_that_was_not_tried_above() -> None:
    tried = {(state, event) for state in State for event in SETTLES}
    tried |= {(state, Event.DUE) for state in State if state is not State.FAILED}
    tried |= {(state, Event.REDRIVE) for state in (State.READY, State.DELAYED, State.FAILED)}
    assert TRANSITIONS.keys() - tried == {(State.READY, Event.CLAIM)}
    assert TRANSITIONS[State.READY, Event.CLAIM] == {State.LEASED}


def test_every_state_that_something_leads_to_has_a_way_on() -> None:
    ways: dict[State, set[State | None]] = defaultdict(set)
    for (state, _), targets in TRANSITIONS.items():
        ways[state] |= targets - {state}
    assert all(ways[state] for state in State)


@pytest.mark.parametrize("event", [Event.CLAIM, Event.DUE, Event.REDRIVE])
def test_what_is_no_settle_is_refused(event: Event) -> None:
    with pytest.raises(AssertionError):
        settle(standing(State.READY), asked(event))


# -- who may settle ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", HELD)
@pytest.mark.parametrize("event", SETTLES)
def test_the_newest_token_may_settle_whatever_the_clock_says(state: State, event: Event) -> None:
    assert judge(standing(state, due_at=NOW - 10_000), asked(event)) is None


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", SETTLES)
@pytest.mark.parametrize("verdict", Verdict)
def test_any_other_token_has_lost_its_lease(state: State, event: Event, verdict: Verdict) -> None:
    assert judge(standing(state, verdict=verdict), asked(event, lease="t0")) == "lease_lost"
    assert judge(standing(state, verdict=verdict, lease=None), asked(event)) == "lease_lost"


@pytest.mark.parametrize("state", [state for state in State if state is not State.LEASED])
@pytest.mark.parametrize("event", SETTLES)
def test_without_a_token_only_what_is_processing_can_be_settled(state: State, event: Event) -> None:
    assert judge(standing(state), asked(event, lease=None, holder="ann")) == "not_processing"


@pytest.mark.parametrize("event", SETTLES)
def test_without_a_token_only_the_holder_may_settle(event: Event) -> None:
    assert judge(standing(), asked(event, lease=None, holder="ann")) is None
    assert judge(standing(), asked(event, lease=None, holder="bob")) == "lease_lost"
    assert judge(standing(), asked(event, lease=None, holder=None)) == "lease_lost"


def test_a_token_counts_whoever_brings_it() -> None:
    assert judge(standing(), asked(Event.ACK, holder="bob")) is None


@pytest.mark.parametrize("state", State)
def test_the_same_verdict_again_is_answered_as_before_and_another_is_refused(state: State) -> None:
    acked, nacked = standing(state, verdict=Verdict.ACKED), standing(state, verdict=Verdict.NACKED)
    assert judge(acked, asked(Event.ACK)) == "already"
    assert {judge(nacked, asked(event)) for event in (Event.REQUEUE, Event.REJECT)} == {"already"}
    assert {judge(acked, asked(event)) for event in SETTLES if event is not Event.ACK} == {"already_settled"}
    assert {judge(nacked, asked(e)) for e in SETTLES if e not in (Event.REQUEUE, Event.REJECT)} == {"already_settled"}


def test_an_answer_that_was_given_already_changes_nothing() -> None:
    before = standing(State.PROCESSED, verdict=Verdict.ACKED)
    ruling = settle(before, asked(Event.ACK))
    assert ruling == lifecycle.Ruling(None, before, None, already=True)


@pytest.mark.parametrize("event", [Event.RELEASE, Event.LOSE])
@pytest.mark.parametrize("state", [State.READY, State.DELAYED, State.FAILED])
def test_a_lease_that_is_over_cannot_be_given_back_again(state: State, event: Event) -> None:
    assert settle(standing(state), asked(event)).refusal == "lease_lost"


# -- ack ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", HELD)
def test_an_ack_keeps_the_message_for_its_retention(state: State) -> None:
    done = after(standing(state), asked(Event.ACK))
    assert (done.state, done.verdict, done.updated_at) == (State.PROCESSED, Verdict.ACKED, NOW)
    assert done.due_at == lifecycle.processed_until(PLAIN, NOW)
    assert (done.attempt, done.failures, done.lease) == (2, 1, "t1")


@pytest.mark.parametrize(
    ("now", "retention", "until"), [(1_000, 0, 1_000), (1_001, 0, 2_000), (1_000, 1, 2_000), (1_999, 2_001, 4_000)]
)
def test_retention_ends_at_the_next_whole_second_and_never_early(now: int, retention: int, until: int) -> None:
    assert lifecycle.processed_until(QueueConfig(retention_ms=retention), now) == until
    assert until >= now + retention


# -- nack --------------------------------------------------------------------------------------------------------------


def test_a_requeue_waits_for_the_backoff_of_its_failures() -> None:
    again = after(standing(failures=2), asked(Event.REQUEUE, reason="later"))
    assert (again.state, again.available_at, again.due_at) == (State.DELAYED, NOW + 4_000, NOW + 4_000)
    assert (again.failures, again.attempt, again.verdict, again.error) == (3, 2, Verdict.NACKED, "later")


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 1_000), (0.5, 1_500), (0.999, 1_999)])
def test_a_requeue_is_spread_by_the_dice_that_come_with_it(chance: float, wait: int) -> None:
    assert after(standing(), asked(Event.REQUEUE, chance=chance), QueueConfig()).available_at == NOW + wait


def test_a_requeue_waits_as_long_as_it_says() -> None:
    assert after(standing(), asked(Event.REQUEUE, delay_ms=40)).due_at == NOW + 40


def test_a_requeue_without_delay_is_ready_at_once() -> None:
    again = after(standing(), asked(Event.REQUEUE, delay_ms=0))
    assert (again.state, again.due_at, again.available_at) == (State.READY, None, NOW - 900)


def test_a_requeue_without_reason_takes_the_last_error_away() -> None:
    assert after(standing(error="lease expired"), asked(Event.REQUEUE)).error is None


def test_a_delay_beyond_its_life_ends_with_its_life() -> None:
    again = after(standing(expires_at=NOW + 10), asked(Event.REQUEUE, delay_ms=40))
    assert (again.state, again.available_at, again.due_at) == (State.DELAYED, NOW + 40, NOW + 10)


@pytest.mark.parametrize(
    ("failures", "of_queue", "of_message", "fails"),
    [
        (3, 5, None, False),
        (4, 5, None, True),
        (0, 1, None, True),
        (999, 0, None, False),
        (0, 5, 1, True),
        (4, 5, 6, False),
        (9, 5, 0, False),
    ],
)
def test_the_message_fails_with_its_last_attempt(
    failures: int, of_queue: int, of_message: int | None, fails: bool
) -> None:
    before = standing(failures=failures, max_attempts=of_message)
    ruling = settle(before, asked(Event.REQUEUE, delay_ms=0, reason="boom"), QueueConfig(max_attempts=of_queue))
    assert ruling.fate is (Fate.FAILED if fails else Fate.READY)
    assert ruling.standing is not None
    assert (ruling.standing.failures, ruling.standing.error) == (failures + 1, "boom")


def test_a_message_that_fails_without_a_reason_says_why() -> None:
    assert after(standing(failures=4), asked(Event.REQUEUE)).error == "attempts used up"


@pytest.mark.parametrize(("reason", "error"), [("bad", "bad"), (None, "rejected")])
def test_a_reject_fails_at_once_and_counts_no_retry(reason: str | None, error: str) -> None:
    failed = after(standing(failures=0), asked(Event.REJECT, reason=reason))
    assert (failed.state, failed.due_at, failed.error, failed.verdict) == (State.FAILED, None, error, Verdict.NACKED)
    assert failed.failures == 0


# -- given back, lost, extended ----------------------------------------------------------------------------------------


def test_a_release_is_no_failure_and_ready_at_once() -> None:
    back = after(standing(), asked(Event.RELEASE))
    assert (back.state, back.failures, back.attempt, back.due_at) == (State.READY, 1, 2, None)
    assert back.verdict is Verdict.NONE


def test_a_release_unseen_was_no_delivery() -> None:
    assert after(standing(attempt=2), asked(Event.RELEASE, unseen=True)).attempt == 1


def test_deliveries_are_never_counted_below_none() -> None:
    # Dead-lettered when its lease ended, its deliveries begin again at 0; then its last holder extended the lease.
    assert after(standing(attempt=0), asked(Event.RELEASE, unseen=True)).attempt == 0


def test_a_released_message_keeps_its_end_of_life() -> None:
    assert after(standing(expires_at=NOW + 9), asked(Event.RELEASE)).due_at == NOW + 9


def test_a_lost_connection_counts_a_failure_and_waits_for_nothing() -> None:
    for delay in (None, 0, 40):
        lost = after(standing(), asked(Event.LOSE, delay_ms=delay))
        assert (lost.state, lost.failures, lost.error) == (State.READY, 2, "connection lost")
        assert lost.verdict is Verdict.NONE


def test_the_last_attempt_may_be_lost_with_its_connection() -> None:
    lost = after(standing(failures=4), asked(Event.LOSE, reason="heartbeat lost"))
    assert (lost.state, lost.error) == (State.FAILED, "heartbeat lost")


@pytest.mark.parametrize("state", HELD)
def test_an_extend_gives_the_lease_a_new_end(state: State) -> None:
    longer = after(standing(state), asked(Event.EXTEND))
    assert (longer.state, longer.due_at, longer.updated_at) == (State.LEASED, NOW + 400, NOW)
    assert (longer.attempt, longer.failures, longer.lease) == (2, 1, "t1")


# -- dead letters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "failures", "reason", "error"),
    [
        (asked(Event.REJECT, reason="bad"), 0, "rejected", "bad"),
        (asked(Event.REQUEUE, reason="boom"), 4, "attempts", "boom"),
        (asked(Event.LOSE), 4, "attempts", "connection lost"),
    ],
)
def test_what_fails_moves_to_the_dead_letter_queue_with_a_note(
    wish: Settlement, failures: int, reason: str, error: str
) -> None:
    ruling = settle(standing(failures=failures, attempt=5), wish, TO_DEAD)
    dead = ruling.standing
    assert dead is not None
    assert ruling.fate is Fate.DEAD_LETTERED
    assert (dead.id, dead.queue, dead.state) == (7, "dead", State.READY)
    assert (dead.attempt, dead.failures, dead.available_at) == (0, 0, NOW)
    assert (dead.expires_at, dead.due_at) == (NOW + 70, NOW + 70)
    assert note(dead) == DeadLetter("home", reason, error, 5, NOW)  # type: ignore[arg-type]
    assert dead.error == error


def test_a_dead_letter_lives_for_ever_where_its_queue_says_nothing() -> None:
    ruling = lifecycle.settle(standing(expires_at=NOW + 5), asked(Event.REJECT), TO_DEAD, QueueConfig(), NOW)
    assert ruling.standing is not None
    assert (ruling.standing.expires_at, ruling.standing.due_at) == (None, None)


def test_the_token_that_rejected_a_dead_letter_hears_that_it_did() -> None:
    dead = after(standing(), asked(Event.REJECT), TO_DEAD)
    assert judge(dead, asked(Event.REJECT)) == "already"
    assert judge(dead, asked(Event.ACK)) == "already_settled"


def test_a_late_ack_saves_a_message_from_the_dead_letter_queue() -> None:
    dead, fate = lifecycle.overdue(standing(failures=4), TO_DEAD, DEAD, NOW)
    assert fate is Fate.DEAD_LETTERED
    assert after(dead, asked(Event.ACK)).state is State.PROCESSED


def test_a_note_of_an_earlier_death_is_replaced_by_the_new_one() -> None:
    once = after(standing(), asked(Event.REJECT, reason="first"), TO_DEAD)
    home = msgspec.structs.replace(lifecycle.redrive(once, "home", PLAIN, NOW), verdict=Verdict.NONE, attempt=1)
    assert note(after(home, asked(Event.REJECT, reason="second"), TO_DEAD)).error == "second"


# -- redrive -----------------------------------------------------------------------------------------------------------


def test_a_failed_message_is_redriven_with_its_deliveries_and_no_failures() -> None:
    again = lifecycle.redrive(standing(State.FAILED, failures=5, attempt=6), "home", PLAIN, NOW)
    assert (again.state, again.failures, again.attempt) == (State.READY, 0, 6)
    assert (again.available_at, again.updated_at, again.due_at) == (NOW, NOW, None)


def test_a_dead_letter_goes_home_with_its_note() -> None:
    dead = after(standing(), asked(Event.REJECT, reason="bad"), TO_DEAD)
    dead.attempt = 3
    home = lifecycle.redrive(dead, "home", PLAIN, NOW)
    assert (home.queue, home.state, home.attempt, home.failures) == ("home", State.READY, 0, 0)
    assert home.dead_letter == dead.dead_letter


def test_a_redriven_message_gets_a_life_of_its_queue() -> None:
    expired = standing(State.FAILED, expires_at=NOW - 9, error="expired")
    again = lifecycle.redrive(expired, "home", QueueConfig(message_ttl_ms=30), NOW)
    assert (again.expires_at, again.due_at) == (NOW + 30, NOW + 30)
    assert lifecycle.redrive(expired, "home", PLAIN, NOW).expires_at is None


# -- what is due -------------------------------------------------------------------------------------------------------


def test_an_expired_lease_is_a_failure_and_ready_at_once() -> None:
    back, fate = lifecycle.overdue(standing(due_at=NOW), PLAIN, None, NOW)
    assert fate is Fate.READY
    assert (back.state, back.failures, back.error, back.due_at) == (State.READY, 2, "lease expired", None)
    assert (back.lease, back.verdict, back.attempt) == ("t1", Verdict.NONE, 2)


def test_an_expired_lease_was_the_last_attempt() -> None:
    assert lifecycle.overdue(standing(failures=4), PLAIN, None, NOW)[1] is Fate.FAILED
    assert lifecycle.overdue(standing(failures=4), TO_DEAD, DEAD, NOW)[1] is Fate.DEAD_LETTERED


def test_a_delay_that_is_over_makes_ready() -> None:
    due, fate = lifecycle.overdue(standing(State.DELAYED, expires_at=NOW + 5), PLAIN, None, NOW)
    assert (due.state, due.due_at, fate) == (State.READY, NOW + 5, Fate.READY)


@pytest.mark.parametrize("state", [State.READY, State.DELAYED])
def test_a_life_that_is_over_fails_the_message(state: State) -> None:
    dead, fate = lifecycle.overdue(standing(state, expires_at=NOW), PLAIN, None, NOW)
    assert (dead.state, dead.due_at, dead.error, fate) == (State.FAILED, None, "expired", Fate.FAILED)


@pytest.mark.parametrize("state", [State.READY, State.DELAYED])
def test_a_life_that_is_over_dead_letters_the_message(state: State) -> None:
    dead, fate = lifecycle.overdue(standing(state, expires_at=NOW), TO_DEAD, DEAD, NOW)
    assert fate is Fate.DEAD_LETTERED
    assert (note(dead).reason, dead.expires_at) == ("expired", NOW + 70)


def test_a_life_does_not_end_under_a_lease() -> None:
    back, fate = lifecycle.overdue(standing(expires_at=NOW - 50), PLAIN, None, NOW)
    assert (back.state, back.due_at, fate) == (State.READY, NOW - 50, Fate.READY)


def test_a_retention_that_is_over_ends_the_message() -> None:
    assert lifecycle.overdue(standing(State.PROCESSED), PLAIN, None, NOW)[1] is Fate.GONE


@pytest.mark.parametrize(
    ("state", "expires", "due"),
    [
        (State.READY, None, None),
        (State.READY, 90, 90),
        (State.DELAYED, None, 50),
        (State.DELAYED, 90, 50),
        (State.DELAYED, 20, 20),
    ],
)
def test_what_waits_is_due_when_it_becomes_ready_or_its_life_ends(
    state: State, expires: int | None, due: int | None
) -> None:
    assert lifecycle.waiting_due(state, 50, expires) == due
