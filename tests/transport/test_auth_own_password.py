"""A user gives itself another password."""

from __future__ import annotations

import asyncio

import pytest

from streambroker.core.access import Role
from streambroker.core.errors import Conflict, Forbidden, Invalid, RateLimited, Unauthenticated
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.service import AuthService, TokenPair
from tests.transport.auth_world import ADDRESS, PASSWORD, Gated, Strict, World, ended, logged_in, refused


async def test_a_new_password_ends_all_sessions_and_begins_a_new_one(world: World, auth: AuthService) -> None:
    """D6"""
    pairs = [await auth.login("ann", PASSWORD, ADDRESS) for _ in range(3)]
    who = auth.authenticate(pairs[0].access_token)
    world.changed.clear()
    new = await auth.change_password(who, PASSWORD, "another secret", ADDRESS)
    assert world.changed == ["ann"]
    for service in (auth, await world.begin()):
        assert ended(service, *(pair.access_token for pair in pairs))
        for pair in pairs:
            with pytest.raises(Unauthenticated):
                await service.refresh(pair.refresh_token)
        assert not ended(service, new.access_token)
        await refused(service, "ann", PASSWORD)
        await service.login("ann", "another secret", ADDRESS)
    assert (await auth.refresh(new.refresh_token)).access_token
    assert (await logged_in(auth, "admin", "root's secret")).username == "admin"


async def test_a_wrong_current_password_changes_nothing_and_the_guard_hears_of_it(world: World) -> None:
    guard = world.guard = Strict()
    auth = await world.begin()
    await auth.users.add("ann", PASSWORD, Role.MEMBER, ())
    who = await logged_in(auth)
    with pytest.raises(Forbidden):
        await auth.change_password(who, "wrong", "another secret", ADDRESS)
    assert guard.failures == [("ann", ADDRESS)]
    with pytest.raises(RateLimited):
        await auth.change_password(who, PASSWORD, "another secret", ADDRESS)
    assert auth.still(who) is who
    await auth.login("ann", PASSWORD, "192.0.2.2")


@pytest.mark.parametrize("new", ["", "short", "7 chars", "x" * 1025, "ü" * 513, "\ud800" * 8])
async def test_a_new_password_that_cannot_be_one_is_refused_by_name(auth: AuthService, new: str) -> None:
    who = await logged_in(auth)
    with pytest.raises(Invalid) as caught:
        await auth.change_password(who, PASSWORD, new, ADDRESS)
    assert [error.pointer for error in caught.value.errors] == ["/new_password"]
    assert auth.still(who) is who


async def test_of_two_password_changes_at_once_exactly_one_wins(auth: AuthService) -> None:
    who = await logged_in(auth)
    wanted = ["first new secret", "second new secret"]
    answers = await asyncio.gather(
        *(auth.change_password(who, PASSWORD, new, ADDRESS) for new in wanted), return_exceptions=True
    )
    won = [answer for answer in answers if isinstance(answer, TokenPair)]
    assert len(won) == 1
    assert sum(isinstance(answer, Conflict | Forbidden | Unauthenticated) for answer in answers) == 1
    assert not ended(auth, won[0].access_token)
    valid = wanted[answers.index(won[0])]
    await auth.login("ann", valid, ADDRESS)
    await refused(auth, "ann", wanted[1 - wanted.index(valid)])


async def test_a_password_proven_before_another_change_changes_nothing_any_more(auth: AuthService) -> None:
    account = auth.users.find("ann")
    assert account is not None
    await auth.users.change_password(account, "first new secret")
    with pytest.raises(Conflict):
        await auth.users.change_password(account, "second new secret")
    await auth.login("ann", "first new secret", ADDRESS)


async def test_who_was_logged_out_while_the_password_was_verified_changes_nothing(
    world: World, auth: AuthService
) -> None:
    hasher = Gated()
    who = await logged_in(auth)
    world.passwords.close()
    world.passwords = Passwords(hasher=hasher)
    auth = await world.begin()
    change = asyncio.create_task(auth.change_password(who, PASSWORD, "another secret", ADDRESS))
    await asyncio.to_thread(hasher.begun.wait, 10)
    await auth.logout(who)
    hasher.gate.set()
    with pytest.raises(Unauthenticated):
        await change
    await auth.login("ann", PASSWORD, ADDRESS)
