"""The keys that sign access tokens: where they come from and which of them are live."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from pathlib import Path

import jwt

from streambroker.core.errors import ConfigError

KEY_FILE = "jwt.key"
MIN_KEY_BYTES = 32
"""RFC 7518 §3.2: a key for HS256 has at least the 256 bits of its hash."""
_MIN_DISTINCT_BYTES = 10
"""32 random bytes have about 30 different ones, 64 hexadecimal digits of them about 16; fewer were typed by hand."""
_HOW = "make one with `openssl rand -hex 32`"
# What tutorials, templates and token debuggers show, without signs and in lower case. A random key in hexadecimal or
# base64 holds none of these words.
_WELL_KNOWN = re.compile(
    "changeme|changethis|changeit|changein|replaceme|replacethis|your(super|own|jwt|256bit)?secret|supersecret|"
    "stringsecretatleast|secretkey|mysecret|secrethere|placeholder|passwordpassword|abcdefghij|"
    "0123456789|1234567890|qwertyuiop|09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"
)

_log = logging.getLogger(__name__)


class SigningKeys:
    """The key that signs, and the previous one that is still accepted, by their ids.

    To rotate, start with the new key as `current` and the old one as `previous`; drop it once the access tokens it
    signed have expired. A key's id is derived from the key, so the same key has the same id on every start and node.
    Raises `ConfigError` for a key that cannot be used.
    """

    def __init__(self, current: bytes, previous: bytes | None = None) -> None:
        self.current_id = _key_id(current)
        self._by_id = {self.current_id: _checked(current)}
        if previous is not None:
            self._by_id[_key_id(previous)] = _checked(previous)

    @property
    def current(self) -> bytes:
        """The key that signs new tokens."""
        return self._by_id[self.current_id]

    def find(self, key_id: str) -> bytes | None:
        """The live key of that id. The id is a client's word: it is a dictionary key and nothing else."""
        return self._by_id.get(key_id)


def load_or_create_key(data_dir: Path, configured: str | None) -> bytes:
    """The key to sign with: `configured` in UTF-8, else what `jwt.key` in `data_dir` holds, made on the first start.

    The file appears complete or not at all, is on disk before this returns, and only its owner may read it (0600).
    The caller holds the data directory's lock. Raises what `configured_key` raises, and `ConfigError` for a damaged
    key file (it is never replaced unasked); `OSError` when the directory cannot be used.
    """
    if configured is not None:
        return configured_key(configured)
    path = data_dir / KEY_FILE
    try:
        return _read(path)
    except FileNotFoundError:
        key = secrets.token_bytes(MIN_KEY_BYTES)
        _create(path, key)
        return key


def configured_key(secret: str, setting: str = "jwt_secret") -> bytes:
    """The key that a setting gives, in UTF-8.

    Raises `ConfigError` for one under 32 bytes, one that can be guessed (known from tutorials, or of few different
    bytes), or one that HS256 cannot use. The key itself is never told.
    """
    key = secret.encode("utf-8", "surrogateescape")
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(f"{setting} has {len(key)} bytes; it needs at least {MIN_KEY_BYTES}: {_HOW}.")
    if _WELL_KNOWN.search(re.sub(r"[\W_]", "", secret).lower()):
        raise ConfigError(f"{setting} is known to everybody from examples; {_HOW}.")
    if len(set(key)) < _MIN_DISTINCT_BYTES:
        raise ConfigError(f"{setting} has only {len(set(key))} different bytes and can be guessed; {_HOW}.")
    return _checked(key)


def _key_id(key: bytes) -> str:
    return hmac.digest(key, b"streambroker key id", hashlib.sha256)[:8].hex()


def _checked(key: bytes) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(f"The signing key has {len(key)} bytes; it needs at least {MIN_KEY_BYTES}.")
    try:
        # PyJWT refuses what looks like a public key (CVE-2017-11424); better at the start than at the first login.
        jwt.PyJWS().encode(b"", key, algorithm="HS256")
    except jwt.PyJWTError as error:
        raise ConfigError(f"The signing key cannot be used: {error}") from None
    return key


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        _make_private(file.fileno())
        key = file.read(4096)
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(
            f"{KEY_FILE} in the data directory is damaged: {len(key)} bytes instead of {MIN_KEY_BYTES}. Restore it, "
            "or remove it to have a new one made (all users then log in again)."
        )
    return key


def _make_private(descriptor: int) -> None:
    if not os.fstat(descriptor).st_mode & 0o077:
        return
    # Volumes and restored backups come with other modes; worth a word, not a broker that does not start.
    _log.warning("%s can be read by others than its owner; setting its mode to 0600", KEY_FILE)
    try:
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        _log.warning("the mode of %s stays as it is: %s", KEY_FILE, error.strerror)


def _create(path: Path, key: bytes) -> None:
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
