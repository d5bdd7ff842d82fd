"""Logging in, proving who one is, logging out."""

from __future__ import annotations

import asyncio

import jwt
import pytest
from argon2 import PasswordHasher

from streambroker.core.access import Action, Decision, Role, decide
from streambroker.core.errors import BrokerError, Invalid, RateLimited, Unauthenticated
from streambroker.transport.auth.keys import SigningKeys
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.service import AuthService
from streambroker.transport.auth.tokens import AccessTokens
from tests.transport.auth_world import (
    ACCESS_MS,
    ADDRESS,
    GRANTS,
    PASSWORD,
    START,
    Counting,
    Gated,
    Strict,
    World,
    ended,
    logged_in,
    refused,
)

# --- login


async def test_a_login_gives_a_bearer_pair(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "192.0.2.1")
    assert (pair.token_type, pair.expires_in) == ("bearer", 900)
    who = auth.authenticate(pair.access_token)
    assert (who.username, who.role, who.grants) == ("ann", Role.MEMBER, GRANTS)
    assert who.expires_at_ms == START + ACCESS_MS
    assert decide(who, Action.PUBLISH, "orders.eu") is Decision.ALLOW
    assert pair.access_token not in repr(pair)
    assert pair.refresh_token not in repr(pair)


async def test_an_unknown_user_and_a_wrong_password_are_told_the_same(auth: AuthService) -> None:
    """D10"""
    assert await refused(auth, "ann", "wrong") == await refused(auth, "nobody", PASSWORD)


async def test_every_failed_login_costs_one_hash_whatever_the_reason(world: World) -> None:
    """D10: the same work is the same time."""
    hasher = Counting()
    world.passwords = Passwords(hasher=hasher)
    auth = await world.begin()
    await auth.users.add("ann", PASSWORD, Role.MEMBER, ())
    await auth.users.add("bob", PASSWORD, Role.MEMBER, ())
    await auth.users.change("bob", disabled=True)
    for n, (username, password) in enumerate([("ann", "wrong"), ("nobody", PASSWORD), ("bob", PASSWORD), ("bob", "x")]):
        await refused(auth, username, password)
        assert hasher.verified == n + 1


async def test_a_failed_login_never_reaches_the_store(world: World, auth: AuthService) -> None:
    before = world.database.writes
    await refused(auth, "ann", "wrong")
    await refused(auth, "nobody", PASSWORD)
    assert world.database.writes == before


async def test_a_failed_login_logs_no_password(auth: AuthService, caplog: pytest.LogCaptureFixture) -> None:
    await refused(auth, "my-password-in-the-wrong-field", "hunter2")
    await refused(auth, "ann", "hunter2")
    assert "192.0.2.1" in caplog.text
    assert "'ann'" in caplog.text
    assert "hunter2" not in caplog.text
    assert "wrong-field" not in caplog.text


async def test_a_password_longer_than_1024_bytes_is_invalid(auth: AuthService) -> None:
    with pytest.raises(Invalid):
        await auth.login("ann", "x" * 1025, "::1")


async def test_a_disabled_user_is_told_what_a_wrong_password_is_told(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "::1")
    await auth.users.change("ann", disabled=True)
    for service in (auth, await world.begin()):
        assert await refused(service, "ann", PASSWORD) == await refused(service, "nobody", PASSWORD)
        assert ended(service, pair.access_token)
        with pytest.raises(Unauthenticated):
            await service.refresh(pair.refresh_token)


async def changed(auth: AuthService, end: str) -> None:
    match end:
        case "disable":
            await auth.users.change("ann", disabled=True)
        case "delete":
            await auth.users.remove("ann")
        case _:
            await auth.users.change("ann", password="another secret")


@pytest.mark.parametrize("end", ["disable", "delete", "change the password"])
async def test_a_user_that_is_changed_while_logging_in_does_not_get_in(
    auth: AuthService, world: World, end: str
) -> None:
    hasher = Gated()
    world.passwords.close()
    world.passwords = Passwords(hasher=hasher)
    auth = await world.begin()
    login = asyncio.create_task(auth.login("ann", PASSWORD, ADDRESS))
    await asyncio.to_thread(hasher.begun.wait, 10)
    await changed(auth, end)
    hasher.gate.set()
    with pytest.raises(Unauthenticated):
        await login


