"""Passwords: hashed with Argon2id, a few at a time, never on the event loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from streambroker.core.errors import RateLimited, invalid

MIN_PASSWORD_CHARACTERS = 8
MAX_PASSWORD_BYTES = 1024
_RETRY_AFTER_MS = 1_000

T = TypeVar("T")
_log = logging.getLogger(__name__)


def owasp_hasher() -> PasswordHasher:
    """Argon2id with 19 MiB, two passes, one lane: OWASP's Password Storage Cheat Sheet, about 30 ms a password."""
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class Passwords:
    """Hashes and verifies passwords in a pool of its own.

    Promises: at most `threads` passwords are worked on and `waiting` more wait; the next one is refused at once with
    `RateLimited`, so that a flood of logins takes neither the memory (19 MiB each) nor the other requests' time.
    Argon2 releases the interpreter lock, so the event loop runs on meanwhile.

    The owner calls `close()` at the end.
    """

    def __init__(self, *, threads: int = 2, waiting: int = 16, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or owasp_hasher()
        # What an unknown user's password is compared with: the same parameters, hence the same time.
        self._dummy = self._hasher.hash(secrets.token_bytes(32))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        # A semaphore and not a counter: places are given back in the pool's threads.
        self._places = threading.BoundedSemaphore(threads + waiting)

    async def hash(self, password: str, pointer: str = "/password") -> str:
        """A new hash of `password` in the PHC string format, its parameters and salt included.

        Raises `Invalid` naming `pointer` when the password is empty, longer than 1,024 bytes in UTF-8 or not Unicode
        text, `RateLimited` when too many wait already.
        """
        if not password:
            raise invalid(pointer, "must not be empty")
        prepared = _prepared(password, pointer)
        return await self._in_pool(lambda: self._hasher.hash(prepared))

    async def verify(self, stored: str | None, password: str, pointer: str = "/password") -> bool:
        """Whether `password` is the one that `stored` was made from.

        `stored` None, an unknown user, takes as long as a wrong password and is False. Raises as `hash()` does.
        """
        prepared = _prepared(password, pointer)
        return await self._in_pool(lambda: self._matches(stored, prepared))

    def needs_rehash(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than are in use now."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Drop what waits; what is being worked on ends by itself within milliseconds."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str | None, prepared: bytes) -> bool:
        try:
            self._hasher.verify(stored or self._dummy, prepared)
        except VerifyMismatchError:
            return False
        except InvalidHashError:
            _log.error("a stored password hash cannot be read; its user cannot log in until the password is set anew")
            return False
        return stored is not None

    async def _in_pool(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise RateLimited("Too many logins at the same time; try again soon.", retry_after_ms=_RETRY_AFTER_MS)
        try:
            future = self._pool.submit(work)
        except RuntimeError:
            self._places.release()
            raise
        # Given back when the work is over, not when its caller stops waiting: hashing does not stop half-way.
        future.add_done_callback(self._give_back)
        return await asyncio.wrap_future(future)

    def _give_back(self, _: Future[T]) -> None:
        self._places.release()


def check_new_password(username: str, password: str, pointer: str = "/password") -> None:
    """Raise `Invalid` naming `pointer` for a password that is too easily guessed to be taken for that user.

    Length is what helps (NIST SP 800-63B §5.1.1.2); rules about kinds of characters are not made.
    """
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise invalid(pointer, f"must have at least {MIN_PASSWORD_CHARACTERS} characters")
    if password.casefold() == username.casefold():
        raise invalid(pointer, "must not be the user name")


def _prepared(password: str, pointer: str) -> bytes:
    """The bytes to hash: NFC, so that one password typed on two systems is one password (RFC 8265 §4.2.2)."""
    # Measured before normalizing: a long text costs time there too, and every character is at least one byte.
    if len(password) > MAX_PASSWORD_BYTES:
        raise invalid(pointer, f"must not be longer than {MAX_PASSWORD_BYTES} bytes")
    try:
        prepared = unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        raise invalid(pointer, "must be Unicode text without lone surrogates") from None
    if len(prepared) > MAX_PASSWORD_BYTES:
        raise invalid(pointer, f"must not be longer than {MAX_PASSWORD_BYTES} bytes")
    return prepared
