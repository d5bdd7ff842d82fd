"""The door where users and API keys are made, changed and taken back."""

from __future__ import annotations

import re

from msgspec import UNSET

from streambroker.core.access import Principal, Role, require_admin, require_session
from streambroker.core.errors import NotFound, invalid
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.times import milliseconds, rfc3339
from streambroker.store.sql.accounts import Account
from streambroker.store.sql.api_keys import ApiKey
from streambroker.transport import user_schemas as schemas
from streambroker.transport.auditing import audited
from streambroker.transport.auth.service import AuthService, TokenPair
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.login import MAX_LOGIN_BODY

_RESERVED = "me"
_is_username = re.compile(schemas.USERNAME).match

_user = JsonDecoder[schemas.UserIn](schemas.UserIn)
_change = JsonDecoder[schemas.UserChange](schemas.UserChange)
_password = JsonDecoder[schemas.PasswordChange](schemas.PasswordChange)
_key = JsonDecoder[schemas.ApiKeyIn](schemas.ApiKeyIn)


class UserDoor:
    """Handlers over the `AuthService`."""

    def __init__(self, auth: AuthService) -> None:
        self._auth = auth

    # -- users, for admins ---------------------------------------------------------------------------------------------

    async def list_users(self, call: Call) -> Reply:
        """List the users by name. For admins."""
        require_admin(call.user)
        page = call.options(schemas.UserListQuery)
        seen = self._auth.users.page(page.cursor or "", page.limit + 1)
        items = [_shown(account) for account in seen[: page.limit]]
        return reply(schemas.UserList(items, items[-1].username if len(seen) > page.limit else None))

    @audited
    async def create_user(self, call: Call) -> Reply:
        """Create a user. For admins who have logged in."""
        _require_manager(call.user)
        given = await call.json(_user)
        if given.username == _RESERVED:
            raise invalid("/username", f"{_RESERVED!r} stands for the caller in paths; take another name")
        made = await self._auth.users.add(given.username, given.password, given.role, given.grants)
        return Reply(201, encode(_shown(made)), ((b"location", f"/users/{made.username}".encode()),))

    async def get_user(self, call: Call) -> Reply:
        """Look at a user. For admins."""
        return reply(_shown(self._named(call)))

    @audited
    async def change_user(self, call: Call) -> Reply:
        """Change a user; members that are absent stay. For admins who have logged in.

        Rights hold at once. Another password and disabling end all the user's sessions; a disabled user's API keys
        rest.
        """
        _require_manager(call.user)
        account = self._named(call)
        given = await call.json(_change)
        changed = await self._auth.users.change(
            account.username,
            password=None if given.password is UNSET else given.password,
            role=None if given.role is UNSET else given.role,
            grants=None if given.grants is UNSET else given.grants,
            disabled=None if given.disabled is UNSET else given.disabled,
        )
        return reply(_shown(changed))

    @audited
    async def delete_user(self, call: Call) -> Reply:
        """Delete a user with all sessions and API keys; queues and messages stay. For admins who have logged in."""
        _require_manager(call.user)
        await self._auth.users.remove(self._named(call).username)
        return Reply(204)

    def _named(self, call: Call) -> Account:
        """The user that the path names. Raises `Forbidden`, `Invalid`, `NotFound`."""
        require_admin(call.user)
        username = call.params["username"]
        if not _is_username(username):
            raise invalid("/username", "a user's name is 1 to 128 of A-Z a-z 0-9 . _ @ + - and begins with the first")
        return self._found(username)

    def _found(self, username: str) -> Account:
        account = self._auth.users.find(username)
        if account is None:
            raise NotFound(f"There is no user {username!r}.")
        return account

    # -- the caller ----------------------------------------------------------------------------------------------------

    async def who_am_i(self, call: Call) -> Reply:
        """Who the caller is, and by what."""
        who = call.user
        user = _shown(self._found(who.username))
        return reply(
            schemas.Me(
                user.username,
                user.role,
                user.grants,
                user.disabled,
                user.created_at,
                user.updated_at,
                self._credential(who),
            )
        )

    @audited
    async def change_password(self, call: Call) -> Reply:
        """Change the caller's password; all sessions of the user end, and the answer begins a new one."""
        require_session(call.user, "log in to change the password")
        given = await call.json(_password, MAX_LOGIN_BODY)
        return reply(
            await self._auth.change_password(
                call.user, given.current_password, given.new_password, call.scope["streambroker.address"]
            )
        )

    def _credential(self, who: Principal) -> schemas.Credential:
        expires_at = None if who.expires_at_ms is None else rfc3339(who.expires_at_ms)
        if who.key_id is None:
            return schemas.Credential("session", who.sid, None, None, expires_at)
        key = self._auth.keys.find(who.key_id)
        if key is None:
            raise NotFound("There is no such API key.")
        return schemas.Credential("api_key", key.id, key.name, key.grants, expires_at)

    # -- API keys ------------------------------------------------------------------------------------------------------

    @audited
    async def create_key(self, call: Call) -> Reply:
        """Make an API key that acts for the caller. It is shown only in this answer."""
        require_session(call.user, "log in to make API keys")
        given = await call.json(_key)
        if not given.name.isprintable():
            raise invalid("/name", "holds a character that cannot be printed")
        expires_at = None if given.expires_at is None else milliseconds(given.expires_at, "/expires_at")
        key, secret = await self._auth.keys.create(call.user.username, given.name, given.grants, expires_at)
        shown = _shown_key(key)
        return reply(
            schemas.ApiKeyMade(shown.id, shown.name, secret, shown.grants, shown.created_at, shown.expires_at), 201
        )

    async def list_keys(self, call: Call) -> Reply:
        """List the caller's API keys, for an admin everybody's; an API key sees itself.

        The keys themselves are nowhere kept.
        """
        page = call.options(schemas.KeyListQuery)
        seen = self._auth.keys.page(_own(call.user), page.cursor or "", page.limit + 1, only=call.user.key_id)
        items = [_shown_key(key) for key in seen[: page.limit]]
        return reply(schemas.ApiKeyList(items, items[-1].id if len(seen) > page.limit else None))

    @audited
    async def delete_key(self, call: Call) -> Reply:
        """Delete an API key of the caller's, for an admin anybody's. It is refused from now on."""
        require_session(call.user, "log in to delete API keys")
        await self._auth.keys.remove(call.params["key_id"], _own(call.user))
        return Reply(204)

    def endpoints(self) -> list[Endpoint]:
        """What this door serves; `/users/me` goes before `/users/{username}`, which would match it too."""
        user, users, key, keys = "/users/{username}", "/users", "/api-keys/{key_id}", "/api-keys"
        new_password, pair = schemas.PasswordChange, {200: TokenPair}
        return [
            Endpoint("GET", users, self.list_users, "List users", None, {200: schemas.UserList}, schemas.UserListQuery),
            Endpoint(
                "POST",
                users,
                self.create_user,
                "Create a user",
                schemas.UserIn,
                {201: schemas.UserOut},
                codes=("conflict",),
                session=True,
                answer_headers={"Location": "The path of the user."},
            ),
            Endpoint("GET", "/users/me", self.who_am_i, "Who am I", answers={200: schemas.Me}),
            Endpoint(
                "POST",
                "/users/me/password",
                self.change_password,
                "Change one's password",
                new_password,
                pair,
                codes=("conflict",),
                session=True,
            ),
            Endpoint("GET", user, self.get_user, "Look at a user", answers={200: schemas.UserOut}),
            Endpoint(
                "PATCH",
                user,
                self.change_user,
                "Change a user",
                schemas.UserChange,
                {200: schemas.UserOut},
                codes=("conflict",),
                session=True,
            ),
            Endpoint(
                "DELETE",
                user,
                self.delete_user,
                "Delete a user",
                answers={204: None},
                codes=("conflict",),
                session=True,
            ),
            Endpoint(
                "POST",
                keys,
                self.create_key,
                "Make an API key",
                schemas.ApiKeyIn,
                {201: schemas.ApiKeyMade},
                session=True,
            ),
            Endpoint(
                "GET", keys, self.list_keys, "List API keys", None, {200: schemas.ApiKeyList}, schemas.KeyListQuery
            ),
            Endpoint("DELETE", key, self.delete_key, "Delete an API key", answers={204: None}, session=True),
        ]


def _require_manager(who: Principal) -> None:
    """Return when `who` may make, change and delete users; raises `Forbidden`.

    A key that leaked from a worker must not make itself an admin that outlives it.
    """
    require_admin(who)
    require_session(who, "log in to manage users")


def _own(who: Principal) -> str | None:
    """Whose API keys the caller may see and delete; None is everybody's."""
    return None if who.role is Role.ADMIN else who.username


def _shown(account: Account) -> schemas.UserOut:
    return schemas.UserOut(
        account.username,
        account.role,
        account.grants,
        account.disabled,
        rfc3339(account.created_at),
        rfc3339(account.updated_at),
    )


def _shown_key(key: ApiKey) -> schemas.ApiKeyOut:
    expires_at = None if key.expires_at is None else rfc3339(key.expires_at)
    return schemas.ApiKeyOut(key.id, key.name, key.username, key.grants, rfc3339(key.created_at), expires_at)
