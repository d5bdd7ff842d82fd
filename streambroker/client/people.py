"""Users, API keys and tokens, as the broker answers them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from streambroker.client.model import Model


class Tokens(Model, frozen=True):
    """A pair of tokens; `expires_in` in seconds."""

    access_token: str
    refresh_token: str
    expires_in: float
    token_type: str = "bearer"  # noqa: S105

    def __repr__(self) -> str:
        return f"Tokens(expires_in={self.expires_in!r})"  # a traceback must not let its reader in


class Grant(Model, frozen=True):
    """Actions allowed on the queues that a pattern names (`*` any characters, `?` exactly one)."""

    queues: str
    actions: tuple[str, ...]


class User(Model, frozen=True):
    """A user."""

    username: str
    role: str
    grants: tuple[Grant, ...]
    disabled: bool
    created_at: datetime
    updated_at: datetime


class Credential(Model, frozen=True):
    """What proved who you are: `session` or `api_key`; `name` and `grants` are a key's own."""

    kind: str
    id: str
    name: str | None = None
    grants: tuple[Grant, ...] | None = None
    expires_at: datetime | None = None


class Me(User, frozen=True):
    """Who you are."""

    credential: Credential


class ApiKey(Model, frozen=True):
    """An API key; `grants` is None where it may do what its user may."""

    id: str
    name: str
    grants: tuple[Grant, ...] | None
    created_at: datetime
    expires_at: datetime | None
    username: str = ""


class NewApiKey(Model, frozen=True):
    """A key that was just made. `key` is shown only now."""

    id: str
    name: str
    key: str
    grants: tuple[Grant, ...] | None
    created_at: datetime
    expires_at: datetime | None

    def __repr__(self) -> str:
        return f"NewApiKey(id={self.id!r}, name={self.name!r})"  # as in `Tokens`


Grants = Sequence[Grant]
"""Grants as a call takes them."""