@pytest.mark.parametrize("end", ["disable", "delete", "change the password"])
async def test_a_session_that_is_stored_while_its_user_is_changed_is_none(
    auth: AuthService, world: World, end: str
) -> None:
    """The change is asked for once the login's session is on its way to the disk, and before it is there."""
    world.database.gate.clear()
    before = world.database.writes
    login = asyncio.create_task(auth.login("ann", PASSWORD, ADDRESS))
    await world.database.asked(before + 1)
    change = asyncio.create_task(changed(auth, end))
    await world.database.asked(before + 2)
    world.database.gate.set()
    await change
    try:
        pair = await login
    except Unauthenticated:
        return
    assert ended(auth, pair.access_token)


async def test_two_logins_at_once_after_the_parameters_rose_both_get_in(world: World, auth: AuthService) -> None:
    """D11"""
    stronger = World(database=world.database, clock=world.clock)
    stronger.passwords.close()
    stronger.passwords = Passwords(hasher=PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    restarted = await stronger.begin()
    old = restarted.users._users["ann"].password_hash
    assert all(await asyncio.gather(*(restarted.login("ann", PASSWORD, "::1") for _ in range(4))))
    new = restarted.users._users["ann"].password_hash
    assert new != old
    assert not stronger.passwords.needs_rehash(new)
    await restarted.login("ann", PASSWORD, "::1")
    assert (await stronger.begin()).users._users["ann"].password_hash == new
    stronger.passwords.close()


async def test_the_guard_is_asked_first_and_hears_how_it_ended(world: World) -> None:
    guard = world.guard = Strict()
    auth = await world.begin()
    await auth.users.first_start("secret")
    await refused(auth, "admin", "wrong")
    with pytest.raises(RateLimited):
        await auth.login("admin", "secret", "192.0.2.1")
    await auth.login("admin", "secret", "192.0.2.2")
    assert guard.failures == [("admin", "192.0.2.1")]
    assert guard.successes == [("admin", "192.0.2.2")]
    await auth.users.add("ann", PASSWORD, Role.MEMBER, ())
    await auth.users.change("ann", disabled=True)
    await refused(auth, "ann", PASSWORD)
    assert guard.failures[1:] == [("ann", "192.0.2.1")]
    assert guard.given_back == []


@pytest.mark.parametrize(("password", "refusal"), [(PASSWORD, RateLimited), ("x" * 1_025, Invalid)])
async def test_a_try_whose_password_nobody_looked_at_is_given_back(
    world: World, password: str, refusal: type[BrokerError]
) -> None:
    guard, gated = Strict(), Gated()
    world.passwords.close()
    world.guard, world.passwords = guard, Passwords(threads=1, waiting=0, hasher=gated)
    auth = await world.begin()
    first = asyncio.create_task(world.passwords.verify(None, "of somebody else"))
    await asyncio.to_thread(gated.begun.wait, 10)
    with pytest.raises(refusal):
        await auth.login("ann", password, ADDRESS)
    gated.gate.set()
    await first
    assert (guard.given_back, guard.failures) == ([("ann", ADDRESS)], [])


# --- authenticate


async def test_a_token_seen_before_is_not_verified_again(auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "::1")
    assert auth.authenticate(pair.access_token) is auth.authenticate(pair.access_token)


async def test_a_cached_token_expires_all_the_same(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "::1")
    auth.authenticate(pair.access_token)
    world.clock.ms += ACCESS_MS - 1
    auth.authenticate(pair.access_token)
    world.clock.ms += 1
    with pytest.raises(Unauthenticated, match="expired"):
        auth.authenticate(pair.access_token)


async def test_a_token_survives_a_restart(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "::1")
    assert (await world.begin()).authenticate(pair.access_token).username == "ann"


async def test_a_refresh_token_is_no_access_token_and_back(auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "::1")
    with pytest.raises(Unauthenticated):
        auth.authenticate(pair.refresh_token)
    with pytest.raises(Unauthenticated):
        await auth.refresh(pair.access_token)


async def test_a_well_signed_token_of_a_user_that_does_not_exist_is_refused(auth: AuthService) -> None:
    token = AccessTokens(SigningKeys(b"k" * 32), lifetime_ms=ACCESS_MS).issue("ghost", "s", "j", START)
    with pytest.raises(Unauthenticated):
        auth.authenticate(token)


# --- logout


async def test_a_logout_counts_before_it_is_on_disk(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "::1")
    who = auth.authenticate(pair.access_token)
    world.database.gate.clear()
    logout = asyncio.create_task(auth.logout(who))
    await asyncio.sleep(0)
    assert world.changed == ["ann"]
    with pytest.raises(Unauthenticated):
        auth.authenticate(pair.access_token)
    assert not logout.done()
    world.database.gate.set()
    await logout
    with pytest.raises(Unauthenticated):
        await auth.refresh(pair.refresh_token)


async def test_a_logout_survives_a_restart_and_ends_only_its_own_session(world: World, auth: AuthService) -> None:
    gone, kept = [await auth.login("ann", PASSWORD, "::1") for _ in range(2)]
    await auth.logout(auth.authenticate(gone.access_token))
    restarted = await world.begin()
    with pytest.raises(Unauthenticated):
        restarted.authenticate(gone.access_token)
    restarted.authenticate(kept.access_token)


async def test_a_second_logout_of_a_session_tells_nobody_again(world: World, auth: AuthService) -> None:
    who = auth.authenticate((await auth.login("ann", PASSWORD, "::1")).access_token)
    await auth.logout(who)
    await auth.logout(who)
    assert world.changed == ["ann"]


async def test_a_listener_that_fails_does_not_keep_the_others_from_hearing(world: World, auth: AuthService) -> None:
    heard: list[str] = []

    def fail(_: str) -> None:
        raise RuntimeError("broken")

    auth.on_changed(fail)
    auth.on_changed(heard.append)
    silent: list[str] = []
    auth.on_changed(silent.append)()
    who = auth.authenticate((await auth.login("ann", PASSWORD, "::1")).access_token)
    await auth.logout(who)
    assert heard == world.changed == ["ann"]
    assert silent == []


async def test_what_is_remembered_of_revoked_sessions_is_forgotten_in_time(world: World, auth: AuthService) -> None:
    for _ in range(5):
        await auth.logout(auth.authenticate((await auth.login("ann", PASSWORD, "::1")).access_token))
    world.clock.ms += 2 * ACCESS_MS
    await auth.logout(auth.authenticate((await auth.login("ann", PASSWORD, "::1")).access_token))
    assert len(auth._revoked) == 1
    assert len((await world.begin())._revoked) == 1


def test_the_tokens_of_the_contract_are_plain_jwts() -> None:
    token = AccessTokens(SigningKeys(b"k" * 32), lifetime_ms=ACCESS_MS).issue("ann", "s", "j", START)
    assert set(jwt.decode(token, options={"verify_signature": False})) == {
        "iss",
        "aud",
        "sub",
        "sid",
        "jti",
        "iat",
        "exp",
    }


# --- who is it by now


async def test_a_principal_is_still_the_same_where_nothing_has_changed(auth: AuthService) -> None:
    who = await logged_in(auth)
    assert auth.still(who) is who
    await auth.users.change("admin", grants=GRANTS)
    assert auth.still(who) is who


async def test_a_principal_has_its_new_rights_and_its_old_end(world: World, auth: AuthService) -> None:
    who = await logged_in(auth)
    world.clock.ms += 1_000
    await auth.users.change("ann", role=Role.ADMIN)
    now = auth.still(who)
    assert now is not None
    assert (now.role, now.sid, now.jti, now.expires_at_ms) == (Role.ADMIN, who.sid, who.jti, who.expires_at_ms)
    await auth.users.change("ann", role=Role.MEMBER, grants=())
    assert (after := auth.still(now)) is not None
    assert decide(after, Action.PUBLISH, "orders.eu") is Decision.HIDDEN


@pytest.mark.parametrize("end", ["logout", "disable", "delete", "password", "disable and enable", "make anew"])
async def test_a_principal_is_nobody_once_its_session_has_ended(auth: AuthService, end: str) -> None:
    """D6"""
    who = await logged_in(auth)
    match end:
        case "logout":
            await auth.logout(who)
        case "disable":
            await auth.users.change("ann", disabled=True)
        case "disable and enable":
            await auth.users.change("ann", disabled=True)
            await auth.users.change("ann", disabled=False)
        case "password":
            await auth.users.change("ann", password="another secret")
        case "delete":
            await auth.users.remove("ann")
        case _:
            await auth.users.remove("ann")
            await auth.users.add("ann", PASSWORD, Role.MEMBER, GRANTS)
    assert auth.still(who) is None
