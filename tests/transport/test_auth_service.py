"""Sessions from login to logout, on a real database in memory and a clock that stands still."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import jwt
import pytest
from argon2 import PasswordHasher

from streambroker.core.access import Action, Decision, Grant, Role, decide
from streambroker.core.errors import ConfigError, Conflict, Invalid, RateLimited, RefreshRaced, Unauthenticated
from streambroker.store.sql.accounts import Account, Accounts, RefreshToken, Run, Session, Verdict
from streambroker.store.sql.connection import migrations
from streambroker.transport.auth.keys import SigningKeys
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.service import AuthService, LoginGuard
from streambroker.transport.auth.tokens import AccessTokens

T = TypeVar("T")
START = 1_800_000_000_000
ACCESS_MS, REFRESH_MS = 900_000, 30 * 86_400_000
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
GRANTS = (Grant("orders.*", (Action.PUBLISH,)),)


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        answer = work(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return answer


def opened(path: str | Path = ":memory:") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    for _, script in migrations():
        connection.executescript(script)
    return connection


@dataclass
class Database:
    """A store that commits when its gate is open."""

    connection: sqlite3.Connection = field(default_factory=opened)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    writes: int = 0

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.writes += 1
        await self.gate.wait()
        return transact(self.connection, work)

    def count(self, sql: str) -> int:
        number: int = self.connection.execute("SELECT count(*) FROM " + sql).fetchone()[0]
        return number


@dataclass
class Clock:
    ms: int = START

    def __call__(self) -> int:
        return self.ms


@dataclass
class World:
    """A broker's authentication, and what a test turns on it."""

    database: Database = field(default_factory=Database)
    clock: Clock = field(default_factory=Clock)
    passwords: Passwords = field(default_factory=lambda: Passwords(hasher=CHEAP))
    revoked: list[str] = field(default_factory=list)
    guard: LoginGuard | None = None

    async def begin(self) -> AuthService:
        self.database.gate.set()
        tokens = AccessTokens(SigningKeys(b"k" * 32), lifetime_ms=ACCESS_MS)
        auth = AuthService(
            Accounts(self.database.run),
            self.passwords,
            tokens,
            refresh_token_ms=REFRESH_MS,
            clock=self.clock,
            guard=self.guard,
        )
        await auth.start()
        auth.on_revoked(self.revoked.append)
        return auth


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.passwords.close()
    world.database.connection.close()


@pytest.fixture
async def auth(world: World) -> AuthService:
    auth = await world.begin()
    await auth.first_start("secret")
    await auth.add_user("ann", "pass", Role.MEMBER, GRANTS)
    return auth


