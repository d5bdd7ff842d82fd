"""Authentication: who somebody is, from login to logout."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Protocol

import msgspec

from streambroker.core.access import Principal, require_session
from streambroker.core.errors import BrokerError, ConfigError, Forbidden, RefreshRaced, Unauthenticated
from streambroker.store.sql.accounts import Account, Accounts, Run
from streambroker.store.sql.api_keys import ApiKeys
from streambroker.store.sql.sessions import SID_CHARACTERS, RefreshToken, Session, Sessions, Verdict
from streambroker.transport.auth.api_keys import Keyring, bad_key, principal_of
from streambroker.transport.auth.commitments import Commitments
from streambroker.transport.auth.passwords import Passwords, check_new_password
from streambroker.transport.auth.tokens import (
    API_KEY_PREFIX,
    CLOCK_LEEWAY_MS,
    MINUTE_MS,
    AccessTokens,
    VerifiedTokens,
    new_refresh_token,
    refresh_token_digest,
)
from streambroker.transport.auth.users import Users

RACE_WINDOW_MS = 10_000
"""How long after a refresh the same token again is taken for a second try at the same moment, not for a theft."""

_log = logging.getLogger(__name__)


class TokenPair(msgspec.Struct, frozen=True):
    """The answer to a login or refresh, as RFC 6749 §5.1 names its members; `expires_in` is in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "bearer"  # noqa: S105

    def __repr__(self) -> str:
        # A pair in a traceback or a log line must not let its reader in.
        return f"TokenPair(expires_in={self.expires_in})"


class LoginGuard(Protocol):
    """Slows down who guesses passwords."""

    def admit(self, username: str, address: str) -> Callable[[], None]:
        """Return when this login may be tried; raises `RateLimited` otherwise.

        The answer is to be called where it was not tried after all: neither `failed` nor `succeeded` then.
        """

    def failed(self, username: str, address: str) -> None:
        """Take note of a wrong password or user name."""

    def succeeded(self, username: str, address: str) -> None:
        """Take note of a right password."""


