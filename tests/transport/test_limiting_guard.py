"""Who guesses passwords waits longer and longer, and nobody can lock a user out (D9)."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import TypeVar

import limits
import pytest

from streambroker.core.errors import RateLimited, StorageFull
from streambroker.store.sql.connection import migrations
from streambroker.store.sql.login_failures import LoginFailures
from streambroker.transport.limiting import Guard
from streambroker.transport.limiting.guard import FORGET_MS, MAX_DELAY_MS, MAX_ENTRIES
from tests.broker.virtual import clock as virtual_clock
from tests.broker.virtual import in_virtual_time, turns

T = TypeVar("T")
START = 1_800_000_000_000
TEN = limits.parse("10/minute")
HERE, THERE = "192.0.2.1", "198.51.100.1"


class Clock:
    def __init__(self) -> None:
        self.ms = START

    def __call__(self) -> int:
        return self.ms


class Database:
    """A store that counts its transactions, and can be full."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for _, script in migrations():
            self.connection.executescript(script)
        self.transactions = 0
        self.full = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.transactions += 1
        if self.full:
            raise StorageFull("the disk has no room")
        self.connection.execute("BEGIN IMMEDIATE")
        answer = work(self.connection)
        self.connection.execute("COMMIT")
        return answer

    def rows(self) -> int:
        number: int = self.connection.execute("SELECT count(*) FROM login_failures").fetchone()[0]
        return number


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    return Guard(TEN, LoginFailures(Database().run), clock)


def wait_ms(guard: Guard, username: str, address: str) -> int:
    """How long a login is told to wait; 0 when it may be tried."""
    try:
        guard.admit(username, address)
    except RateLimited as error:
        return error.retry_after_ms or -1
    return 0


def guess(guard: Guard, username: str = "ann", address: str = HERE, times: int = 1) -> None:
    for _ in range(times):
        guard.failed(username, address)


# --- one network


def test_after_ten_failures_every_login_from_that_network_waits_whoever_it_is(guard: Guard) -> None:
    for number in range(9):
        guess(guard, f"user{number}")
    assert wait_ms(guard, "ann", HERE) == 0
    guess(guard, "user9")
    assert wait_ms(guard, "ann", HERE) == 2_000
    assert wait_ms(guard, "ann", THERE) == 0


def test_the_delay_doubles_with_each_failure_up_to_a_quarter_of_an_hour(guard: Guard, clock: Clock) -> None:
    guess(guard, times=9)
    delays = []
    for _ in range(12):
        guess(guard)
        delays.append(wait_ms(guard, "ann", HERE))
        clock.ms += delays[-1]
    assert delays == [2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, *[MAX_DELAY_MS] * 3]


def test_who_waited_may_try_once_and_the_next_waits_for_how_it_ends(guard: Guard, clock: Clock) -> None:
    guess(guard, times=10)
    clock.ms += 2_000
    assert wait_ms(guard, "ann", HERE) == 0
    assert wait_ms(guard, "ann", HERE) == 2_000
    assert wait_ms(guard, "bob", HERE) == 2_000


def test_a_try_that_was_none_is_given_back(guard: Guard, clock: Clock) -> None:
    guess(guard, times=10)
    clock.ms += 2_000
    guard.admit("ann", HERE)()
    give_back = guard.admit("ann", HERE)
    guess(guard, "bob")
    give_back()  # what bob failed at meanwhile stays
    assert wait_ms(guard, "ann", HERE) == 4_000


def test_a_good_login_lets_the_next_one_try_but_the_network_stays_suspect(guard: Guard, clock: Clock) -> None:
    guess(guard, times=10)
    clock.ms += 2_000
    guard.admit("bob", HERE)
    guard.succeeded("bob", HERE)
    assert wait_ms(guard, "ann", HERE) == 0
    guess(guard)
    assert wait_ms(guard, "ann", HERE) == 4_000


def test_failures_further_apart_than_the_window_do_not_add_up(guard: Guard, clock: Clock) -> None:
    for _ in range(5):
        guess(guard, times=9)
        clock.ms += 60_000
    assert wait_ms(guard, "ann", HERE) == 0


def test_an_ipv6_network_is_one_however_many_addresses_it_uses(guard: Guard) -> None:
    for number in range(10):
        guess(guard, f"user{number}", f"2001:db8::{number}")
    assert wait_ms(guard, "ann", "2001:db8::ffff") == 2_000
    assert wait_ms(guard, "ann", "2001:db8:0:1::") == 0


