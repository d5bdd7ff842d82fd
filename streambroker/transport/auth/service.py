"""Authentication: who somebody is, from login to logout."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import msgspec

from streambroker.core.access import Grant, Principal, Role
from streambroker.core.errors import BrokerError, ConfigError, Conflict, RateLimited, RefreshRaced, Unauthenticated
from streambroker.store.sql.accounts import Account, Accounts, RefreshToken, Session, Verdict
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.tokens import (
    CLOCK_LEEWAY_MS,
    MINUTE_MS,
    AccessTokens,
    VerifiedTokens,
    new_refresh_token,
    refresh_token_digest,
)

RACE_WINDOW_MS = 10_000
"""How long after a refresh the same token again is taken for a second try at the same moment, not for a theft."""
FIRST_USER = "admin"
_CLOSE_DEADLINE_S = 5

T = TypeVar("T")
_log = logging.getLogger(__name__)


class TokenPair(msgspec.Struct, frozen=True):
    """The answer to a login or refresh, as RFC 6749 §5.1 names its members; `expires_in` is in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "bearer"

    def __repr__(self) -> str:
        # A pair in a traceback or a log line must not let its reader in.
        return f"TokenPair(expires_in={self.expires_in})"


class LoginGuard(Protocol):
    """Slows down who guesses passwords."""

    def admit(self, username: str, address: str) -> None:
        """Return when this login may be tried; raises `RateLimited` otherwise."""

    def failed(self, username: str, address: str) -> None:
        """Take note of a wrong password or user name."""


