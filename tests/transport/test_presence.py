"""What users hold open ends when their right to it does, and is bounded (D6, D16)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streambroker.core.access import Principal, Role
from streambroker.core.errors import RateLimited, Unauthenticated
from streambroker.transport.presence import Presence

MIA = Principal("mia", Role.MEMBER, (), "s1", None, "j1")


class Open:
    """Something open."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.heard: list[Principal | None] = []

    def recognized(self, principal: Principal) -> None:
        self.principal = principal
        self.heard.append(principal)

    def turned_out(self) -> None:
        self.heard.append(None)


def test_whose_session_ended_is_turned_out_and_nobody_else() -> None:
    over = set[str]()
    presence = Presence(lambda p: None if p.sid in over else p)
    ended, other, stranger = Open(MIA), Open(replace(MIA, sid="s2")), Open(replace(MIA, username="bob", sid="s3"))
    for guest in (ended, other, stranger):
        presence.enter(guest)
    over.add("s1")
    presence.changed("mia")
    assert (ended.heard, other.heard, stranger.heard) == ([None], [], [])


def test_whose_rights_changed_hears_who_it_is_now() -> None:
    now = replace(MIA, role=Role.ADMIN)
    presence, guest = Presence(lambda p: now), Open(MIA)
    presence.enter(guest)
    presence.changed("mia")
    presence.changed("mia")
    assert guest.heard == [now]


def test_d16_a_member_holds_no_more_open_than_the_quota_and_an_admin_does() -> None:
    presence = Presence(lambda p: p, most=2)
    guests = [Open(MIA), Open(MIA)]
    for guest in guests:
        presence.enter(guest)
    with pytest.raises(RateLimited, match="max_connections_per_user"):
        presence.enter(Open(MIA))
    presence.leave(guests[0])
    presence.enter(Open(MIA))
    for _ in range(5):
        presence.enter(Open(replace(MIA, username="root", role=Role.ADMIN)))


def test_who_has_left_hears_nothing_and_is_forgotten() -> None:
    presence, guest = Presence(lambda p: p), Open(MIA)
    presence.enter(guest)
    presence.leave(guest)
    presence.leave(guest)
    presence.changed("mia")
    assert guest.heard == []
    assert presence._guests == {}


def test_d6_who_is_nobody_any_more_opens_nothing() -> None:
    presence = Presence(lambda p: None)
    with pytest.raises(Unauthenticated):
        presence.enter(Open(MIA))


def test_one_that_fails_to_hear_does_not_keep_the_news_from_the_others() -> None:
    now = replace(MIA, role=Role.ADMIN)
    presence = Presence(lambda p: p if p.role is Role.ADMIN else now)
    guests = [Open(MIA) for _ in range(4)]
    for guest in guests:
        presence.enter(guest)

    def fail(principal: Principal) -> None:
        raise RuntimeError("it cannot take that")

    guests[1].recognized = fail  # type: ignore[method-assign]
    presence.changed("mia")
    assert [len(guest.heard) for guest in guests] == [1, 0, 1, 1]


def test_keys_are_counted_apart_from_their_users_sessions() -> None:
    presence, key = Presence(lambda p: p, most=1), replace(MIA, key_id="k")
    presence.enter(Open(key))
    presence.enter(Open(MIA))
    with pytest.raises(RateLimited):
        presence.enter(Open(key))
