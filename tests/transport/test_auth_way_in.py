"""The password that the first start makes is not lost, and whoever has the machine gets in again."""

from __future__ import annotations

import pytest

from streambroker.core.access import Role
from streambroker.core.errors import Invalid, NotFound
from streambroker.transport.auth.service import AuthService
from tests.transport.auth_world import ADDRESS, GRANTS, PASSWORD, World, ended, refused


async def begun_and_killed(world: World) -> str:
    """A first start that died before it could show the password."""
    password = await (await world.begin()).users.first_start(None)
    assert password is not None
    return password


async def test_a_first_password_that_was_not_shown_is_made_anew_by_the_next_start(world: World) -> None:
    """D1"""
    lost = await begun_and_killed(world)
    again = await begun_and_killed(world)
    auth = await world.begin()
    password = await auth.users.first_start(None)
    assert password is not None
    for old in (lost, again):
        await refused(auth, "admin", old)
    await auth.login("admin", password, ADDRESS)
    assert world.database.count("users") == 1


async def test_a_first_password_that_was_shown_stays(world: World) -> None:
    auth = await world.begin()
    password = await auth.users.first_start(None)
    assert password is not None
    await auth.users.first_password_shown()
    restarted = await world.begin()
    assert await restarted.users.first_start(None) is None
    await restarted.login("admin", password, ADDRESS)


async def test_a_password_from_the_settings_takes_the_place_of_one_that_was_not_shown(world: World) -> None:
    await begun_and_killed(world)
    for _ in range(2):
        auth = await world.begin()
        assert await auth.users.first_start("from the environment") is None
        await auth.login("admin", "from the environment", ADDRESS)


@pytest.mark.parametrize("by", ["oneself", "an admin"])
async def test_a_password_that_somebody_chose_is_never_made_anew(world: World, by: str) -> None:
    auth = await world.begin()
    password = await auth.users.first_start(None)  # printed, and killed before that could be noted
    assert password is not None
    if by == "oneself":
        session = auth.authenticate((await auth.login("admin", password, ADDRESS)).access_token)
        await auth.change_password(session, password, "a password of my own", ADDRESS)
    else:
        await auth.users.change("admin", password="a password of my own")
    restarted = await world.begin()
    assert await restarted.users.first_start(None) is None
    await restarted.login("admin", "a password of my own", ADDRESS)


async def test_other_changes_of_the_first_user_leave_it_unseen(world: World) -> None:
    auth = await world.begin()
    assert await auth.users.first_start(None) is not None
    await auth.users.change("admin", grants=GRANTS)
    assert await (await world.begin()).users.first_start(None) is not None


async def test_a_reset_lets_in_with_the_new_password_and_ends_what_was_open(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, ADDRESS)
    await auth.users.change("ann", disabled=True)
    password = await auth.users.reset("ann", None)
    await refused(auth, "ann", PASSWORD)
    account = auth.users.find("ann")
    assert account is not None
    assert (account.role, account.grants, account.disabled) == (Role.MEMBER, GRANTS, False)
    assert ended(auth, pair.access_token)
    restarted = await world.begin()
    await restarted.login("ann", password, ADDRESS)
    assert ended(restarted, pair.access_token)


async def test_a_reset_makes_admin_an_admin_again_wherever_it_went(auth: AuthService) -> None:
    await auth.users.add("root", "root's other secret", Role.ADMIN, ())
    await auth.users.change("admin", role=Role.MEMBER, grants=GRANTS, disabled=True)
    for _ in range(2):
        assert await auth.users.reset("admin", "given by hand") == "given by hand"
        pair = await auth.login("admin", "given by hand", ADDRESS)
        assert auth.authenticate(pair.access_token).role is Role.ADMIN
        await auth.users.remove("admin")


async def test_a_reset_takes_only_what_is_a_user_and_a_password(auth: AuthService) -> None:
    with pytest.raises(NotFound):
        await auth.users.reset("nobody", None)
    with pytest.raises(Invalid):
        await auth.users.reset("ann", "7 chars")
    await auth.login("ann", PASSWORD, ADDRESS)
