"""Sessions and their refresh tokens in SQLite.

A session begins with a login and lives in its family of refresh tokens: each one is good for one use, which makes the
next. A token that is used a second time was stolen, from the user or by the user's thief, and ends the whole family
(RFC 9700 §4.14.2). Tokens come in as digests; no secret is stored. Times are milliseconds since 1970 UTC.
"""

from __future__ import annotations

import enum
import sqlite3
from dataclasses import dataclass

from streambroker.store.sql.accounts import Run

SID_CHARACTERS = 32
"""How many characters of a session's id are its own; the rest is its user's generation."""
_SWEPT_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A login. `expires_at` is when the last of its tokens ends."""

    sid: str
    username: str
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The digest of a refresh token and when it ends by itself."""

    digest: bytes
    expires_at: int


class Verdict(enum.Enum):
    """What became of a refresh token that somebody presented."""

    ROTATED = "rotated"
    """It was good, is used up now, and its successor is stored."""
    REFUSED = "refused"
    """Unknown, expired, of a session that has ended, or of a user that is disabled or gone. Nothing changed."""
    RACED = "raced"
    """It was used a moment ago. Nothing changed."""
    REUSED = "reused"
    """It was used before; its session is revoked now."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """The verdict and whose session it is about; both names are empty for a token that nobody has."""

    verdict: Verdict
    sid: str = ""
    username: str = ""


class Sessions:
    """The stored sessions and refresh tokens. Every method is one transaction, durable when it returns."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def open(self, session: Session, first: RefreshToken) -> None:
        """Store a new session and its first refresh token."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO sessions (sid, username, created_at, refreshed_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                (session.sid, session.username, session.created_at, session.created_at, session.expires_at),
            )
            _insert_refresh_token(connection, session.sid, first)
            # Each login and refresh takes some of what has expired with it, so the tables need no task of their own.
            _sweep(connection, session.created_at)

        await self._run(work)

    async def rotate(
        self, presented: bytes, successor: RefreshToken, *, session_expires_at: int, race_ms: int, now: int
    ) -> Rotation:
        """Use up the refresh token with digest `presented` and store its successor, or say why not.

        Of several calls with one token exactly one gets ROTATED. Those less than `race_ms` after it get RACED; later
        ones end the session.
        """

        def work(connection: sqlite3.Connection) -> Rotation:
            found = connection.execute(_PRESENTED, {"digest": presented, "own": SID_CHARACTERS}).fetchone()
            if found is None:
                return Rotation(Verdict.REFUSED)
            sid, username, used_at, expires_at, closed = found
            verdict = _judge(used_at, expires_at, bool(closed), race_ms, now)
            if verdict is Verdict.ROTATED:
                connection.execute("UPDATE refresh_tokens SET used_at = ? WHERE digest = ?", (now, presented))
                _insert_refresh_token(connection, sid, successor)
                connection.execute(
                    "UPDATE sessions SET refreshed_at = ?, expires_at = ? WHERE sid = ?",
                    (now, session_expires_at, sid),
                )
                _sweep(connection, now)
            elif verdict is Verdict.REUSED:
                _revoke(connection, sid, now)
            return Rotation(verdict, sid, username)

        return await self._run(work)

    async def revoke(self, sid: str, now: int) -> None:
        """End a session and its refresh tokens; nothing happens when it has ended already."""
        await self._run(lambda connection: _revoke(connection, sid, now))

    async def revoked_since(self, since: int) -> list[tuple[str, int]]:
        """Sessions revoked after `since` and when, the oldest first."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, int]]:
            rows = connection.execute(
                "SELECT sid, revoked_at FROM sessions WHERE revoked_at > ? ORDER BY revoked_at", (since,)
            )
            return [(sid, revoked_at) for sid, revoked_at in rows]

        return await self._run(work)


_PRESENTED = """
    SELECT sid, username, used_at, refresh_tokens.expires_at,
           revoked_at IS NOT NULL OR disabled IS NOT 0 OR generation IS NOT substr(sid, :own + 1)  -- NULL: no such user
    FROM refresh_tokens JOIN sessions USING (sid) LEFT JOIN users USING (username)
    WHERE digest = :digest
"""


def _judge(used_at: int | None, expires_at: int, closed: bool, race_ms: int, now: int) -> Verdict:
    if closed:
        return Verdict.REFUSED
    if used_at is not None:
        # The distance and not the difference: after a clock's step back a replay must not pass for a race for hours.
        return Verdict.RACED if abs(now - used_at) < race_ms else Verdict.REUSED
    return Verdict.ROTATED if now < expires_at else Verdict.REFUSED


def _insert_refresh_token(connection: sqlite3.Connection, sid: str, token: RefreshToken) -> None:
    connection.execute(
        "INSERT INTO refresh_tokens (digest, sid, expires_at) VALUES (?, ?, ?)", (token.digest, sid, token.expires_at)
    )


def _revoke(connection: sqlite3.Connection, sid: str, now: int) -> None:
    connection.execute("UPDATE sessions SET revoked_at = ? WHERE sid = ? AND revoked_at IS NULL", (now, sid))


def _sweep(connection: sqlite3.Connection, now: int) -> None:
    """Delete some of what has expired; more than one login or refresh can add, so that it never piles up."""
    connection.execute(
        "DELETE FROM refresh_tokens WHERE digest IN"
        " (SELECT digest FROM refresh_tokens WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, _SWEPT_AT_ONCE),
    )
    connection.execute(
        "DELETE FROM sessions WHERE sid IN"
        " (SELECT sid FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (now, _SWEPT_AT_ONCE),
    )