class AuthService:
    """Logs users in and out and says who a token or API key is.

    Owns, in memory, the sessions revoked lately, and through `users` and `keys` all users and API keys; `start()`
    loads them, and every change goes to the store as well. So nobody without a valid password, token or key makes the
    store write, and a revocation counts from the moment it is made. Used from the event loop only.

    `run` runs transactions of the store, `clock` gives milliseconds since 1970 UTC. `random_bytes` is for tests; it
    must be unpredictable.
    """

    def __init__(
        self,
        run: Run,
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
        self._commitments = Commitments()
        self.users = Users(Accounts(run), passwords, self._commitments, clock, random_bytes, self._user_changed)
        self.keys = Keyring(ApiKeys(run), self._commitments, clock, random_bytes, self._user_changed)
        self._sessions = Sessions(run)
        self._tokens = tokens
        self._refresh_token_ms = refresh_token_ms
        self._clock = clock
        self._random_bytes = random_bytes
        self._guard = guard
        self._verified = VerifiedTokens(cached_tokens)
        # Session to the time of its revocation, in that order. An entry leaves when no access token of the session
        # can be good any more.
        self._revoked: dict[str, int] = {}
        self._revoked_for_ms = tokens.lifetime_ms + CLOCK_LEEWAY_MS + MINUTE_MS
        self._change_listeners: list[Callable[[str], None]] = []

    async def start(self) -> None:
        """Load users, keys and revoked sessions; call it once, before anything else."""
        await self.users.load()
        await self.keys.load()
        self._revoked = dict(await self._sessions.revoked_since(self._clock() - self._revoked_for_ms))

    async def close(self) -> None:
        """Let what was begun for clients that have left come to its end; call it before the store closes."""
        await self._commitments.close()

    # -- sessions ------------------------------------------------------------------------------------------------------

    async def login(self, username: str, password: str, address: str) -> TokenPair:
        """Begin a session.

        `address` is the client's, for the guard and the log. Raises `Unauthenticated`, the same for an unknown user,
        a disabled one and a wrong password, and after the same time (OWASP Authentication Cheat Sheet);
        `RateLimited` when too many log in at once or the guard says so; `Invalid` for a password over 1,024 bytes.
        """
        account = await self._proven(username, password, "/password", address)
        if account is None:
            raise _wrong_login()
        await self.users.rehash(account, password)
        pair = await self._open_session(account)
        _log.info("login of %r from %s", username, address, extra={"user": username})
        return pair

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Exchange a refresh token for a new pair; the old one is used up (RFC 9700 §4.14.2).

        Raises `Unauthenticated` for a token that is not good; when that is because it was used before, its session
        ends. Raises `RefreshRaced` within 10 s of its use: whoever refreshed twice at once has the other answer.
        """
        digest = refresh_token_digest(refresh_token)
        if digest is None:
            raise _bad_refresh_token()
        # Seen through, because a thief who hangs up at the right moment must not save the stolen session.
        return await self._commitments.keep(self._rotate(digest))

    async def logout(self, principal: Principal) -> None:
        """End the session: its access and refresh tokens are refused from now on. Durable when it returns.

        Raises `Forbidden` for an API key, which has no session.
        """
        require_session(principal, "it has no session to end. To take it back: DELETE /api-keys/{id}, logged in")
        now = self._clock()
        # Memory before disk: should the write fail, the session stays closed while the broker runs.
        self._revoke(principal.sid, principal.username, now)
        await self._sessions.revoke(principal.sid, now)
        _log.info("logout of %r", principal.username, extra={"user": principal.username})

    async def change_password(self, principal: Principal, current: str, new: str, address: str) -> TokenPair:
        """Give the caller another password: all sessions of the user end, and the answer begins a new one.

        Raises `Forbidden` for an API key and for a wrong `current`, which the guard hears of; `Invalid` for a password
        that is not taken; `Conflict` when somebody else changed it at the same moment; `RateLimited` as `login` does.
        """
        require_session(principal, "log in to change the password")
        check_new_password(principal.username, new, "/new_password")
        account = await self._proven(principal.username, current, "/current_password", address)
        if self.still(principal) is None:
            raise _session_ended()
        if account is None:
            raise Forbidden("The current password is wrong.")
        return await self._open_session(await self.users.change_password(account, new))

    # -- who is it -----------------------------------------------------------------------------------------------------

    def authenticate(self, token: str) -> Principal:
        """Who an access token or API key stands for. Raises `Unauthenticated`; the detail tells expired from not valid.

        A token seen before costs two dictionary look-ups.
        """
        now = self._clock()
        principal = self._verified.get(token, now)
        if principal is None:
            principal = self._by_key(token, now) if token.startswith(API_KEY_PREFIX) else self._by_token(token, now)
            self._verified.put(token, principal)
        return principal

    def insider(self) -> tuple[str, str]:
        """An admin, and an access token of it: for the program that the broker runs in, which has the signing key too.

        No session is stored for it; the token ends by its own time. Raises `Unauthenticated` where no admin may log in.
        """
        account = self.users.first_admin()
        if account is None:
            raise _wrong_login()
        sid = self._random_bytes(SID_CHARACTERS // 2).hex() + account.generation
        token = self._tokens.issue(account.username, sid, self._random_bytes(16).hex(), self._clock())
        return account.username, token

    def still(self, principal: Principal) -> Principal | None:
        """Who `principal` is by now: the very same where nothing has changed, None when its session or key has ended.

        Its time is not looked at: whoever holds something open for it ends that at `expires_at_ms`.
        """
        account = self.users.find(principal.username)
        if account is None or account.disabled:
            return None
        if principal.key_id is None:
            if not self._holds(principal.sid, account):
                return None
            now = _principal_in(principal.sid, account, principal.expires_at_ms, principal.jti)
        else:
            key = self.keys.find(principal.key_id)
            if key is None:
                return None
            now = principal_of(key, account)
        return principal if now == principal else now

    def on_changed(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(username)` at once whenever sessions or keys of a user ended or the user's rights changed.

        `still` then tells for each principal of that user who it is. The answer is a function that ends the calls.
        """
        self._change_listeners.append(callback)
        return lambda: self._change_listeners.remove(callback)

    def _by_token(self, token: str, now: int) -> Principal:
        claims = self._tokens.verify(token, now)
        account = self.users.find(claims.sub)
        if account is None or account.disabled or not self._holds(claims.sid, account):
            raise _session_ended()
        return _principal_in(claims.sid, account, claims.expires_at_ms, claims.jti)

    def _by_key(self, text: str, now: int) -> Principal:
        key = self.keys.identify(text, now)
        account = self.users.find(key.username)
        if account is None or account.disabled:
            raise bad_key()
        return principal_of(key, account)

    def _holds(self, sid: str, account: Account) -> bool:
        return sid not in self._revoked and sid[SID_CHARACTERS:] == account.generation

    # -- the steps of it -----------------------------------------------------------------------------------------------

    async def _proven(self, username: str, password: str, pointer: str, address: str) -> Account | None:
        """The enabled user whose password it is; the guard is asked before and told after. None costs the same."""
        give_back = None if self._guard is None else self._guard.admit(username, address)
        try:
            account = await self.users.proven(username, password, pointer)
        except BrokerError:  # too many at once, or a text that can be no password: nobody has guessed
            if give_back is not None:
                give_back()
            raise
        if account is None or account.disabled:
            self._login_failed(username, address)
            return None
        if self._guard is not None:
            self._guard.succeeded(username, address)
        return account

    async def _open_session(self, account: Account) -> TokenPair:
        now = self._clock()
        sid = self._random_bytes(SID_CHARACTERS // 2).hex() + account.generation
        refresh_token, stored = self._new_refresh_token(now)
        await self._sessions.open(Session(sid, account.username, now, self._session_end(now)), stored)
        latest = self.users.find(account.username)
        if latest is None or latest.generation != account.generation:
            # Deleted, disabled or given another password meanwhile; the session was over before it began.
            raise _wrong_login()
        return self._pair(account.username, sid, refresh_token, now)

    async def _rotate(self, presented: bytes) -> TokenPair:
        now = self._clock()
        refresh_token, stored = self._new_refresh_token(now)
        rotation = await self._sessions.rotate(
            presented, stored, session_expires_at=self._session_end(now), race_ms=RACE_WINDOW_MS, now=now
        )
        match rotation.verdict:
            case Verdict.ROTATED:
                return self._pair(rotation.username, rotation.sid, refresh_token, now)
            case Verdict.RACED:
                raise RefreshRaced("This refresh token was used a moment ago; use the pair that was given for it.")
            case Verdict.REUSED:
                _log.warning("a used refresh token of user %r came again: session revoked", rotation.username)
                self._revoke(rotation.sid, rotation.username, now)
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

    def _revoke(self, sid: str, username: str, now: int) -> None:
        if sid in self._revoked:
            return
        self._forget_old_revocations(now)
        self._revoked[sid] = now
        self._verified.drop(lambda principal: principal.sid == sid)
        _tell(self._change_listeners, username)

    def _forget_old_revocations(self, now: int) -> None:
        while self._revoked:
            sid, revoked_at = next(iter(self._revoked.items()))
            if revoked_at + self._revoked_for_ms > now:
                return
            del self._revoked[sid]

    def _user_changed(self, username: str) -> None:
        if self.users.find(username) is None:
            self.keys.forget(username)
        self._verified.drop(lambda principal: principal.username == username)
        _tell(self._change_listeners, username)

    def _login_failed(self, username: str, address: str) -> None:
        # Only a name that exists is logged: people type their password into the wrong field.
        known = self.users.find(username) is not None
        _log.warning("login failed for %r from %s", username if known else "(unknown)", address)
        if self._guard is not None:
            self._guard.failed(username, address)


def _principal_in(sid: str, account: Account, expires_at_ms: int | None, jti: str) -> Principal:
    return Principal(account.username, account.role, account.grants, sid, expires_at_ms, jti)


def _tell(listeners: list[Callable[[str], None]], what: str) -> None:
    for callback in tuple(listeners):
        try:
            callback(what)
        except Exception:
            _log.exception("a listener failed on a change of sessions or users")


def _wrong_login() -> Unauthenticated:
    return Unauthenticated("The user name or the password is wrong.")


def _session_ended() -> Unauthenticated:
    return Unauthenticated("The session of this access token has ended. Log in again.")


def _bad_refresh_token() -> Unauthenticated:
    return Unauthenticated("The refresh token is not valid. Log in again.")
