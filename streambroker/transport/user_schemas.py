"""The bodies and answers of users, passwords and API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from streambroker.core.access import Grant, Grants, Role
from streambroker.core.names import USERNAME as USERNAME
from streambroker.transport.schemas import Body, Limit

Username = Annotated[str, msgspec.Meta(pattern=USERNAME, description="Name of a user.")]
NewPassword = Annotated[
    str, msgspec.Meta(min_length=8, max_length=1024, description="Not the user name; at most 1,024 bytes in UTF-8.")
]


class UserIn(Body, frozen=True):
    """A user to create."""

    username: Username
    password: NewPassword
    role: Role = Role.MEMBER
    grants: Grants = ()


class UserChange(Body, frozen=True):
    """What to change of a user; members that are absent stay. A password, or `disabled`, ends all sessions."""

    password: NewPassword | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    grants: Grants | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class PasswordChange(Body, frozen=True):
    """The password now and the one from now on."""

    current_password: Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]
    new_password: NewPassword


class ApiKeyIn(Body, frozen=True):
    """An API key to make. Without `grants` it may do what its user may, without `expires_at` it has no end."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    grants: Grants | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class KeyListQuery(Body, frozen=True):
    """A page of API keys; the cursor is the last one's id."""

    limit: Limit = 50
    cursor: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{24}$(?!\n)")] | None = None


class UserListQuery(Body, frozen=True):
    """A page of users; the cursor is the last one's name."""

    limit: Limit = 50
    cursor: Username | None = None


class UserOut(msgspec.Struct):
    """A user."""

    username: str
    role: Role
    grants: tuple[Grant, ...]
    disabled: bool
    created_at: str
    updated_at: str


class UserList(msgspec.Struct):
    """A page of users."""

    items: list[UserOut]
    next_cursor: str | None


class Credential(msgspec.Struct):
    """What proved who the caller is: a session with its id, or an API key with its id, name and own grants."""

    kind: Literal["session", "api_key"]
    id: str
    name: str | None
    grants: tuple[Grant, ...] | None
    expires_at: str | None


class Me(UserOut):
    """The caller; an API key may do less than its user, see `credential`."""

    credential: Credential


class ApiKeyOut(msgspec.Struct):
    """An API key; `grants` is null where it may do what its user may."""

    id: str
    name: str
    username: str
    grants: tuple[Grant, ...] | None
    created_at: str
    expires_at: str | None


class ApiKeyList(msgspec.Struct):
    """A page of API keys."""

    items: list[ApiKeyOut]
    next_cursor: str | None


class ApiKeyMade(msgspec.Struct):
    """A new API key. `key` is shown only now."""

    id: str
    name: str
    key: str
    grants: tuple[Grant, ...] | None
    created_at: str
    expires_at: str | None

    def __repr__(self) -> str:
        # A key in a traceback or a log line must not let its reader in.
        return f"ApiKeyMade(id={self.id!r})"
