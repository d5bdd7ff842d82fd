"""Refreshing a session, and what a stolen token comes to (D5)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from streambroker.core.access import Role
from streambroker.core.errors import RefreshRaced, Unauthenticated
from streambroker.store.sql.accounts import Account, Accounts, Run
from streambroker.store.sql.sessions import RefreshToken, Session, Sessions, Verdict
from streambroker.transport.auth.service import AuthService
from tests.transport.auth_world import GRANTS, PASSWORD, REFRESH_MS, World, opened, transact

T = TypeVar("T")


async def test_a_refresh_gives_a_new_pair_of_the_same_session(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", PASSWORD, "::1")
    second = await auth.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    before, after = auth.authenticate(first.access_token), auth.authenticate(second.access_token)
    assert before.sid == after.sid
    assert before.jti != after.jti
    assert (await auth.refresh(second.refresh_token)).access_token


async def test_refresh_tokens_are_not_in_the_database(world: World, auth: AuthService) -> None:
    pair = await auth.login("ann", PASSWORD, "::1")
    dump = "\n".join(world.database.connection.iterdump())
    assert pair.refresh_token not in dump
    assert pair.access_token not in dump


async def test_a_used_refresh_token_again_ends_the_whole_session(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", PASSWORD, "::1")
    second = await auth.refresh(first.refresh_token)
    world.clock.ms += 10_000
    with pytest.raises(Unauthenticated):
        await auth.refresh(first.refresh_token)
    assert world.changed == ["ann"]
    for token in (first.access_token, second.access_token):
        with pytest.raises(Unauthenticated):
            auth.authenticate(token)
    with pytest.raises(Unauthenticated):
        await auth.refresh(second.refresh_token)
    with pytest.raises(Unauthenticated):
        (await world.begin()).authenticate(second.access_token)


async def test_another_session_of_the_same_user_goes_on(world: World, auth: AuthService) -> None:
    stolen, other = [await auth.login("ann", PASSWORD, "::1") for _ in range(2)]
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
    first = await auth.login("ann", PASSWORD, "::1")
    second = await auth.refresh(first.refresh_token)
    world.clock.ms += later
    with pytest.raises(RefreshRaced):
        await auth.refresh(first.refresh_token)
    assert world.changed == []
    auth.authenticate(second.access_token)
    await auth.refresh(second.refresh_token)


async def test_a_replay_after_the_clock_stepped_back_is_a_replay(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", PASSWORD, "::1")
    await auth.refresh(first.refresh_token)
    world.clock.ms -= 3_600_000
    with pytest.raises(Unauthenticated):
        await auth.refresh(first.refresh_token)
    assert len(world.changed) == 1


async def test_of_many_refreshes_at_once_exactly_one_wins(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", PASSWORD, "::1")
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
    first = await auth.login("ann", PASSWORD, "::1")
    world.clock.ms += REFRESH_MS - 1
    second = await auth.refresh(first.refresh_token)
    world.clock.ms += REFRESH_MS
    with pytest.raises(Unauthenticated):
        await auth.refresh(second.refresh_token)
    assert world.changed == []


@pytest.mark.parametrize("token", ["", "sbr_", "sbr_" + "A" * 43, "x" * 1_000_000, "\ud800"])
async def test_what_is_no_refresh_token_is_refused(auth: AuthService, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await auth.refresh(token)


async def test_a_thief_who_hangs_up_does_not_save_the_session(world: World, auth: AuthService) -> None:
    first = await auth.login("ann", PASSWORD, "::1")
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
    assert len(world.changed) == 1


async def test_expired_sessions_and_tokens_leave_the_database(world: World, auth: AuthService) -> None:
    for _ in range(20):
        pair = await auth.login("ann", PASSWORD, "::1")
        await auth.refresh(pair.refresh_token)
    world.clock.ms += REFRESH_MS
    for _ in range(2):
        await auth.login("ann", PASSWORD, "::1")
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
        await Accounts(immediate(connection)).add(
            Account("ann", "hash", Role.MEMBER, GRANTS, disabled=False, created_at=0, updated_at=0)
        )
        await Sessions(immediate(connection)).open(Session("s", "ann", 0, 1_000), RefreshToken(b"first", 1_000))

    def rotate(n: int) -> Verdict:
        token = RefreshToken(f"next-{n}".encode(), 1_000)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            rotation = Sessions(immediate(connection)).rotate(
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
