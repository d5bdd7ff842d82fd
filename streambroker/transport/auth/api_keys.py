"""API keys: secrets of workers, which act for the user that made them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streambroker.core.access import Grant, Principal, Role
from streambroker.core.errors import NotFound, RateLimited, Unauthenticated, invalid
from streambroker.store.sql.accounts import Account
from streambroker.store.sql.api_keys import Added, ApiKey, ApiKeys
from streambroker.transport.auth.commitments import Commitments
from streambroker.transport.auth.tokens import api_key_digest, new_api_key

MAX_KEYS_OF_A_USER = 100
_RETRY_AFTER_MS = 60_000

_log = logging.getLogger(__name__)


class Keyring:
    """Owns all API keys, in memory and in the store; used from the event loop only.

    `changed(username)` is called at once when a key of that user is gone. Whether a user may make or delete keys is
    the caller's to ask.
    """

    def __init__(
        self,
        stored: ApiKeys,
        commitments: Commitments,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        changed: Callable[[str], None],
    ) -> None:
        self._stored = stored
        self._commitments = commitments
        self._clock = clock
        self._random_bytes = random_bytes
        self._changed = changed
        self._keys: dict[str, ApiKey] = {}
        self._by_digest: dict[bytes, ApiKey] = {}

    async def load(self) -> None:
        """Read all keys; call it once, before anything else."""
        for key in await self._stored.all():
            self._put(key)

    def find(self, key_id: str) -> ApiKey | None:
        """The key with that id."""
        return self._keys.get(key_id)

    def identify(self, text: str, now: int) -> ApiKey:
        """The key whose secret `text` is. Raises `Unauthenticated` when it is none, or its time is over."""
        digest = api_key_digest(text)
        key = None if digest is None else self._by_digest.get(digest)
        if key is None:
            raise bad_key()
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthenticated("The API key has expired. Make a new one.")
        return key

    def page(self, username: str | None, after: str, most: int, only: str | None = None) -> list[ApiKey]:
        """Keys in the order in which they were made, those after the id `after`; of one user, or (None) of all.

        `only` is the id of the one key that may be among them.
        """
        one = self._keys.values() if only is None else [key for key in [self.find(only)] if key is not None]
        ids = sorted(k.id for k in one if k.id > after and username in (None, k.username))
        return [self._keys[key_id] for key_id in ids[:most]]

    async def create(
        self, username: str, name: str, grants: tuple[Grant, ...] | None, expires_at: int | None
    ) -> tuple[ApiKey, str]:
        """A new key of a user, and its secret, which is told nowhere else.

        Raises `Invalid` for an end in the past, `RateLimited` when the user has as many keys as one may have.
        """
        now = self._clock()
        if expires_at is not None and expires_at <= now:
            raise invalid("/expires_at", "is in the past")
        secret = new_api_key(self._random_bytes)
        digest = api_key_digest(secret)
        assert digest is not None
        key_id = f"{now:012x}{self._random_bytes(6).hex()}"
        key = ApiKey(key_id, username, name, digest, grants, now, expires_at)
        await self._commitments.keep(self._add(key))
        return key, secret

    async def remove(self, key_id: str, username: str | None) -> None:
        """Delete a key; it is refused from now on. Raises `NotFound`, also for one that is not `username`'s."""
        key = self.find(key_id)
        if key is None or username not in (None, key.username):
            raise NotFound("There is no such API key.")
        await self._commitments.keep(self._remove(key))

    def forget(self, username: str) -> None:
        """The user is gone, and the keys with it."""
        for key in [key for key in self._keys.values() if key.username == username]:
            self._drop(key)

    async def _add(self, key: ApiKey) -> None:
        match await self._stored.add(key, MAX_KEYS_OF_A_USER):
            case Added.ADDED:
                self._put(key)
                _log.info("user %r made API key %s", key.username, key.id)
            case Added.TOO_MANY:
                raise RateLimited(
                    f"You have {MAX_KEYS_OF_A_USER} API keys, the most that a user may have; delete some.",
                    retry_after_ms=_RETRY_AFTER_MS,
                )
            case Added.NO_USER:
                raise Unauthenticated("The user of this session is gone.")

    async def _remove(self, key: ApiKey) -> None:
        await self._stored.remove(key.id)
        self._drop(key)
        _log.info("API key %s of user %r was deleted", key.id, key.username)
        self._changed(key.username)

    def _put(self, key: ApiKey) -> None:
        self._keys[key.id] = self._by_digest[key.digest] = key

    def _drop(self, key: ApiKey) -> None:
        self._keys.pop(key.id, None)
        self._by_digest.pop(key.digest, None)


def principal_of(key: ApiKey, account: Account) -> Principal:
    """Who a key is at the moment: its user, or a member that has the key's grants and no right its user has not."""
    if key.grants is None:
        role, grants, ceiling = account.role, account.grants, None
    else:
        role, grants = Role.MEMBER, key.grants
        ceiling = None if account.role is Role.ADMIN else account.grants
    return Principal(account.username, role, grants, "", key.expires_at, "", key.id, ceiling)


def bad_key() -> Unauthenticated:
    """What is told of a key that lets nobody in."""
    return Unauthenticated("The API key is not valid.")
