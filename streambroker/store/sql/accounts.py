"""Users in SQLite. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import msgspec

from streambroker.core.access import Grant, Role

T = TypeVar("T")
_grants = msgspec.json.Decoder(tuple[Grant, ...])


class Run(Protocol):
    """Runs a function in a `BEGIN IMMEDIATE` transaction of its own on the one writing connection.

    Resolves with the function's answer once the commit is on disk; when the function raises, everything it did is
    rolled back and the error comes out here. It goes on when its caller is cancelled.
    """

    def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Account:
    """One user as stored. `password_hash` is in the PHC string format.

    A session holds while its id ends in the user's `generation`; a new generation ends all sessions at once.
    """

    username: str
    password_hash: str = field(repr=False)
    role: Role
    grants: tuple[Grant, ...]
    disabled: bool
    created_at: int
    updated_at: int
    generation: str = ""


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What becomes different of a user; None stays as it is."""

    password_hash: str | None = field(default=None, repr=False)
    role: Role | None = None
    grants: tuple[Grant, ...] | None = None
    disabled: bool | None = None
    generation: str | None = None


class Unchanged(enum.Enum):
    """Why a user was not changed or removed."""

    NO_USER = "no user"
    LAST_ADMIN = "last admin"
    """Nobody could administer the broker any more."""


class Accounts:
    """The stored users. Every method is one transaction, durable when it returns.

    Nothing here is on a hot path: the service keeps in memory what each request needs.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    async def all(self) -> list[Account]:
        """All users."""
        return await self._run(_select_users)

    async def add(self, account: Account) -> bool:
        """Store a new user; False, and nothing stored, when the name is taken."""
        return await self._run(lambda connection: _insert_user(connection, account))

    async def add_first(self, account: Account, unseen: bool) -> bool:
        """Store a user if there is none at all; False otherwise. `unseen`: nobody has read the password yet."""

        def work(connection: sqlite3.Connection) -> bool:
            empty = connection.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None
            added = empty and _insert_user(connection, account)
            if added and unseen:
                _mark(connection, account.username, unseen)
            return added

        return await self._run(work)

    async def unseen(self) -> str | None:
        """The user whose password was made and, as far as is known, never read."""

        def work(connection: sqlite3.Connection) -> str | None:
            found = connection.execute("SELECT username FROM users WHERE unseen = 1 LIMIT 1").fetchone()
            return None if found is None else str(found[0])

        return await self._run(work)

    async def seen(self, username: str) -> None:
        """The user's password was shown."""
        await self._run(lambda connection: _mark(connection, username, False))

    async def reset(self, fresh: Account, unseen: bool, create: bool) -> Account | None:
        """Give the user of that name the password and the generation of `fresh`, and enable it; the user as it is now.

        With `create` the user is an admin then, and is stored as `fresh` where there is none. None, and nothing
        changed, where there is none otherwise.
        """

        def work(connection: sqlite3.Connection) -> Account | None:
            account = _select_user(connection, fresh.username)
            if account is None and not (create and _insert_user(connection, fresh)):
                return None
            changed = fresh if account is None else _renewed(account, fresh, fresh.role if create else account.role)
            _update_user(connection, changed)
            _mark(connection, fresh.username, unseen)
            return changed

        return await self._run(work)

    async def change(self, username: str, change: AccountChange, now: int) -> Account | Unchanged:
        """Change a user; the answer is the user as it is now. The last enabled admin stays one."""
        return await self._run(lambda connection: _change(connection, username, change, now))

    async def change_password(
        self, username: str, seen: str, password_hash: str, generation: str, now: int
    ) -> Account | None:
        """Store a new password and generation; None when the generation is no longer `seen`: somebody was faster."""

        def work(connection: sqlite3.Connection) -> Account | None:
            account = _select_user(connection, username)
            if account is None or account.generation != seen:
                return None
            changed = replace(account, password_hash=password_hash, generation=generation, updated_at=now)
            _update_user(connection, changed)
            return changed

        return await self._run(work)

    async def remove(self, username: str) -> Account | Unchanged:
        """Delete a user with all keys; the answer is the user as it was. The last enabled admin stays."""

        def work(connection: sqlite3.Connection) -> Account | Unchanged:
            account = _select_user(connection, username)
            if account is None:
                return Unchanged.NO_USER
            if _is_admin(account) and not _other_admin(connection, username):
                return Unchanged.LAST_ADMIN
            connection.execute("DELETE FROM api_keys WHERE username = ?", (username,))
            connection.execute("DELETE FROM users WHERE username = ?", (username,))
            return account

        return await self._run(work)

    async def replace_hash(self, username: str, old: str, new: str, now: int) -> bool:
        """Store another hash of the same password; False when the password was changed meanwhile."""

        def work(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE users SET password_hash = ?, updated_at = ?, unseen = 0"
                " WHERE username = ? AND password_hash = ?",
                (new, now, username, old),
            )
            return changed.rowcount == 1

        return await self._run(work)


