"""Users: the first one, and what an admin does to the others."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streambroker.core.access import Action, Decision, Grant, Role, decide
from streambroker.core.errors import ConfigError, Conflict, Invalid, NotFound, Unauthenticated
from streambroker.transport.auth.service import AuthService
from tests.transport.auth_world import ADDRESS, GRANTS, PASSWORD, World, ended, logged_in, refused

ROOT_PASSWORD = "root's secret"


# --- the first start


async def test_the_first_start_makes_an_admin_whose_password_is_told_once(world: World) -> None:
    auth = await world.begin()
    password = await auth.users.first_start(None)
    assert password is not None
    assert len(password) >= 32
    pair = await auth.login("admin", password, "::1")
    assert auth.authenticate(pair.access_token).role is Role.ADMIN
    await auth.users.first_password_shown()
    assert await auth.users.first_start(None) is None
    assert await (await world.begin()).users.first_start(None) is None
    assert world.database.count("users") == 1


async def test_two_first_starts_have_different_passwords_and_no_default_one_exists() -> None:
    """D1"""
    worlds = [World(), World()]
    services = [await world.begin() for world in worlds]
    first, second = [await auth.users.first_start(None) for auth in services]
    assert first != second
    for password in ("admin", "", "password"):
        await refused(services[0], "admin", password)
    for world in worlds:
        world.close()


async def test_a_given_first_password_is_taken_and_not_told(world: World) -> None:
    auth = await world.begin()
    assert await auth.users.first_start("from the environment") is None
    await auth.login("admin", "from the environment", "::1")


async def test_a_given_password_changes_nothing_once_there_are_users(auth: AuthService) -> None:
    assert await auth.users.first_start("another") is None
    await refused(auth, "admin", "another")


@pytest.mark.parametrize("password", ["admin", "Admin"])
async def test_the_name_of_the_first_user_is_no_password(world: World, password: str) -> None:
    """D1"""
    with pytest.raises(ConfigError, match="admin_password"):
        await (await world.begin()).users.first_start(password)
    assert world.database.count("users") == 0


async def test_a_short_first_password_is_taken_with_a_warning_that_does_not_show_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    auth = await world.begin()
    with caplog.at_level(logging.WARNING):
        await auth.users.first_start("hunter2")
    assert "soon guessed" in caplog.text
    assert "hunter2" not in caplog.text
    await auth.login("admin", "hunter2", ADDRESS)


async def test_an_empty_first_password_is_none(world: World) -> None:
    assert await (await world.begin()).users.first_start("")


@pytest.mark.parametrize("password", ["x" * 1025, "\udcff"])
async def test_a_first_password_that_cannot_be_one_refuses_to_start(world: World, password: str) -> None:
    with pytest.raises(ConfigError):
        await (await world.begin()).users.first_start(password)


# --- what an admin does


async def test_users_and_grants_survive_a_restart(world: World, auth: AuthService) -> None:
    restarted = await world.begin()
    pair = await restarted.login("ann", PASSWORD, "::1")
    assert restarted.authenticate(pair.access_token).grants == GRANTS


async def test_a_name_is_given_once(auth: AuthService) -> None:
    with pytest.raises(Conflict):
        await auth.users.add("ann", "other secret", Role.ADMIN, ())
    await auth.login("ann", PASSWORD, ADDRESS)


async def test_of_two_users_of_one_name_made_at_once_one_is_there(world: World, auth: AuthService) -> None:
    answers = await asyncio.gather(
        *(auth.users.add("bob", f"secret of bob {n}", Role.MEMBER, ()) for n in range(2)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Account", "Conflict"]
    assert world.database.count("users WHERE username = 'bob'") == 1


@pytest.mark.parametrize("password", ["", "7 chars", "x" * 1025, "ü" * 513])
async def test_a_password_that_is_too_short_or_too_long_is_refused_by_name(auth: AuthService, password: str) -> None:
    for refusal in (
        auth.users.add("bob", password, Role.MEMBER, ()),
        auth.users.change("ann", password=password),
    ):
        with pytest.raises(Invalid) as caught:
            await refusal
        assert [error.pointer for error in caught.value.errors] == ["/password"]
    await auth.login("ann", PASSWORD, ADDRESS)


@pytest.mark.parametrize("password", ["bob.the.builder", "Bob.The.Builder"])
async def test_the_user_name_is_no_password(auth: AuthService, password: str) -> None:
    with pytest.raises(Invalid):
        await auth.users.add("bob.the.builder", password, Role.MEMBER, ())


async def test_new_rights_hold_at_once_and_sessions_go_on(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, ADDRESS)
    before = auth.authenticate(pair.access_token)
    assert decide(before, Action.CONSUME, "orders.eu") is Decision.DENY
    world.changed.clear()
    await auth.users.change("ann", grants=(Grant("orders.eu", (Action.CONSUME,)),))
    assert world.changed == ["ann"]
    after = auth.authenticate(pair.access_token)
    assert after.sid == before.sid
    assert decide(after, Action.CONSUME, "orders.eu") is Decision.ALLOW
    assert decide(after, Action.PUBLISH, "orders.us") is Decision.HIDDEN
    await auth.users.change("ann", role=Role.ADMIN)
    assert auth.authenticate(pair.access_token).role is Role.ADMIN
    restarted = await world.begin()
    assert restarted.authenticate(pair.access_token).role is Role.ADMIN
    assert (await restarted.refresh(pair.refresh_token)).access_token


@pytest.mark.parametrize("end", ["password", "disabled", "removed"])
async def test_what_ends_a_users_sessions_ends_all_of_them_for_good_and_nobody_elses(
    world: World, auth: AuthService, end: str
) -> None:
    """D6"""
    pairs = [await auth.login("ann", PASSWORD, ADDRESS) for _ in range(3)]
    renewed = await auth.refresh(pairs[0].refresh_token)
    root = await auth.login("admin", ROOT_PASSWORD, ADDRESS)
    tokens = [pair.access_token for pair in (*pairs, renewed)]
    assert not ended(auth, *tokens)
    world.changed.clear()
    match end:
        case "password":
            await auth.users.change("ann", password="another secret")
        case "disabled":
            await auth.users.change("ann", disabled=True)
        case _:
            await auth.users.remove("ann")
    assert world.changed == ["ann"]
    for service in (auth, await world.begin()):
        assert ended(service, *tokens)
        assert not ended(service, root.access_token)
        for pair in (*pairs[1:], renewed):
            with pytest.raises(Unauthenticated):
                await service.refresh(pair.refresh_token)
        await refused(service, "ann", PASSWORD)


async def test_a_user_that_is_enabled_again_has_no_session_of_before(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, ADDRESS)
    await auth.users.change("ann", disabled=True)
    await auth.users.change("ann", disabled=False)
    assert ended(auth, pair.access_token)
    assert ended(await world.begin(), pair.access_token)
    with pytest.raises(Unauthenticated):
        await auth.refresh(pair.refresh_token)
    await auth.login("ann", PASSWORD, ADDRESS)


async def test_a_user_of_the_same_name_has_nothing_of_the_one_before(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, ADDRESS)
    key, secret = await auth.keys.create("ann", "worker", None, None)
    await auth.users.remove("ann")
    await auth.users.add("ann", PASSWORD, Role.ADMIN, ())
    for service in (auth, await world.begin()):
        assert ended(service, pair.access_token, secret)
        assert service.keys.find(key.id) is None
        with pytest.raises(Unauthenticated):
            await service.refresh(pair.refresh_token)


async def test_sessions_from_before_generations_hold_until_the_first_change(world: World, auth: AuthService) -> None:
    """A database that schema 3 found: the user has no generation, and the id of the session does not end in one."""
    world.database.connection.execute("UPDATE users SET generation = '' WHERE username = 'ann'")
    old = await world.begin()
    pair = await old.login("ann", PASSWORD, ADDRESS)
    assert len(old.authenticate(pair.access_token).sid) == 32
    pair = await old.refresh(pair.refresh_token)
    await old.users.change("ann", password="another secret")
    assert ended(old, pair.access_token)


@pytest.mark.parametrize("attempt", ["remove", "disable", "demote"])
async def test_the_last_admin_who_can_log_in_stays(world: World, auth: AuthService, attempt: str) -> None:
    await auth.users.add("eve", "secret of eve", Role.ADMIN, ())
    await auth.users.change("eve", disabled=True)

    async def try_it() -> None:
        match attempt:
            case "remove":
                await auth.users.remove("admin")
            case "disable":
                await auth.users.change("admin", disabled=True)
            case _:
                await auth.users.change("admin", role=Role.MEMBER)

    with pytest.raises(Conflict, match="last admin"):
        await try_it()
    assert (await logged_in(auth, "admin", ROOT_PASSWORD)).role is Role.ADMIN
    await auth.users.change("admin", password="another secret", grants=GRANTS)
    await auth.users.change("eve", disabled=False)
    await try_it()


async def test_of_two_admins_who_remove_each_other_at_once_one_stays(world: World, auth: AuthService) -> None:
    await auth.users.add("eve", "secret of eve", Role.ADMIN, ())
    answers = await asyncio.gather(auth.users.remove("eve"), auth.users.remove("admin"), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "NoneType"]
    assert world.database.count("users WHERE role = 'admin'") == 1


async def test_two_changes_at_once_both_hold(world: World, auth: AuthService) -> None:
    await asyncio.gather(auth.users.change("ann", role=Role.ADMIN), auth.users.change("ann", grants=()))
    for service in (auth, await world.begin()):
        account = service.users.find("ann")
        assert account is not None
        assert (account.role, account.grants) == (Role.ADMIN, ())


async def test_a_change_whose_caller_left_is_known_in_memory_too(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, ADDRESS)
    world.database.gate.clear()
    change = asyncio.create_task(auth.users.change("ann", disabled=True))
    await asyncio.sleep(0)
    change.cancel()
    await asyncio.gather(change, return_exceptions=True)
    world.database.gate.set()
    await auth.close()
    assert ended(auth, pair.access_token)


async def test_who_is_not_there_is_neither_changed_nor_removed(auth: AuthService) -> None:
    with pytest.raises(NotFound):
        await auth.users.change("nobody", disabled=True)
    with pytest.raises(NotFound):
        await auth.users.remove("nobody")


async def test_users_are_listed_by_name(auth: AuthService) -> None:
    await auth.users.add("Zoe", "secret of zoe", Role.MEMBER, ())
    assert [account.username for account in auth.users.page("", 2)] == ["Zoe", "admin"]
    assert [account.username for account in auth.users.page("admin", 9)] == ["ann"]
