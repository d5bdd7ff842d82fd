"""API keys: what they may do, and when that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from streambroker.core.access import Action, Decision, Grant, Role, decide, may_view_all
from streambroker.core.errors import Forbidden, Invalid, NotFound, RateLimited, Unauthenticated
from streambroker.transport.auth.api_keys import MAX_KEYS_OF_A_USER
from streambroker.transport.auth.service import AuthService
from tests.transport.auth_world import ADDRESS, GRANTS, PASSWORD, START, World, ended, logged_in

EVERYTHING = (Grant("*", tuple(Action)),)


async def test_a_key_without_grants_may_do_what_its_user_may_at_the_moment(world: World, auth: AuthService) -> None:
    key, secret = await auth.keys.create("ann", "worker", None, None)
    who = auth.authenticate(secret)
    assert (who.username, who.role, who.grants, who.ceiling, who.key_id) == ("ann", Role.MEMBER, GRANTS, None, key.id)
    assert (who.sid, who.jti, who.expires_at_ms) == ("", "", None)
    await auth.users.change("ann", role=Role.ADMIN)
    assert auth.authenticate(secret).role is Role.ADMIN
    assert (await world.begin()).authenticate(secret).role is Role.ADMIN


async def test_a_key_with_grants_may_do_what_its_user_may_too(auth: AuthService) -> None:
    _, secret = await auth.keys.create("ann", "worker", EVERYTHING, None)
    who = auth.authenticate(secret)
    assert decide(who, Action.PUBLISH, "orders.eu") is Decision.ALLOW
    assert decide(who, Action.CONSUME, "orders.eu") is Decision.DENY
    assert decide(who, Action.PUBLISH, "invoices") is Decision.HIDDEN
    await auth.users.change("ann", grants=())
    assert decide(auth.authenticate(secret), Action.PUBLISH, "orders.eu") is Decision.HIDDEN


async def test_a_key_of_an_admin_with_grants_is_a_member_with_just_these(auth: AuthService) -> None:
    _, secret = await auth.keys.create("admin", "worker", GRANTS, None)
    who = auth.authenticate(secret)
    assert who.role is Role.MEMBER
    assert decide(who, Action.PUBLISH, "orders.eu") is Decision.ALLOW
    assert decide(who, Action.MANAGE, "orders.eu") is Decision.DENY
    assert decide(who, Action.VIEW, "invoices") is Decision.HIDDEN
    assert not may_view_all(who)
    await auth.users.add("eve", "secret of eve", Role.ADMIN, ())
    await auth.users.change("admin", role=Role.MEMBER)
    assert decide(auth.authenticate(secret), Action.PUBLISH, "orders.eu") is Decision.HIDDEN


async def test_a_key_with_an_empty_list_of_grants_may_do_nothing(auth: AuthService) -> None:
    _, secret = await auth.keys.create("admin", "worker", (), None)
    assert decide(auth.authenticate(secret), Action.VIEW, "orders.eu") is Decision.HIDDEN


async def test_a_key_is_random_has_the_prefix_and_is_not_in_the_database(world: World, auth: AuthService) -> None:
    _, first = await auth.keys.create("ann", "worker", None, None)
    key, second = await auth.keys.create("ann", "worker", None, None)
    assert first != second
    assert first.startswith("sbk_")
    assert len(first) == len("sbk_") + 43
    dump = "\n".join(world.database.connection.iterdump())
    assert first not in dump
    assert first.removeprefix("sbk_") not in dump
    assert key.id in dump
    assert second not in repr(key)


async def test_a_key_is_remembered_once_it_was_looked_up(auth: AuthService) -> None:
    _, secret = await auth.keys.create("ann", "worker", None, None)
    assert auth.authenticate(secret) is auth.authenticate(secret)


async def test_a_key_ends_to_the_millisecond_also_where_it_is_remembered(world: World, auth: AuthService) -> None:
    _, secret = await auth.keys.create("ann", "worker", None, START + 1_000)
    assert auth.authenticate(secret).expires_at_ms == START + 1_000
    world.clock.ms += 999
    auth.authenticate(secret)
    world.clock.ms += 1
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="expired"):
            auth.authenticate(secret)


@pytest.mark.parametrize("end", [START - 1, START, 0])
async def test_a_key_cannot_end_before_it_begins(auth: AuthService, end: int) -> None:
    with pytest.raises(Invalid) as caught:
        await auth.keys.create("ann", "worker", None, end)
    assert [error.pointer for error in caught.value.errors] == ["/expires_at"]


@pytest.mark.parametrize(
    "change",
    [
        lambda secret: secret[:-1],
        lambda secret: secret + "A",
        lambda secret: secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        lambda secret: secret.swapcase(),
        lambda secret: "sbr_" + secret[4:],
        lambda secret: secret[4:],
        lambda secret: secret[:-1] + "\u00e9",
        lambda secret: "sbk_" + "\ud800" * 43,
        lambda _: "sbk_" + "A" * 1_000_000,
        lambda _: "sbk_",
    ],
)
async def test_what_is_no_key_lets_nobody_in(auth: AuthService, change: Callable[[str], str]) -> None:
    _, secret = await auth.keys.create("ann", "worker", None, None)
    with pytest.raises(Unauthenticated):
        auth.authenticate(change(secret))
    auth.authenticate(secret)


async def test_a_key_is_no_refresh_token(auth: AuthService) -> None:
    _, secret = await auth.keys.create("ann", "worker", None, None)
    with pytest.raises(Unauthenticated):
        await auth.refresh(secret)


async def test_a_deleted_key_is_refused_at_once_and_for_good(world: World, auth: AuthService) -> None:
    """D6"""
    key, secret = await auth.keys.create("ann", "worker", None, None)
    _, other = await auth.keys.create("ann", "other", None, None)
    who = auth.authenticate(secret)
    session = await logged_in(auth)
    world.changed.clear()
    await auth.keys.remove(key.id, "ann")
    assert world.changed == ["ann"]
    assert auth.still(who) is None
    assert auth.still(session) is session
    for service in (auth, await world.begin()):
        assert ended(service, secret)
        assert not ended(service, other)


async def test_a_key_rests_while_its_user_is_disabled_and_dies_with_the_user(world: World, auth: AuthService) -> None:
    key, secret = await auth.keys.create("ann", "worker", None, None)
    who = auth.authenticate(secret)
    await auth.users.change("ann", disabled=True)
    assert ended(auth, secret)
    assert auth.still(who) is None
    await auth.users.change("ann", disabled=False)
    assert not ended(auth, secret)
    await auth.users.change("ann", password="another secret")
    assert auth.still(auth.authenticate(secret)) is auth.authenticate(secret)
    await auth.users.remove("ann")
    assert ended(auth, secret)
    assert auth.keys.find(key.id) is None
    assert world.database.count("api_keys") == 0


async def test_who_a_key_is_by_now_follows_its_user(auth: AuthService) -> None:
    _, secret = await auth.keys.create("ann", "worker", EVERYTHING, START + 1_000)
    who = auth.authenticate(secret)
    assert auth.still(who) is who
    await auth.users.change("ann", grants=(Grant("invoices", (Action.VIEW,)),))
    now = auth.still(who)
    assert now is not None
    assert now.expires_at_ms == START + 1_000
    assert decide(now, Action.VIEW, "invoices") is Decision.ALLOW
    assert decide(now, Action.PUBLISH, "orders.eu") is Decision.HIDDEN


async def test_others_keys_look_as_if_they_were_not_there(auth: AuthService) -> None:
    key, secret = await auth.keys.create("admin", "worker", None, None)
    with pytest.raises(NotFound):
        await auth.keys.remove(key.id, "ann")
    assert not ended(auth, secret)
    await auth.keys.remove(key.id, None)
    with pytest.raises(NotFound):
        await auth.keys.remove(key.id, None)


async def test_keys_are_listed_in_the_order_in_which_they_were_made(world: World, auth: AuthService) -> None:
    made = []
    for username in ("ann", "admin", "ann", "ann"):
        world.clock.ms += 1
        made.append((await auth.keys.create(username, "worker", None, None))[0])
    assert auth.keys.page(None, "", 9) == made
    assert auth.keys.page("ann", "", 2) == [made[0], made[2]]
    assert auth.keys.page("ann", made[2].id, 2) == [made[3]]


async def test_a_user_has_a_hundred_keys_also_when_all_are_made_at_once(world: World, auth: AuthService) -> None:
    """D32"""
    answers = await asyncio.gather(
        *(auth.keys.create("ann", f"worker {n}", None, None) for n in range(MAX_KEYS_OF_A_USER + 3)),
        return_exceptions=True,
    )
    refusals = [answer for answer in answers if isinstance(answer, RateLimited)]
    assert len(refusals) == 3
    assert "100 API keys" in refusals[0].detail
    assert world.database.count("api_keys") == MAX_KEYS_OF_A_USER
    await auth.keys.create("admin", "worker", None, None)
    await auth.keys.remove(auth.keys.page("ann", "", 1)[0].id, "ann")
    await auth.keys.create("ann", "worker", None, None)


async def test_a_key_that_is_made_while_its_user_is_deleted_is_none(world: World, auth: AuthService) -> None:
    removal, creation = await asyncio.gather(
        auth.users.remove("ann"), auth.keys.create("ann", "worker", None, None), return_exceptions=True
    )
    assert removal is None
    assert isinstance(creation, Unauthenticated)
    assert auth.keys.page(None, "", 9) == []
    assert world.database.count("api_keys") == 0


async def test_a_key_can_neither_log_out_nor_change_the_password(auth: AuthService) -> None:
    _, secret = await auth.keys.create("ann", "worker", None, None)
    who = auth.authenticate(secret)
    with pytest.raises(Forbidden, match="DELETE /api-keys"):
        await auth.logout(who)
    with pytest.raises(Forbidden, match="log in"):
        await auth.change_password(who, PASSWORD, "another secret", ADDRESS)
    assert auth.still(who) is who