async def refused(auth: AuthService, username: str, password: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await auth.login(username, password, "192.0.2.1")
    return caught.value.detail


# --- the first start


async def test_the_first_start_makes_an_admin_whose_password_is_told_once(world: World) -> None:
    auth = await world.begin()
    password = await auth.first_start(None)
    assert password is not None
    assert len(password) >= 32
    pair = await auth.login("admin", password, "::1")
    assert auth.authenticate(pair.access_token).role is Role.ADMIN
    assert await auth.first_start(None) is None
    assert await (await world.begin()).first_start(None) is None
    assert world.database.count("users") == 1


async def test_two_first_starts_have_different_passwords_and_no_default_one_exists() -> None:
    worlds = [World(), World()]
    services = [await world.begin() for world in worlds]
    first, second = [await auth.first_start(None) for auth in services]
    assert first != second
    for password in ("admin", "", "password"):
        await refused(services[0], "admin", password)
    for world in worlds:
        world.passwords.close()
        world.database.connection.close()


async def test_a_given_first_password_is_taken_and_not_told(world: World) -> None:
    auth = await world.begin()
    assert await auth.first_start("from the environment") is None
    await auth.login("admin", "from the environment", "::1")


async def test_a_given_password_changes_nothing_once_there_are_users(auth: AuthService) -> None:
    assert await auth.first_start("another") is None
    await refused(auth, "admin", "another")


async def test_an_empty_first_password_is_none(world: World) -> None:
    assert await (await world.begin()).first_start("")


@pytest.mark.parametrize("password", ["x" * 1025, "\udcff"])
async def test_a_first_password_that_cannot_be_one_refuses_to_start(world: World, password: str) -> None:
    with pytest.raises(ConfigError):
        await (await world.begin()).first_start(password)


# --- login


async def test_a_login_gives_a_bearer_pair(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "192.0.2.1")
    assert (pair.token_type, pair.expires_in) == ("bearer", 900)
    who = auth.authenticate(pair.access_token)
    assert (who.username, who.role, who.grants) == ("ann", Role.MEMBER, GRANTS)
    assert who.expires_at_ms == START + ACCESS_MS
    assert decide(who, Action.PUBLISH, "orders.eu") is Decision.ALLOW
    assert pair.access_token not in repr(pair)
    assert pair.refresh_token not in repr(pair)


async def test_an_unknown_user_and_a_wrong_password_are_told_the_same(auth: AuthService) -> None:
    assert await refused(auth, "ann", "wrong") == await refused(auth, "nobody", "pass")


class Counting(PasswordHasher):
    """Counts what it verifies."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        self.verified += 1
        return super().verify(hash, password)


async def test_every_failed_login_costs_one_hash_whatever_the_reason(world: World) -> None:
    hasher = Counting()
    world.passwords = Passwords(hasher=hasher)
    auth = await world.begin()
    await auth.add_user("ann", "pass", Role.MEMBER, ())
    await auth.add_user("bob", "pass", Role.MEMBER, ())
    auth._users["bob"] = replace(auth._users["bob"], disabled=True)
    for n, (username, password) in enumerate([("ann", "wrong"), ("nobody", "pass"), ("bob", "pass"), ("bob", "x")]):
        await refused(auth, username, password)
        assert hasher.verified == n + 1


async def test_a_failed_login_never_reaches_the_store(world: World, auth: AuthService) -> None:
    before = world.database.writes
    await refused(auth, "ann", "wrong")
    await refused(auth, "nobody", "pass")
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


def disable(world: World, username: str) -> None:
    world.database.connection.execute("UPDATE users SET disabled = 1 WHERE username = ?", (username,))


async def test_a_disabled_user_is_told_what_a_wrong_password_is_told(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "::1")
    disable(world, "ann")
    restarted = await world.begin()
    assert await refused(restarted, "ann", "pass") == await refused(restarted, "nobody", "pass")
    with pytest.raises(Unauthenticated):
        restarted.authenticate(pair.access_token)
    with pytest.raises(Unauthenticated):
        await restarted.refresh(pair.refresh_token)


async def test_a_user_disabled_while_the_hash_is_computed_does_not_get_in(world: World, auth: AuthService) -> None:
    login = asyncio.create_task(auth.login("ann", "pass", "::1"))
    await asyncio.sleep(0)
    auth._users["ann"] = replace(auth._users["ann"], disabled=True)
    with pytest.raises(Unauthenticated):
        await login


async def test_two_logins_at_once_after_the_parameters_rose_both_get_in(world: World, auth: AuthService) -> None:
    stronger = World(database=world.database, clock=world.clock)
    stronger.passwords.close()
    stronger.passwords = Passwords(hasher=PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    restarted = await stronger.begin()
    old = restarted._users["ann"].password_hash
    assert all(await asyncio.gather(*(restarted.login("ann", "pass", "::1") for _ in range(4))))
    new = restarted._users["ann"].password_hash
    assert new != old
    assert not stronger.passwords.needs_rehash(new)
    await restarted.login("ann", "pass", "::1")
    assert (await stronger.begin())._users["ann"].password_hash == new
    stronger.passwords.close()


class Strict:
    """A guard that admits one failure."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def admit(self, username: str, address: str) -> None:
        if (username, address) in self.failures:
            raise RateLimited("slower", retry_after_ms=1_000)

    def failed(self, username: str, address: str) -> None:
        self.failures.append((username, address))


async def test_the_guard_is_asked_first_and_hears_of_failures(world: World) -> None:
    world.guard = Strict()
    auth = await world.begin()
    await auth.first_start("secret")
    await refused(auth, "admin", "wrong")
    with pytest.raises(RateLimited):
        await auth.login("admin", "secret", "192.0.2.1")
    await auth.login("admin", "secret", "192.0.2.2")


async def test_a_name_is_given_once(auth: AuthService) -> None:
    with pytest.raises(Conflict):
        await auth.add_user("ann", "other", Role.ADMIN, ())
    await auth.login("ann", "pass", "::1")


async def test_users_and_grants_survive_a_restart(world: World, auth: AuthService) -> None:
    restarted = await world.begin()
    pair = await restarted.login("ann", "pass", "::1")
    assert restarted.authenticate(pair.access_token).grants == GRANTS


# --- authenticate


async def test_a_token_seen_before_is_not_verified_again(auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "::1")
    assert auth.authenticate(pair.access_token) is auth.authenticate(pair.access_token)


async def test_a_cached_token_expires_all_the_same(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "::1")
    auth.authenticate(pair.access_token)
    world.clock.ms += ACCESS_MS - 1
    auth.authenticate(pair.access_token)
    world.clock.ms += 1
    with pytest.raises(Unauthenticated, match="expired"):
        auth.authenticate(pair.access_token)


async def test_a_token_survives_a_restart(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "::1")
    assert (await world.begin()).authenticate(pair.access_token).username == "ann"


async def test_a_refresh_token_is_no_access_token_and_back(auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "::1")
    with pytest.raises(Unauthenticated):
        auth.authenticate(pair.refresh_token)
    with pytest.raises(Unauthenticated):
        await auth.refresh(pair.access_token)


async def test_a_well_signed_token_of_a_user_that_does_not_exist_is_refused(auth: AuthService) -> None:
    token = AccessTokens(SigningKeys(b"k" * 32), lifetime_ms=ACCESS_MS).issue("ghost", "s", "j", START)
    with pytest.raises(Unauthenticated):
        auth.authenticate(token)


# --- refresh


async def test_a_refresh_gives_a_new_pair_of_the_same_session(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", "pass", "::1")
    second = await auth.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    before, after = auth.authenticate(first.access_token), auth.authenticate(second.access_token)
    assert before.sid == after.sid
    assert before.jti != after.jti
    assert (await auth.refresh(second.refresh_token)).access_token


async def test_refresh_tokens_are_not_in_the_database(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "::1")
    dump = "\n".join(world.database.connection.iterdump())
    assert pair.refresh_token not in dump
    assert pair.access_token not in dump


async def test_a_used_refresh_token_again_ends_the_whole_session(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", "pass", "::1")
    second = await auth.refresh(first.refresh_token)
    sid = auth.authenticate(second.access_token).sid
    world.clock.ms += 10_000
    with pytest.raises(Unauthenticated):
        await auth.refresh(first.refresh_token)
    assert world.revoked == [sid]
    for token in (first.access_token, second.access_token):
        with pytest.raises(Unauthenticated):
            auth.authenticate(token)
    with pytest.raises(Unauthenticated):
        await auth.refresh(second.refresh_token)
    with pytest.raises(Unauthenticated):
        (await world.begin()).authenticate(second.access_token)


async def test_another_session_of_the_same_user_goes_on(world: World, auth: AuthService) -> None:
    stolen, other = [await auth.login("ann", "pass", "::1") for _ in range(2)]
    await auth.refresh(stolen.refresh_token)
    world.clock.ms += 10_000
    with pytest.raises(Unauthenticated):
        await auth.refresh(stolen.refresh_token)
    auth.authenticate(other.access_token)
    await auth.refresh(other.refresh_token)


@pytest.mark.parametrize("later", [0, 1, 9_999])
async def test_a_second_refresh_within_ten_seconds_lost_a_race_and_revokes_nothing(
    world: World, auth: AuthService, later: int
) -> None:
    first = await auth.login("ann", "pass", "::1")
    second = await auth.refresh(first.refresh_token)
    world.clock.ms += later
    with pytest.raises(RefreshRaced):
        await auth.refresh(first.refresh_token)
    assert world.revoked == []
    auth.authenticate(second.access_token)
    await auth.refresh(second.refresh_token)


async def test_a_replay_after_the_clock_stepped_back_is_a_replay(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", "pass", "::1")
    await auth.refresh(first.refresh_token)
    world.clock.ms -= 3_600_000
    with pytest.raises(Unauthenticated):
        await auth.refresh(first.refresh_token)
    assert len(world.revoked) == 1


async def test_of_many_refreshes_at_once_exactly_one_wins(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", "pass", "::1")
    world.database.gate.clear()
    tasks = [asyncio.create_task(auth.refresh(first.refresh_token)) for _ in range(20)]
    await asyncio.sleep(0)
    world.database.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    winners = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(winners) == 1
    assert sum(isinstance(answer, RefreshRaced) for answer in answers) == 19
    auth.authenticate(winners[0].access_token)
    assert world.database.count("refresh_tokens") == 2


async def test_a_refresh_token_ends_by_itself_and_each_new_one_starts_its_time_anew(
    world: World, auth: AuthService
) -> None:
    first = await auth.login("ann", "pass", "::1")
    world.clock.ms += REFRESH_MS - 1
    second = await auth.refresh(first.refresh_token)
    world.clock.ms += REFRESH_MS
    with pytest.raises(Unauthenticated):
        await auth.refresh(second.refresh_token)
    assert world.revoked == []


@pytest.mark.parametrize("token", ["", "sbr_", "sbr_" + "A" * 43, "x" * 1_000_000, "\ud800"])
async def test_what_is_no_refresh_token_is_refused(auth: AuthService, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await auth.refresh(token)


async def test_a_thief_who_hangs_up_does_not_save_the_session(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", "pass", "::1")
    second = await auth.refresh(first.refresh_token)
    world.clock.ms += 10_000
    world.database.gate.clear()
    replay = asyncio.create_task(auth.refresh(first.refresh_token))
    await asyncio.sleep(0)
    replay.cancel()
    await asyncio.gather(replay, return_exceptions=True)
    world.database.gate.set()
    await auth.close()
    with pytest.raises(Unauthenticated):
        auth.authenticate(second.access_token)
    assert len(world.revoked) == 1


# --- logout


async def test_a_logout_counts_before_it_is_on_disk(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", "pass", "::1")
    who = auth.authenticate(pair.access_token)
    world.database.gate.clear()
    logout = asyncio.create_task(auth.logout(who))
    await asyncio.sleep(0)
    assert world.revoked == [who.sid]
    with pytest.raises(Unauthenticated):
        auth.authenticate(pair.access_token)
    assert not logout.done()
    world.database.gate.set()
    await logout
    with pytest.raises(Unauthenticated):
        await auth.refresh(pair.refresh_token)


async def test_a_logout_survives_a_restart_and_ends_only_its_own_session(world: World, auth: AuthService) -> None:
    gone, kept = [await auth.login("ann", "pass", "::1") for _ in range(2)]
    await auth.logout(auth.authenticate(gone.access_token))
    restarted = await world.begin()
    with pytest.raises(Unauthenticated):
        restarted.authenticate(gone.access_token)
    restarted.authenticate(kept.access_token)


async def test_a_second_logout_of_a_session_tells_nobody_again(world: World, auth: AuthService) -> None:
    who = auth.authenticate((await auth.login("ann", "pass", "::1")).access_token)
    await auth.logout(who)
    await auth.logout(who)
    assert world.revoked == [who.sid]


async def test_a_listener_that_fails_does_not_keep_the_others_from_hearing(world: World, auth: AuthService) -> None:
    heard: list[str] = []

    def fail(_: str) -> None:
        raise RuntimeError("broken")

    auth.on_revoked(fail)
    auth.on_revoked(heard.append)
    silent: list[str] = []
    auth.on_revoked(silent.append)()
    who = auth.authenticate((await auth.login("ann", "pass", "::1")).access_token)
    await auth.logout(who)
    assert heard == world.revoked == [who.sid]
    assert silent == []


async def test_what_is_remembered_of_revoked_sessions_is_forgotten_in_time(world: World, auth: AuthService) -> None:
    for _ in range(5):
        await auth.logout(auth.authenticate((await auth.login("ann", "pass", "::1")).access_token))
    world.clock.ms += 2 * ACCESS_MS
    await auth.logout(auth.authenticate((await auth.login("ann", "pass", "::1")).access_token))
    assert len(auth._revoked) == 1
    assert len((await world.begin())._revoked) == 1


async def test_expired_sessions_and_tokens_leave_the_database(world: World, auth: AuthService) -> None:
    for _ in range(20):
        pair = await auth.login("ann", "pass", "::1")
        await auth.refresh(pair.refresh_token)
    world.clock.ms += REFRESH_MS
    for _ in range(2):
        await auth.login("ann", "pass", "::1")
    assert world.database.count("sessions") == 2
    assert world.database.count("refresh_tokens") == 2


# --- the store by itself


def immediate(connection: sqlite3.Connection) -> Run:
    async def run(work: Callable[[sqlite3.Connection], T]) -> T:
        return transact(connection, work)

    return run


async def test_threads_with_a_connection_each_rotate_one_token_once(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    with closing(opened(path)) as connection:
        accounts = Accounts(immediate(connection))
        await accounts.add(Account("ann", "hash", Role.MEMBER, GRANTS, disabled=False, created_at=0, updated_at=0))
        await accounts.open_session(Session("s", "ann", 0, 1_000), RefreshToken(b"first", 1_000))

    def rotate(n: int) -> Verdict:
        token = RefreshToken(f"next-{n}".encode(), 1_000)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            rotation = Accounts(immediate(connection)).rotate(
                b"first", token, session_expires_at=1_000, race_ms=10, now=5
            )
            return asyncio.run(rotation).verdict

    verdicts = await asyncio.gather(*(asyncio.to_thread(rotate, n) for n in range(8)))
    assert verdicts.count(Verdict.ROTATED) == 1
    assert verdicts.count(Verdict.RACED) == 7


def test_every_where_clause_of_the_sessions_uses_an_index() -> None:
    connection = opened()
    for sql in (
        "SELECT sid FROM sessions WHERE revoked_at > 1 ORDER BY revoked_at",
        "SELECT sid FROM sessions WHERE expires_at <= 1 ORDER BY expires_at LIMIT 32",
        "SELECT digest FROM refresh_tokens WHERE expires_at <= 1 ORDER BY expires_at LIMIT 32",
    ):
        plan = connection.execute("EXPLAIN QUERY PLAN " + sql).fetchall()
        assert [row[3] for row in plan if row[3].startswith("SCAN") or "TEMP" in row[3]] == []


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