# --- one user


def test_guesses_from_a_thousand_networks_do_not_lock_the_owner_out(guard: Guard) -> None:
    for number in range(1_000):
        guess(guard, "ann", f"10.0.{number >> 8}.{number & 255}")
    assert wait_ms(guard, "ann", HERE) == 0
    guard.succeeded("ann", HERE)
    assert wait_ms(guard, "ann", HERE) == 0


def test_a_network_that_failed_for_a_user_under_attack_waits_for_that_user_only(guard: Guard, clock: Clock) -> None:
    for number in range(10):
        guess(guard, "ann", f"10.0.0.{number}")
    assert wait_ms(guard, "ann", "10.0.0.3") == 2_000
    assert wait_ms(guard, "bob", "10.0.0.3") == 0
    clock.ms += 2_000
    assert wait_ms(guard, "ann", "10.0.0.3") == 0
    guess(guard, "ann", "10.0.0.3")
    assert wait_ms(guard, "ann", "10.0.0.3") == 4_000


def test_an_owner_who_mistypes_once_under_attack_waits_two_seconds_however_long_it_goes_on(
    guard: Guard, clock: Clock
) -> None:
    for number in range(500):
        guess(guard, "ann", f"10.0.{number >> 8}.{number & 255}")
    guess(guard, "ann", HERE)
    for number in range(500):
        guess(guard, "ann", f"10.1.{number >> 8}.{number & 255}")
    assert wait_ms(guard, "ann", HERE) == 2_000


def test_without_an_attack_a_few_wrong_tries_of_ones_own_delay_nothing(guard: Guard) -> None:
    guess(guard, times=9)
    assert wait_ms(guard, "ann", HERE) == 0


def test_a_good_login_clears_what_its_network_failed_at_for_that_user(guard: Guard) -> None:
    guess(guard, "ann", HERE, times=3)
    guard.succeeded("ann", HERE)
    for number in range(10):
        guess(guard, "ann", f"10.0.0.{number}")
    assert wait_ms(guard, "ann", HERE) == 0


# --- time, bounds, and being off


def test_an_hour_without_failures_forgets(guard: Guard, clock: Clock) -> None:
    guess(guard, times=15)
    clock.ms += FORGET_MS - 1
    guard.admit("ann", HERE)
    guess(guard)
    assert wait_ms(guard, "ann", HERE) == 128_000
    clock.ms += FORGET_MS
    guess(guard, times=9)
    assert wait_ms(guard, "ann", HERE) == 0


def test_an_hour_without_failures_forgets_an_attack_on_a_user(guard: Guard, clock: Clock) -> None:
    for number in range(10):
        guess(guard, "ann", f"10.0.0.{number}")
    clock.ms += FORGET_MS
    guess(guard, "ann", HERE)
    assert wait_ms(guard, "ann", HERE) == 0


async def test_off_delays_nobody_and_stores_nothing(database: Database, clock: Clock) -> None:
    guard = Guard(None, LoginFailures(database.run), clock)
    await guard.start()
    guess(guard, times=100)
    guard.succeeded("ann", HERE)
    assert wait_ms(guard, "ann", HERE) == 0
    await guard.close()
    assert database.transactions == 0


