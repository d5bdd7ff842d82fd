"""For whom a webhook acts, and what that one may do at the moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streambroker.core.access import Action, Decision, Principal, decide
from streambroker.store.sql.accounts import Account
from streambroker.store.sql.api_keys import ApiKey
from streambroker.store.sql.webhooks import Webhook
from streambroker.transport.auth.api_keys import principal_of


class Users(Protocol):
    """Who there is; see `auth.users.Users`."""

    def find(self, username: str) -> Account | None: ...


class Keys(Protocol):
    """Which API keys there are; see `auth.api_keys.Keyring`."""

    def find(self, key_id: str) -> ApiKey | None: ...


class Rights:
    """A webhook may do what the one that it acts for may do now: the user, or the API key of the user.

    Not what the session that made it may do, which ends long before the webhook does. `wall` gives milliseconds since
    1970 UTC.
    """

    def __init__(self, users: Users, keys: Keys, wall: Callable[[], int]) -> None:
        self._users = users
        self._keys = keys
        self._wall = wall

    def missing(self, webhook: Webhook) -> str | None:
        """Why the webhook may not take messages at the moment; None where it may."""
        account = self._users.find(webhook.username)
        if account is None:
            return f"the user {webhook.username}, for whom it acts, is gone"
        if account.disabled:
            return f"the user {webhook.username}, for whom it acts, is disabled"
        principal = Principal(account.username, account.role, account.grants, "", None, "")
        who = webhook.username
        if webhook.key_id is not None:
            key = self._keys.find(webhook.key_id)
            if key is None or key.username != webhook.username:
                return "the API key for which it acts is gone"
            if key.expires_at is not None and key.expires_at <= self._wall():
                return "the API key for which it acts has expired"
            principal, who = principal_of(key, account), f"the API key {key.name!r} of {webhook.username}"
        if decide(principal, Action.CONSUME, webhook.queue) is not Decision.ALLOW:
            return f"{who}, for whom it acts, may no longer consume from {webhook.queue}"
        return None
