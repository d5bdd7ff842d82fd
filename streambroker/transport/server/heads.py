"""What the head of a request may not be."""

from __future__ import annotations

from collections.abc import Sequence

from streambroker.core.errors import BrokerError, HeadTooLarge, Malformed, TargetTooLong
from streambroker.transport.server.bounds import MAX_FIELDS, MAX_HEAD, MAX_TARGET


def head_fault(target: bytes, fields: Sequence[tuple[bytes, bytes]], size: int, *, upgrade: bool) -> BrokerError | None:
    """Why a head is refused, of which this much has come. `size` is its bytes, 0 where few came at once."""
    if len(target) > MAX_TARGET:
        return TargetTooLong(f"the path and query have more than {MAX_TARGET:,} bytes")
    if len(fields) > MAX_FIELDS:
        return HeadTooLarge(f"the request has more than {MAX_FIELDS} header fields")
    if size > MAX_HEAD:
        return HeadTooLarge(f"the head of the request has more than {MAX_HEAD:,} bytes")
    if upgrade and any(_announces_body(name, value) for name, value in fields):
        # The parser takes what follows an upgrade for something else, and would find a request in the body.
        return Malformed("a request that asks for an upgrade cannot have a body")
    return None


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0") != b"")
