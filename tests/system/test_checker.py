"""The checker itself, on histories written by hand: a faultless one passes, and each property is violated once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.system.checker import Property, check, summary
from tests.system.history import (
    Crash,
    Delivery,
    Ended,
    History,
    Item,
    Outcome,
    Publish,
    Resting,
    Settle,
    Stop,
    Verdict,
)

OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO
ITEM = Item("v1", "q")


def published(*ids: str, items: tuple[Item, ...] = (ITEM,), at: float = 0, outcome: Outcome = OK) -> Publish:
    return Publish("p", items, at, at + 0.1, outcome, ids)


def delivered(attempt: int = 1, at: float = 1, expires: float | None = None, connection: str = "c1") -> Delivery:
    lease = f"t{attempt}"
    return Delivery("c", connection, "m1", "v1", "q", 0, attempt, lease, 0.5, at, expires)


def settled(verdict: Verdict = Verdict.ACK, lease: str = "t1", at: float = 1.5, outcome: Outcome = OK) -> Settle:
    return Settle("c", verdict, "m1", lease, at, at + 0.1, outcome, "lease_lost" if outcome is FAIL else None)


def resting(status: str = "processed", message_id: str = "m1", value: str = "v1", queue: str = "q") -> Resting:
    return Resting(message_id, value, queue, status)


def faultless() -> History:
    return History([published("m1")], [delivered()], [settled()], resting=[resting()])


def broken(history: History) -> set[Property]:
    return {violation.property for violation in check(history)}


def test_a_faultless_history_passes() -> None:
    assert check(faultless()) == []


def test_an_empty_history_passes() -> None:
    assert check(History()) == []


def test_a_message_that_nobody_got_and_that_still_waits_is_not_lost() -> None:
    assert check(History([published("m1")], resting=[resting("pending")])) == []


def test_a_confirmed_message_that_is_gone_is_lost() -> None:
    assert broken(History([published("m1")])) == {Property.LOST}


def test_a_delivered_message_that_is_gone_without_an_ack_is_lost() -> None:
    assert broken(History([published("m1")], [delivered()])) == {Property.LOST}


def test_a_processed_message_past_its_retention_is_not_lost() -> None:
    assert check(History([published("m1")], [delivered()], [settled(outcome=INFO)])) == []


def test_an_unknown_publish_may_be_missing() -> None:
    assert check(History([published(outcome=INFO)])) == []


def test_an_unknown_publish_may_be_there() -> None:
    assert check(History([published(outcome=INFO)], resting=[resting("pending")])) == []


def test_a_message_that_nobody_published_is_unexpected() -> None:
    history = faultless()
    history.resting.append(resting("pending", "m2", "v2"))
    assert broken(history) == {Property.UNEXPECTED}


def test_a_message_that_was_refused_is_unexpected() -> None:
    assert broken(History([published(outcome=FAIL)], resting=[resting("pending")])) == {Property.UNEXPECTED}


def test_a_message_in_a_strange_queue_is_unexpected() -> None:
    history = History([published("m1")], resting=[resting("pending", queue="elsewhere")])
    assert broken(history) == {Property.UNEXPECTED}
    history.dead_letters["q"] = "elsewhere"
    assert check(history) == []


def test_a_message_with_another_priority_is_unexpected() -> None:
    history = faultless()
    history.deliveries[0] = replace(history.deliveries[0], priority=3)
    assert broken(history) == {Property.UNEXPECTED}


def test_one_publish_that_makes_two_messages_is_published_twice() -> None:
    history = faultless()
    history.resting.append(resting("pending", "m2"))
    assert broken(history) == {Property.PUBLISHED_TWICE}


def test_a_retry_without_a_dedup_id_may_make_two_messages() -> None:
    history = faultless()
    history.publishes.insert(0, published(outcome=INFO, at=-1))
    history.resting.append(resting("pending", "m2"))
    assert check(history) == []


def test_a_retry_with_a_dedup_id_that_makes_two_messages_is_published_twice() -> None:
    item = replace(ITEM, dedup_id="d1")
    history = History(
        [published(items=(item,), outcome=INFO), published("m2", items=(item,), at=1)],
        resting=[resting("pending"), resting("pending", "m2")],
    )
    assert broken(history) == {Property.PUBLISHED_TWICE}


def test_an_unknown_batch_that_is_half_there_is_torn() -> None:
    items = (ITEM, Item("v2", "q"))
    history = History([published(items=items, outcome=INFO)], resting=[resting("pending")])
    assert broken(history) == {Property.TORN_BATCH}
    history.resting.append(resting("pending", "m2", "v2"))
    assert check(history) == []


def test_a_later_attempt_than_the_acked_one_is_a_delivery_after_the_ack() -> None:
    history = faultless()
    history.deliveries.append(delivered(2, at=9))
    history.crashes.append(Crash(5))
    assert broken(history) == {Property.DELIVERED_AFTER_ACK}


def test_a_poll_begun_after_the_ack_that_gets_the_message_is_a_delivery_after_the_ack() -> None:
    history = faultless()
    history.deliveries.append(replace(delivered(1, at=9), lease="t1b", not_before=8))
    history.crashes.append(Crash(5))
    assert broken(history) == {Property.DELIVERED_AFTER_ACK}


def test_a_dead_letter_delivered_after_the_ack_at_home_is_a_delivery_after_the_ack() -> None:
    history = faultless()
    history.dead_letters["q"] = "dead"
    history.deliveries.append(replace(delivered(1, at=9), lease="t9", queue="dead"))
    history.crashes.append(Crash(5))
    assert broken(history) == {Property.DELIVERED_AFTER_ACK}


def test_a_delivery_after_an_unknown_ack_is_allowed() -> None:
    history = History([published("m1")], [delivered(), delivered(2, at=9)], resting=[resting()], crashes=[Crash(2)])
    history.settles += [settled(outcome=INFO), settled(lease="t2", at=10)]
    assert check(history) == []


def two_deliveries(expires: float | None = None) -> History:
    """Session lease to c1 at 1 s, again to c2 at 9 s, nothing between them."""
    return History(
        [published("m1")],
        [delivered(expires=expires), delivered(2, at=9, connection="c2")],
        [settled(lease="t2", at=10)],
        resting=[resting()],
    )


def test_two_deliveries_with_nothing_between_them_are_unexplained() -> None:
    assert broken(two_deliveries()) == {Property.UNEXPLAINED_DUPLICATE}


def test_a_crash_between_two_deliveries_explains_the_second() -> None:
    history = two_deliveries()
    history.crashes.append(Crash(5))
    assert check(history) == []


def test_a_crash_before_both_deliveries_explains_nothing() -> None:
    history = two_deliveries()
    history.crashes.append(Crash(0.3))
    assert broken(history) == {Property.UNEXPLAINED_DUPLICATE}


def test_an_expired_lease_explains_the_second_delivery() -> None:
    assert check(two_deliveries(expires=8)) == []


def test_a_second_delivery_before_the_lease_expired_is_unexplained() -> None:
    assert broken(two_deliveries(expires=12)) == {Property.UNEXPLAINED_DUPLICATE, Property.LEASE_NOT_KEPT}


def test_a_requeue_explains_the_second_delivery() -> None:
    history = two_deliveries()
    history.settles.insert(0, settled(Verdict.REQUEUE))
    assert check(history) == []


def test_a_refused_requeue_explains_nothing() -> None:
    history = two_deliveries()
    history.settles.insert(0, settled(Verdict.REQUEUE, outcome=FAIL))
    assert broken(history) == {Property.UNEXPLAINED_DUPLICATE}


def test_the_end_of_the_connection_explains_the_second_delivery() -> None:
    history = two_deliveries()
    history.endings.append(Ended("c1", 5))
    assert check(history) == []


def test_the_end_of_another_connection_explains_nothing() -> None:
    history = two_deliveries()
    history.endings.append(Ended("c2", 5))
    assert broken(history) == {Property.UNEXPLAINED_DUPLICATE}


def test_a_token_handed_out_twice_is_reused() -> None:
    history = two_deliveries()
    history.crashes.append(Crash(5))
    history.deliveries[0] = replace(history.deliveries[0], lease="t2")
    history.settles, history.resting = [], [resting("pending")]
    assert broken(history) == {Property.TOKEN_REUSED}


def test_an_old_token_that_settles_a_message_others_hold_is_stale() -> None:
    history = two_deliveries(expires=8)
    history.settles = [settled(Verdict.REJECT, at=9.5)]
    history.resting = [resting("failed")]
    assert broken(history) == {Property.STALE_TOKEN_ACCEPTED}


def test_a_fixed_lease_is_kept_across_a_crash() -> None:
    history = two_deliveries(expires=12)
    history.crashes.append(Crash(5))
    assert broken(history) == {Property.LEASE_NOT_KEPT}


def test_a_stop_gives_every_lease_back() -> None:
    history = two_deliveries(expires=12)
    history.stops.append(Stop(5))
    assert check(history) == []


def test_a_fixed_lease_of_the_moment_of_the_crash_may_be_forgotten() -> None:
    history = two_deliveries(expires=12)
    history.crashes.append(Crash(1.1))
    assert check(history) == []


def test_a_live_token_that_is_refused_is_a_lease_not_kept() -> None:
    history = History([published("m1")], [delivered(expires=12)], [settled(outcome=FAIL)], resting=[resting("pending")])
    assert broken(history) == {Property.LEASE_NOT_KEPT}


def test_a_refused_token_of_an_expired_lease_is_fine() -> None:
    history = History([published("m1")], [delivered(expires=1.2)], [settled(outcome=FAIL)])
    history.resting.append(resting("pending"))
    assert check(history) == []


def in_order(*values: str, sole: bool = True) -> History:
    """v1 and v2 published in that order, one confirmed before the other; delivered to one connection as given."""
    publishes = [published("m1", at=0), published("m2", items=(Item("v2", "q"),), at=1)]
    deliveries = [
        Delivery("c", "c1", f"m{value[1]}", value, "q", 0, 1, f"t{value}", 2, 3 + place, None, sole)
        for place, value in enumerate(values)
    ]
    rest = [resting("pending"), resting("pending", "m2", "v2")]
    return History(publishes, deliveries, resting=rest)


def test_first_deliveries_in_the_order_of_publishing_pass() -> None:
    assert check(in_order("v1", "v2")) == []


def test_a_younger_message_before_an_older_one_is_out_of_order() -> None:
    assert broken(in_order("v2", "v1")) == {Property.OUT_OF_ORDER}


def test_a_consumer_that_shares_its_queue_does_not_judge_the_order() -> None:
    assert check(in_order("v2", "v1", sole=False)) == []


def test_publishes_at_the_same_time_have_no_order() -> None:
    history = in_order("v2", "v1")
    history.publishes[0] = replace(history.publishes[0], completed=5)
    assert check(history) == []


def test_a_batch_delivered_backwards_is_out_of_order() -> None:
    history = in_order("v2", "v1")
    history.publishes = [published("m1", "m2", items=(ITEM, Item("v2", "q")))]
    assert broken(history) == {Property.OUT_OF_ORDER}


def test_a_processed_message_that_nobody_acked_is_unexplained() -> None:
    history = History([published("m1")], [delivered()], resting=[resting()])
    assert broken(history) == {Property.UNEXPLAINED_STATUS}


def test_a_failed_message_that_nobody_rejected_is_unexplained_unless_attempts_are_limited() -> None:
    history = History([published("m1")], [delivered()], resting=[resting("failed")])
    assert broken(history) == {Property.UNEXPLAINED_STATUS}
    history.limited = frozenset({"q"})
    assert check(history) == []


def test_the_summary_counts_each_property_and_shows_some_in_full() -> None:
    publishes = [published(f"m{n}", items=(Item(f"v{n}", "q"),)) for n in range(20)]
    text = summary(check(History(publishes)), limit=2)
    assert text.startswith("20 x lost")
    assert text.count("\n") == 2


def test_a_history_is_saved_as_one_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    faultless().save(path)
    assert path.read_text(encoding="utf-8").count("\n") == 4
