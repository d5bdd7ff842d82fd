"""Credit, what a closed subscription does with what still comes, and names of subscriptions."""

from __future__ import annotations

import pytest

from streambroker.core.errors import Conflict, NotFound
from streambroker.protocol.session import SEND_BYTES, Session
from tests.broker.subscriptions import Basket, message, subscription


def test_a_subscription_wants_what_its_credit_leaves() -> None:
    one = subscription(credit=5)
    assert one.wants() == (5, SEND_BYTES)
    one.reserve(2, 10)
    assert one.wants() == (3, SEND_BYTES - 10)
    assert one.deliver(2, 10, [message(b"123")]) == []  # less came than was reserved
    assert one.wants() == (4, SEND_BYTES)
    one.held.clear()
    assert one.wants() == (5, SEND_BYTES)


def test_what_is_reserved_and_what_is_held_are_never_more_than_the_credit_together() -> None:
    one = subscription(credit=3)
    for _ in range(3):
        count, room = one.wants()
        one.reserve(1, 1)
        assert count >= 1
        assert room > 0
    assert one.wants()[0] == 0
    for _ in range(3):
        one.deliver(1, 1, [message()])
        assert one.wants()[0] == 0
    assert len(one.held) == 3


def test_what_waits_to_be_sent_is_bounded() -> None:
    one = subscription()
    one.unsent = SEND_BYTES - 1
    assert one.wants() == (100, 1)
    one.reserve(1, 1)
    assert one.wants() == (0, 0)
    one.deliver(1, 1, [])
    one.unsent = SEND_BYTES
    assert one.wants() == (0, 0)


def test_what_was_delivered_is_held_by_its_token_and_handed_to_the_owner() -> None:
    basket = Basket()
    one = subscription(owner=basket)
    first, second = message(lease="a"), message(lease="b")
    one.reserve(2, 2)
    one.deliver(2, 2, [first, second])
    assert one.held == {first.id: "a", second.id: "b"}
    assert basket.got == [(one, [first, second])]
    one.reserve(1, 1)
    one.deliver(1, 1, [])
    assert len(basket.got) == 1


def test_a_closed_subscription_wants_nothing_and_gives_back_what_still_comes() -> None:
    basket = Basket()
    one = subscription(owner=basket)
    one.reserve(2, 2)
    one.closed = True
    late = [message(), message()]
    assert one.deliver(2, 2, late) == late
    assert (one.reserved, one.reserved_bytes, one.held, basket.got) == (0, 0, {}, [])
    assert one.wants() == (0, 0)


def test_a_paused_subscription_wants_nothing_but_keeps_what_was_on_its_way() -> None:
    one = subscription(credit=2)
    one.reserve(1, 1)
    one.paused = True
    assert one.wants() == (0, 0)
    assert one.deliver(1, 1, [message()]) == []
    one.paused = False
    assert one.wants()[0] == 1


@pytest.mark.parametrize(
    ("session", "lease_ms", "until"), [(True, None, None), (True, 5, None), (False, None, 130), (False, 5, 105)]
)
def test_a_session_lease_has_no_end_and_a_fixed_one_its_own_or_the_queues(
    session: bool, lease_ms: int | None, until: int | None
) -> None:
    terms = subscription(lease_ms=lease_ms, session=session).terms("token", 100, 30)
    assert terms == ("token", "ann", until)


def test_its_owner_hears_what_it_lost_and_that_its_queue_is_gone() -> None:
    basket = Basket()
    one = subscription(owner=basket)
    one.lost(7, "expired")
    one.queue_dropped()
    assert (basket.losses, basket.dropped) == ([(7, "expired")], [one])


def test_names_are_used_once_at_a_time() -> None:
    session, one = Session(), subscription(name="a")
    session.add(one)
    with pytest.raises(Conflict):
        session.add(subscription(name="a"))
    assert session.find("a") is one
    assert session.remove("a") is one
    assert one.closed
    for look in (session.find, session.remove):
        with pytest.raises(NotFound):
            look("a")
    session.add(subscription(name="a"))


def test_the_end_of_a_session_closes_every_subscription() -> None:
    session, all_ = Session(), [subscription(name=name) for name in "abc"]
    for one in all_:
        session.add(one)
    assert list(session.close()) == all_
    assert all(one.closed for one in all_)
    assert session.subscriptions == {}