@in_virtual_time
async def test_at_most_ten_thousand_entries_are_kept_and_the_longest_unchanged_leave() -> None:
    database = Database()
    guard = Guard(TEN, LoginFailures(database.run), virtual_clock)
    await guard.start()
    for number in range(30_000):
        guess(guard, f"user{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        if number % 1_000 == 0:
            guess(guard, "ann", HERE, times=10)
    await guard.close()
    assert database.rows() == MAX_ENTRIES
    assert wait_ms(guard, "ann", HERE) > 0


@in_virtual_time
async def test_a_name_of_any_length_takes_sixteen_bytes_and_is_not_on_disk() -> None:
    database = Database()
    guard = Guard(TEN, LoginFailures(database.run), virtual_clock)
    await guard.start()
    guess(guard, "hunter2" * 10_000, HERE)
    guess(guard, "\ud800 no Unicode", "no address")
    await guard.close()
    stored = database.connection.execute("SELECT subject FROM login_failures").fetchall()
    assert {len(subject) for (subject,) in stored} == {16}
    assert not any(b"hunter2" in line.encode() for line in database.connection.iterdump())


@in_virtual_time
async def test_two_secrets_make_two_digests() -> None:
    stored = []
    for secret in (b"one", b"other"):
        database = Database()
        guard = Guard(TEN, LoginFailures(database.run), virtual_clock, secret)
        await guard.start()
        guess(guard)
        await guard.close()
        stored.append({row[0] for row in database.connection.execute("SELECT subject FROM login_failures")})
    assert not stored[0] & stored[1]


# --- storing


async def test_a_restart_forgives_nothing(database: Database, clock: Clock) -> None:
    first = Guard(TEN, LoginFailures(database.run), clock)
    await first.start()
    guess(first, times=12)
    for number in range(10):
        guess(first, "bob", f"10.0.0.{number}")
    await first.close()
    second = Guard(TEN, LoginFailures(database.run), clock)
    await second.start()
    assert wait_ms(second, "ann", HERE) == 8_000
    assert wait_ms(second, "bob", "10.0.0.3") == 2_000
    assert wait_ms(second, "bob", THERE) == 0
    await second.close()


async def test_a_start_forgets_and_deletes_what_is_an_hour_old(database: Database, clock: Clock) -> None:
    first = Guard(TEN, LoginFailures(database.run), clock)
    await first.start()
    guess(first, times=12)
    await first.close()
    clock.ms += FORGET_MS
    second = Guard(TEN, LoginFailures(database.run), clock)
    await second.start()
    assert wait_ms(second, "ann", HERE) == 0
    assert database.rows() == 0
    await second.close()


async def test_a_clock_set_back_between_two_starts_makes_no_delay_longer(database: Database, clock: Clock) -> None:
    first = Guard(TEN, LoginFailures(database.run), clock)
    await first.start()
    guess(first, times=12)
    await first.close()
    clock.ms -= 86_400_000
    second = Guard(TEN, LoginFailures(database.run), clock)
    await second.start()
    assert wait_ms(second, "ann", HERE) == 8_000
    clock.ms += FORGET_MS
    assert wait_ms(second, "ann", HERE) == 0
    guess(second)
    assert wait_ms(second, "ann", HERE) == 0
    await second.close()


@in_virtual_time
async def test_a_flood_of_failures_is_one_transaction_a_second() -> None:
    database = Database()
    guard = Guard(TEN, LoginFailures(database.run), virtual_clock)
    await guard.start()
    started = database.transactions
    for _ in range(100):  # for ten seconds
        guess(guard, times=50)
        await asyncio.sleep(0.1)
    assert 10 <= database.transactions - started <= 11
    await guard.close()


@in_virtual_time
async def test_without_failures_nothing_is_written() -> None:
    database = Database()
    guard = Guard(TEN, LoginFailures(database.run), virtual_clock)
    await guard.start()
    started = database.transactions
    guard.admit("ann", HERE)
    guard.succeeded("ann", HERE)
    await asyncio.sleep(60)
    await guard.close()
    assert database.transactions == started


@in_virtual_time
async def test_what_is_forgotten_or_cleared_leaves_the_table() -> None:
    database = Database()
    guard = Guard(TEN, LoginFailures(database.run), virtual_clock)
    await guard.start()
    guess(guard, "ann", HERE)
    await asyncio.sleep(2)
    assert database.rows() == 3
    guard.succeeded("ann", HERE)
    await asyncio.sleep(2)
    assert database.rows() == 2
    await asyncio.sleep(FORGET_MS / 1_000)
    guess(guard, "bob", THERE)
    await asyncio.sleep(2)
    assert database.rows() == 3
    await guard.close()


@in_virtual_time
async def test_on_a_full_disk_failures_count_and_are_stored_when_there_is_room() -> None:
    database = Database()
    guard = Guard(TEN, LoginFailures(database.run), virtual_clock)
    await guard.start()
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("streambroker.transport.limiting.guard")
    logger.addHandler(handler)
    database.full = True
    guess(guard, times=10)
    await asyncio.sleep(10)
    logger.removeHandler(handler)
    assert len(heard) == 1
    assert wait_ms(guard, "ann", HERE) == 0  # the delay of 2 s is over
    assert database.rows() == 0
    database.full = False
    await asyncio.sleep(2)
    assert database.rows() == 3
    await guard.close()


@in_virtual_time
async def test_closing_stores_what_came_last() -> None:
    database = Database()
    guard = Guard(TEN, LoginFailures(database.run), virtual_clock)
    await guard.start()
    guess(guard)
    await turns()
    guess(guard, "bob", THERE)  # within the second after a transaction
    await guard.close()
    assert database.rows() == 6