class AuthService:
    """Logs users in and out and says who a token is.

    Owns, in memory, all users and the sessions revoked lately; `start()` loads both, and every change goes to the
    store as well. So nobody without a valid password or refresh token makes the store write, and a revocation counts
    from the moment it is made. Used from the event loop only.

    `clock` gives milliseconds since 1970 UTC. `random_bytes` is for tests; it must be unpredictable.
    """

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        tokens: AccessTokens,
        *,
        refresh_token_ms: int,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        guard: LoginGuard | None = None,
        cached_tokens: int = 8192,
    ) -> None:
        if refresh_token_ms < 1:
            raise ConfigError("The lifetime of refresh tokens must be at least 1 ms.")
        self._accounts = accounts
        self._passwords = passwords
        self._tokens = tokens
        self._refresh_token_ms = refresh_token_ms
        self._clock = clock
        self._random_bytes = random_bytes
        self._guard = guard
        self._users: dict[str, Account] = {}
        self._verified = VerifiedTokens(cached_tokens)
        # Session to the time of its revocation, in that order. An entry leaves when no access token of the session
        # can be good any more.
        self._revoked: dict[str, int] = {}
        self._revoked_for_ms = tokens.lifetime_ms + CLOCK_LEEWAY_MS + MINUTE_MS
        self._listeners: list[Callable[[str], None]] = []
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Load users and revoked sessions; call it once, before anything else."""
        self._users = {account.username: account for account in await self._accounts.all()}
        self._revoked = dict(await self._accounts.revoked_since(self._clock() - self._revoked_for_ms))

    async def close(self) -> None:
        """Let what was begun for clients that have left come to its end; call it before the store closes."""
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=_CLOSE_DEADLINE_S)

    async def first_start(self, password: str | None) -> str | None:
        """Create the user `admin` when there is no user at all.

        The answer is the generated password, to be shown once, or None when there are users already or `password`
        (not None, not empty) was taken. Raises `ConfigError` when `password` cannot be one.
        """
        if self._users:
            return None
        chosen = password or _generated_password(self._random_bytes)
        try:
            password_hash = await self._passwords.hash(chosen)
        except BrokerError as error:
            raise ConfigError(f"The first administrator's password: {error.detail}") from None
        account = self._new_account(FIRST_USER, password_hash, Role.ADMIN, ())
        if not await self._accounts.add_first(account):
            return None
        self._users[account.username] = account
        return None if password else chosen

    async def add_user(self, username: str, password: str, role: Role, grants: tuple[Grant, ...]) -> Account:
        """Create a user. Raises `Conflict` when the name is taken, else what `Passwords.hash` raises."""
        password_hash = await self._passwords.hash(password)
        return await self._see_through(self._add(self._new_account(username, password_hash, role, grants)))

    async def login(self, username: str, password: str, address: str) -> TokenPair:
        """Begin a session.

        `address` is the client's, for the guard and the log. Raises `Unauthenticated`, the same for an unknown user,
        a disabled one and a wrong password, and after the same time (OWASP Authentication Cheat Sheet);
        `RateLimited` when too many log in at once or the guard says so; `Invalid` for a password over 1,024 bytes.
        """
        if self._guard is not None:
            self._guard.admit(username, address)
        account = await self._proven(username, password)
        if account is None or account.disabled:
            self._login_failed(username, address)
            raise Unauthenticated("The user name or the password is wrong.")
        await self._rehash(account, password)
        return await self._open_session(account)

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Exchange a refresh token for a new pair; the old one is used up (RFC 9700 §4.14.2).

        Raises `Unauthenticated` for a token that is not good; when that is because it was used before, its session
        ends. Raises `RefreshRaced` within 10 s of its use: whoever refreshed twice at once has the other answer.
        """
        digest = refresh_token_digest(refresh_token)
        if digest is None:
            raise _bad_refresh_token()
        # Seen through, because a thief who hangs up at the right moment must not save the stolen session.
        return await self._see_through(self._rotate(digest))

    async def logout(self, principal: Principal) -> None:
        """End the session: its access and refresh tokens are refused from now on. Durable when it returns."""
        now = self._clock()
        # Memory before disk: should the write fail, the session stays closed while the broker runs.
        self._revoke(principal.sid, now)
        await self._accounts.revoke(principal.sid, now)

    def authenticate(self, token: str) -> Principal:
        """Who an access token stands for. Raises `Unauthenticated`; the detail tells expired from not valid.

        A token seen before costs two dictionary look-ups.
        """
        now = self._clock()
        principal = self._verified.get(token, now)
        return self._verify(token, now) if principal is None else principal

    def on_revoked(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(sid)` at once whenever a session is revoked; the answer is a function that ends that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _verify(self, token: str, now: int) -> Principal:
        claims = self._tokens.verify(token, now)
        account = self._users.get(claims.sub)
        if claims.sid in self._revoked or account is None or account.disabled:
            raise Unauthenticated("The session of this access token has ended. Log in again.")
        principal = Principal(
            account.username, account.role, account.grants, claims.sid, claims.expires_at_ms, claims.jti
        )
        self._verified.put(token, principal)
        return principal

    async def _proven(self, username: str, password: str) -> Account | None:
        """The user whose password it is, as the user is when this returns."""
        account = self._users.get(username)
        while await self._passwords.verify(account.password_hash if account else None, password):
            latest = self._users.get(username)
            if latest is account:
                return account
            # Changed while the hash was computed (disabled, another password, a rehash): judged anew as it is now.
            account = latest
        return None

    async def _open_session(self, account: Account) -> TokenPair:
        now = self._clock()
        sid = self._random_bytes(16).hex()
        refresh_token, stored = self._new_refresh_token(now)
        session = Session(sid, account.username, now, self._session_end(now))
        await self._accounts.open_session(session, stored)
        return self._pair(account.username, sid, refresh_token, now)

    async def _rotate(self, presented: bytes) -> TokenPair:
        now = self._clock()
        refresh_token, stored = self._new_refresh_token(now)
        rotation = await self._accounts.rotate(
            presented, stored, session_expires_at=self._session_end(now), race_ms=RACE_WINDOW_MS, now=now
        )
        match rotation.verdict:
            case Verdict.ROTATED:
                return self._pair(rotation.username, rotation.sid, refresh_token, now)
            case Verdict.RACED:
                raise RefreshRaced("This refresh token was used a moment ago; use the pair that was given for it.")
            case Verdict.REUSED:
                _log.warning("a used refresh token of user %r came again: session revoked", rotation.username)
                self._revoke(rotation.sid, now)
                raise _bad_refresh_token()
            case Verdict.REFUSED:
                raise _bad_refresh_token()

    def _pair(self, username: str, sid: str, refresh_token: str, now: int) -> TokenPair:
        access_token = self._tokens.issue(username, sid, self._random_bytes(16).hex(), now)
        return TokenPair(access_token, refresh_token, max(1, self._tokens.lifetime_ms // 1000))

    def _new_refresh_token(self, now: int) -> tuple[str, RefreshToken]:
        token = new_refresh_token(self._random_bytes)
        digest = refresh_token_digest(token)
        assert digest is not None
        return token, RefreshToken(digest, now + self._refresh_token_ms)

    def _session_end(self, now: int) -> int:
        return now + max(self._refresh_token_ms, self._tokens.lifetime_ms)

    def _revoke(self, sid: str, now: int) -> None:
        if sid in self._revoked:
            return
        self._forget_old_revocations(now)
        self._revoked[sid] = now
        self._verified.drop(lambda principal: principal.sid == sid)
        for callback in tuple(self._listeners):
            try:
                callback(sid)
            except Exception:
                _log.exception("a listener failed on a revoked session")

    def _forget_old_revocations(self, now: int) -> None:
        while self._revoked:
            sid, revoked_at = next(iter(self._revoked.items()))
            if revoked_at + self._revoked_for_ms > now:
                return
            del self._revoked[sid]

    def _new_account(self, username: str, password_hash: str, role: Role, grants: tuple[Grant, ...]) -> Account:
        now = self._clock()
        return Account(username, password_hash, role, grants, disabled=False, created_at=now, updated_at=now)

    async def _add(self, account: Account) -> Account:
        if not await self._accounts.add(account):
            raise Conflict(f"There is a user {account.username!r} already.")
        self._users[account.username] = account
        return account

    async def _rehash(self, account: Account, password: str) -> None:
        """Store the password's hash with today's parameters; the next login tries again when it does not work out."""
        if not self._passwords.needs_rehash(account.password_hash):
            return
        try:
            new = await self._passwords.hash(password)
        except RateLimited:
            return
        await self._see_through(self._replace_hash(account, new))

    async def _replace_hash(self, account: Account, new: str) -> None:
        now = self._clock()
        if not await self._accounts.replace_hash(account.username, account.password_hash, new, now):
            return
        if self._users.get(account.username) is account:
            self._users[account.username] = replace(account, password_hash=new, updated_at=now)

    def _login_failed(self, username: str, address: str) -> None:
        # Only a name that exists is logged: people type their password into the wrong field.
        _log.warning("login failed for %r from %s", username if username in self._users else "(unknown)", address)
        if self._guard is not None:
            self._guard.failed(username, address)

    async def _see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end, also when the caller is cancelled, so that memory follows what the store did."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)


def _generated_password(random_bytes: Callable[[int], bytes]) -> str:
    """A password of 144 random bits, without characters that a shell or an eye stumbles over."""
    return random_bytes(18).hex()


def _bad_refresh_token() -> Unauthenticated:
    return Unauthenticated("The refresh token is not valid. Log in again.")
