"""Passwords: what is hashed, how many at a time, and what a stranger can learn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Literal

import pytest
from argon2 import PasswordHasher

from streambroker.core.errors import Invalid, RateLimited
from streambroker.transport.auth.passwords import Passwords, owasp_hasher

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class GatedHasher(PasswordHasher):
    """Computes nothing before the gate opens."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.verified = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        self.begun.set()
        assert self.gate.wait(60)
        self.verified += 1
        return super().verify(hash, password)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    pool = Passwords(hasher=CHEAP)
    yield pool
    pool.close()


async def test_only_the_right_password_matches(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct horse ")
    assert not await passwords.verify(stored, "")


async def test_equal_passwords_have_different_hashes(passwords: Passwords) -> None:
    assert await passwords.hash("same") != await passwords.hash("same")


async def test_an_unknown_user_never_matches(passwords: Passwords) -> None:
    assert not await passwords.verify(None, "anything")


def test_an_unknown_user_is_verified_against_a_hash_with_the_same_parameters(passwords: Passwords) -> None:
    assert not passwords.needs_rehash(passwords._dummy)


async def test_a_damaged_hash_matches_nothing(passwords: Passwords) -> None:
    assert not await passwords.verify("not a hash", "anything")


async def test_one_password_typed_on_two_systems_is_one(passwords: Passwords) -> None:
    assert await passwords.verify(await passwords.hash("caf\u00e9"), "cafe\u0301")


@pytest.mark.parametrize("password", ["x" * 1025, "ü" * 513, "x" * 50_000_000, "\ud800"])
async def test_a_password_that_cannot_be_one_is_refused_before_any_work(passwords: Passwords, password: str) -> None:
    for refused in (passwords.hash(password, "/new_password"), passwords.verify(None, password, "/new_password")):
        with pytest.raises(Invalid) as caught:
            await refused
        assert caught.value.errors[0].pointer == "/new_password"


async def test_the_longest_password_is_1024_bytes(passwords: Passwords) -> None:
    assert await passwords.verify(await passwords.hash("ü" * 512), "ü" * 512)


async def test_an_empty_password_cannot_be_set(passwords: Passwords) -> None:
    with pytest.raises(Invalid):
        await passwords.hash("")


async def test_hashes_of_other_parameters_need_a_rehash(passwords: Passwords) -> None:
    assert passwords.needs_rehash(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("x"))
    assert not passwords.needs_rehash(await passwords.hash("x"))


async def test_the_default_is_what_owasp_recommends() -> None:
    hasher = owasp_hasher()
    assert (hasher.memory_cost, hasher.time_cost, hasher.parallelism) == (19_456, 2, 1)
    assert hasher.hash("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_the_line_is_bounded_and_the_surplus_refused_at_once() -> None:
    hasher = GatedHasher()
    passwords = Passwords(threads=2, waiting=16, hasher=hasher)
    hasher.gate.clear()
    admitted = [asyncio.create_task(passwords.verify(None, "x")) for _ in range(18)]
    await asyncio.sleep(0)
    started = time.perf_counter()
    for _ in range(200):
        with pytest.raises(RateLimited) as caught:
            await passwords.verify(None, "x")
        assert caught.value.retry_after_ms
    assert time.perf_counter() - started < 10
    hasher.gate.set()
    assert await asyncio.gather(*admitted) == [False] * 18
    assert not await passwords.verify(None, "x")
    passwords.close()


async def test_a_client_that_leaves_the_line_gives_its_place_back() -> None:
    hasher = GatedHasher()
    passwords = Passwords(threads=1, waiting=1, hasher=hasher)
    hasher.gate.clear()
    working, waiting = [asyncio.create_task(passwords.verify(None, "x")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    another = asyncio.create_task(passwords.verify(None, "x"))
    await asyncio.sleep(0)
    hasher.gate.set()
    assert not any(await asyncio.gather(working, another))
    assert hasher.verified == 2
    passwords.close()


async def test_a_client_that_leaves_while_its_password_is_hashed_gives_no_place_before_that_is_over() -> None:
    hasher = GatedHasher()
    passwords = Passwords(threads=1, waiting=0, hasher=hasher)
    hasher.gate.clear()
    working = asyncio.create_task(passwords.verify(None, "x"))
    await asyncio.to_thread(hasher.begun.wait, 10)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    with pytest.raises(RateLimited):
        await passwords.verify(None, "x")
    hasher.gate.set()
    # The one thread takes this up when the work before it is over and its place given back.
    await asyncio.to_thread(passwords._pool.submit(int).result, 10)
    assert not await passwords.verify(None, "x")
    passwords.close()


async def test_the_event_loop_runs_on_while_passwords_are_hashed() -> None:
    hasher = GatedHasher()
    passwords = Passwords(hasher=hasher)
    hasher.gate.clear()
    task = asyncio.create_task(passwords.verify(None, "x"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    hasher.gate.set()
    await task
    passwords.close()
