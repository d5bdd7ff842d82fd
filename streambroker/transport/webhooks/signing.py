"""Signatures of webhooks: Standard Webhooks 1.0, symmetric scheme (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable

from streambroker.core.errors import invalid

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64
_FRESH_BYTES = 32


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    """A fresh secret: ``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(random_bytes(_FRESH_BYTES)).decode()


def check_secret(secret: str) -> None:
    """Return when `secret` can sign: ``whsec_`` and 24 to 64 bytes in base64. Raises `Invalid`; never tells of it."""
    try:
        key = _key(secret)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise invalid("/secret", f"is {PREFIX} and {MIN_BYTES} to {MAX_BYTES} random bytes in base64; or leave it out")


def signed(secrets: Iterable[str], webhook_id: str, at_s: int, body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that sign a body: its id, the time in seconds since 1970, and one signature for each secret."""
    text = b"%b.%d.%b" % (webhook_id.encode(), at_s, body)
    signatures = [base64.b64encode(hmac.new(_key(secret), text, hashlib.sha256).digest()) for secret in secrets]
    return [
        (b"webhook-id", webhook_id.encode()),
        (b"webhook-timestamp", str(at_s).encode()),
        (b"webhook-signature", b" ".join(b"v1," + signature for signature in signatures)),
    ]


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