_USER = "SELECT username, password_hash, role, grants, disabled, created_at, updated_at, generation FROM users"


def _select_users(connection: sqlite3.Connection) -> list[Account]:
    return [_account(row) for row in connection.execute(_USER + " ORDER BY username")]


def _select_user(connection: sqlite3.Connection, username: str) -> Account | None:
    row = connection.execute(_USER + " WHERE username = ?", (username,)).fetchone()
    return None if row is None else _account(row)


def _account(row: tuple[str, str, str, str, int, int, int, str]) -> Account:
    username, password_hash, role, grants, disabled, created_at, updated_at, generation = row
    return Account(
        username,
        password_hash,
        Role(role),
        _grants.decode(grants),
        bool(disabled),
        created_at,
        updated_at,
        generation,
    )


def _insert_user(connection: sqlite3.Connection, account: Account) -> bool:
    inserted = connection.execute(
        "INSERT INTO users (password_hash, role, grants, disabled, updated_at, generation, created_at, username)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (username) DO NOTHING",
        (*_changeable(account), account.created_at, account.username),
    )
    return inserted.rowcount == 1


def _update_user(connection: sqlite3.Connection, account: Account) -> None:
    # A password that somebody chose is one that somebody knows: the next start must leave it alone.
    connection.execute(
        "UPDATE users SET unseen = unseen AND password_hash = ? WHERE username = ?",
        (account.password_hash, account.username),
    )
    connection.execute(
        "UPDATE users SET password_hash = ?, role = ?, grants = ?, disabled = ?, updated_at = ?, generation = ?"
        " WHERE username = ?",
        (*_changeable(account), account.username),
    )


def _mark(connection: sqlite3.Connection, username: str, unseen: bool) -> None:
    connection.execute("UPDATE users SET unseen = ? WHERE username = ?", (int(unseen), username))


def _renewed(account: Account, fresh: Account, role: Role) -> Account:
    return replace(
        account,
        password_hash=fresh.password_hash,
        role=role,
        disabled=False,
        updated_at=fresh.updated_at,
        generation=fresh.generation,
    )


def _changeable(account: Account) -> Sequence[str | int]:
    return (
        account.password_hash,
        account.role.value,
        msgspec.json.encode(account.grants).decode(),
        int(account.disabled),
        account.updated_at,
        account.generation,
    )


def _change(connection: sqlite3.Connection, username: str, change: AccountChange, now: int) -> Account | Unchanged:
    account = _select_user(connection, username)
    if account is None:
        return Unchanged.NO_USER
    changed = Account(
        username,
        account.password_hash if change.password_hash is None else change.password_hash,
        account.role if change.role is None else change.role,
        account.grants if change.grants is None else change.grants,
        account.disabled if change.disabled is None else change.disabled,
        account.created_at,
        now,
        account.generation if change.generation is None else change.generation,
    )
    if _is_admin(account) and not _is_admin(changed) and not _other_admin(connection, username):
        return Unchanged.LAST_ADMIN
    _update_user(connection, changed)
    return changed


def _is_admin(account: Account) -> bool:
    return account.role is Role.ADMIN and not account.disabled


def _other_admin(connection: sqlite3.Connection, username: str) -> bool:
    """Whether somebody else is an admin who can log in."""
    found = connection.execute(
        "SELECT 1 FROM users WHERE role = 'admin' AND disabled = 0 AND username <> ? LIMIT 1", (username,)
    )
    return found.fetchone() is not None
