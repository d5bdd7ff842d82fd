"""Users, API keys, and who you are yourself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from streambroker.client.http import Http, segment
from streambroker.client.models import ApiKey, Grants, Me, NewApiKey, Tokens, User


class Users:
    """`client.users`; all but `me` and `change_password` are for admins. Every call raises as `Http.call`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def me(self, *, timeout: float | None = None) -> Me:
        """Who you are, and by what."""
        found: Me = await self._http.call("GET", "/users/me", Me, timeout=timeout)
        return found

    def list(self) -> AsyncIterator[User]:
        """All users, by name."""
        return self._http.pages("/users", User)

    async def get(self, username: str, *, timeout: float | None = None) -> User:
        """One user. Raises `NotFound`."""
        return await self._call("GET", _path(username), timeout=timeout)

    async def create(
        self,
        username: str,
        password: str,
        *,
        role: str = "member",
        grants: Grants = (),
        timeout: float | None = None,
    ) -> User:
        """A new user. Raises `Conflict` where the name is taken."""
        body = {"username": username, "password": password, "role": role, "grants": grants}
        return await self._call("POST", "/users", body=body, timeout=timeout)

    async def update(
        self,
        username: str,
        *,
        password: str | None = None,
        role: str | None = None,
        grants: Grants | None = None,
        disabled: bool | None = None,
        timeout: float | None = None,
    ) -> User:
        """Change what is given. A password, and `disabled`, end the user's sessions; `grants` are replaced whole."""
        given = {"password": password, "role": role, "grants": grants, "disabled": disabled}
        body = {name: value for name, value in given.items() if value is not None}
        return await self._call("PATCH", _path(username), body=body, timeout=timeout, repeatable=True)

    async def delete(self, username: str, *, timeout: float | None = None) -> None:
        """Delete a user with its sessions and API keys; queues and messages stay."""
        await self._http.call("DELETE", _path(username), timeout=timeout)

    async def change_password(self, current: str, new: str, *, timeout: float | None = None) -> Tokens:
        """Another password for yourself. All your sessions end; the answer is a new one's tokens."""
        body = {"current_password": current, "new_password": new}
        pair: Tokens = await self._http.call("POST", "/users/me/password", Tokens, body=body, timeout=timeout)
        return pair

    async def _call(self, method: str, path: str, **options: Any) -> User:
        user: User = await self._http.call(method, path, User, **options)
        return user


class ApiKeys:
    """`client.api_keys`. No API key makes or deletes keys: log in for that. Every call raises as `Http.call`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(self) -> AsyncIterator[ApiKey]:
        """Your keys, an admin's: everybody's, in the order in which they were made."""
        return self._http.pages("/api-keys", ApiKey)

    async def create(
        self,
        name: str,
        *,
        grants: Grants | None = None,
        expires_at: datetime | None = None,
        timeout: float | None = None,
    ) -> NewApiKey:
        """A new key; keep its `key`, which nobody can be shown again. Without `grants` it may do what you may."""
        given = {"name": name, "grants": grants, "expires_at": expires_at}
        body = {member: value for member, value in given.items() if value is not None}
        made: NewApiKey = await self._http.call("POST", "/api-keys", NewApiKey, body=body, timeout=timeout)
        return made

    async def delete(self, key_id: str, *, timeout: float | None = None) -> None:
        """Delete a key: it is refused from now on. Raises `NotFound`."""
        await self._http.call("DELETE", f"/api-keys/{segment(key_id)}", timeout=timeout)


def _path(username: str) -> str:
    return f"/users/{segment(username)}"
