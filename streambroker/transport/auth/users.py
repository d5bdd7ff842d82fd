"""Users: who they are, whether a password is theirs, and how an admin changes them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from streambroker.core.access import Grant, Role
from streambroker.core.errors import BrokerError, ConfigError, Conflict, NotFound, RateLimited
from streambroker.store.sql.accounts import Account, AccountChange, Accounts, Unchanged
from streambroker.transport.auth.commitments import Commitments
from streambroker.transport.auth.passwords import MIN_PASSWORD_CHARACTERS, Passwords, check_new_password

FIRST_USER = "admin"
_GENERATION_BYTES = 8

_log = logging.getLogger(__name__)


class Users:
    """Owns all users, in memory and in the store; used from the event loop only.

    The store goes first: it decides, in one transaction, and its answers come in the order of its commits, so that
    memory ends up with the last one. `changed(username)` is called right after, when sessions ended or rights changed.
    """

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        commitments: Commitments,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        changed: Callable[[str], None],
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._commitments = commitments
        self._clock = clock
        self._random_bytes = random_bytes
        self._changed = changed
        self._users: dict[str, Account] = {}

    async def load(self) -> None:
        """Read all users; call it once, before anything else."""
        self._users = {account.username: account for account in await self._accounts.all()}

    def find(self, username: str) -> Account | None:
        """The user of that name as it is now."""
        return self._users.get(username)

    def first_admin(self) -> Account | None:
        """The first admin by name who may log in."""
        admins = [one for one in self._users.values() if one.role is Role.ADMIN and not one.disabled]
        return min(admins, key=lambda account: account.username, default=None)

    def page(self, after: str, most: int) -> list[Account]:
        """Users by name, those after `after`."""
        names = sorted(name for name in self._users if name > after)
        return [self._users[name] for name in names[:most]]

    async def first_start(self, password: str | None) -> str | None:
        """Create the user `admin` when there is no user at all.

        The answer is the generated password, to be shown once, or None when there are users already or `password`
        (not None, not empty) was taken. Until `first_password_shown` was called, nobody may have read it: the next
        start makes another one. Raises `ConfigError` when `password` cannot be one.
        """
        if self._users and await self._accounts.unseen() != FIRST_USER:
            return None
        if password:
            check_first_password(password)
        chosen = password or self._generated()
        try:
            password_hash = await self._passwords.hash(chosen)
        except BrokerError as error:
            raise ConfigError(f"The first administrator's password: {error.detail}") from None
        account = self._new_account(FIRST_USER, password_hash, Role.ADMIN, ())
        if self._users:
            await self._store_reset(account, unseen=not password)
        elif await self._accounts.add_first(account, unseen=not password):
            self._users[account.username] = account
        else:
            return None
        return None if password else chosen

    async def first_password_shown(self) -> None:
        """What `first_start` made up was shown; call it once that is certain."""
        await self._accounts.seen(FIRST_USER)

    async def reset(self, username: str, password: str | None) -> str:
        """Let whoever has the machine in again: the password that holds from now on, made up where None is given.

        The user is enabled, and all its sessions end; its API keys stay. `admin` is an admin again, and is created
        where it is gone; other users keep their role. Raises `NotFound`, and `Invalid` for a password that is not
        taken.
        """
        if password is not None:
            check_new_password(username, password)
        if username != FIRST_USER and self.find(username) is None:
            raise _unknown(username)
        chosen = password or self._generated()
        fresh = self._new_account(username, await self._passwords.hash(chosen), Role.ADMIN, ())
        await self._store_reset(fresh, unseen=False)
        return chosen

    async def _store_reset(self, fresh: Account, unseen: bool) -> None:
        account = await self._accounts.reset(fresh, unseen, create=fresh.username == FIRST_USER)
        if account is None:
            raise _unknown(fresh.username)
        self._has_become(account)

    def _generated(self) -> str:
        # 144 random bits, without characters that a shell or an eye stumbles over.
        return self._random_bytes(18).hex()

    async def add(self, username: str, password: str, role: Role, grants: tuple[Grant, ...]) -> Account:
        """Create a user.

        Raises `Conflict` when the name is taken, `Invalid` for a password that is not taken, `RateLimited` when too
        many passwords wait to be hashed.
        """
        check_new_password(username, password)
        if username in self._users:
            raise _taken(username)
        password_hash = await self._passwords.hash(password)
        return await self._commitments.keep(self._add(self._new_account(username, password_hash, role, grants)))

    async def change(
        self,
        username: str,
        *,
        password: str | None = None,
        role: Role | None = None,
        grants: tuple[Grant, ...] | None = None,
        disabled: bool | None = None,
    ) -> Account:
        """Change what is not None. Another password and disabling end all sessions; other rights hold from now on.

        Raises `NotFound`, `Conflict` where nobody could administer the broker any more, and what `add` raises for a
        password.
        """
        if self.find(username) is None:
            raise _unknown(username)
        password_hash = None
        if password is not None:
            check_new_password(username, password)
            password_hash = await self._passwords.hash(password)
        generation = self._new_generation() if password_hash or disabled else None
        change = AccountChange(password_hash, role, grants, disabled, generation)
        return await self._commitments.keep(self._change(username, change))

    async def remove(self, username: str) -> None:
        """Delete a user with all sessions and keys. Raises `NotFound`, and `Conflict` for the last enabled admin."""
        await self._commitments.keep(self._remove(username))

    async def change_password(self, account: Account, password: str) -> Account:
        """Give `account` another password, which ends all its sessions; the user as it is then.

        Raises `Conflict` when the password was changed since `account` was read, and what `Passwords.hash` raises.
        """
        password_hash = await self._passwords.hash(password, "/new_password")
        return await self._commitments.keep(self._change_password(account, password_hash))

    async def proven(self, username: str, password: str, pointer: str = "/password") -> Account | None:
        """The user whose password it is, as the user is when this returns. Raises what `Passwords.verify` raises."""
        account = self.find(username)
        while await self._passwords.verify(account.password_hash if account else None, password, pointer):
            latest = self.find(username)
            if latest is account:
                return account
            # Changed while the hash was computed (disabled, another password, a rehash): judged anew as it is now.
            account = latest
        return None

    async def rehash(self, account: Account, password: str) -> None:
        """Store the password's hash with today's parameters; the next login tries again when it does not work out."""
        if not self._passwords.needs_rehash(account.password_hash):
            return
        try:
            new = await self._passwords.hash(password)
        except RateLimited:
            return
        await self._commitments.keep(self._replace_hash(account, new))

    def _new_account(self, username: str, password_hash: str, role: Role, grants: tuple[Grant, ...]) -> Account:
        now, generation = self._clock(), self._new_generation()
        return Account(username, password_hash, role, grants, False, now, now, generation)

    def _new_generation(self) -> str:
        return self._random_bytes(_GENERATION_BYTES).hex()

    async def _add(self, account: Account) -> Account:
        if not await self._accounts.add(account):
            raise _taken(account.username)
        self._users[account.username] = account
        _log.info("user %r was created as %s", account.username, account.role.value)
        return account

    async def _change(self, username: str, change: AccountChange) -> Account:
        changed = await self._accounts.change(username, change, self._clock())
        if isinstance(changed, Unchanged):
            raise _refusal(changed, username)
        return self._has_become(changed)

    async def _change_password(self, account: Account, password_hash: str) -> Account:
        changed = await self._accounts.change_password(
            account.username, account.generation, password_hash, self._new_generation(), self._clock()
        )
        if changed is None:
            raise Conflict("The password was changed at the same moment by somebody else; log in anew.")
        return self._has_become(changed)

    async def _remove(self, username: str) -> None:
        removed = await self._accounts.remove(username)
        if isinstance(removed, Unchanged):
            raise _refusal(removed, username)
        self._users.pop(username, None)
        _log.info("user %r was deleted", username)
        self._changed(username)

    def _has_become(self, account: Account) -> Account:
        self._users[account.username] = account
        _log.info("user %r was changed", account.username)
        self._changed(account.username)
        return account

    async def _replace_hash(self, account: Account, new: str) -> None:
        now = self._clock()
        if not await self._accounts.replace_hash(account.username, account.password_hash, new, now):
            return
        latest = self.find(account.username)
        if latest is not None and latest.password_hash == account.password_hash:
            self._users[account.username] = replace(latest, password_hash=new, updated_at=now)


def check_first_password(password: str) -> None:
    """Raise `ConfigError` for one that nobody may have, and warn of one that is short."""
    if password.casefold() == FIRST_USER:
        raise ConfigError(
            "admin_password is the name of the user, the first thing that anybody tries; set another one, or none "
            "and have one made and shown."
        )
    if len(password) < MIN_PASSWORD_CHARACTERS:
        _log.warning(
            "admin_password has under %d characters and is soon guessed; change it with POST /users/me/password",
            MIN_PASSWORD_CHARACTERS,
        )


def _refusal(reason: Unchanged, username: str) -> BrokerError:
    if reason is Unchanged.NO_USER:
        return _unknown(username)
    return Conflict(
        f"{username!r} is the last admin who can log in; nobody could administer the broker any more. Make another "
        "user an admin first."
    )


def _unknown(username: str) -> NotFound:
    return NotFound(f"There is no user {username!r}.")


def _taken(username: str) -> Conflict:
    return Conflict(f"There is a user {username!r} already.")
