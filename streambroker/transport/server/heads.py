"""What the head of a request may not be."""

from __future__ import annotations

from collections.abc import Sequence

from httptools import HttpRequestParser

from streambroker.core.errors import BrokerError, HeadTooLarge, Malformed, TargetTooLong
from streambroker.transport.server.bounds import MAX_FIELDS, MAX_HEAD, MAX_TARGET


def head_fault(target: bytes, fields: Sequence[tuple[bytes, bytes]], size: int, *, upgrade: bool) -> BrokerError | None:
    """Why a head is refused, of which this much has come. `size` is its bytes, 0 where few came at once.

    `upgrade`: it asks for one that is not simply ignored.
    """
    if len(target) > MAX_TARGET:
        return TargetTooLong(f"the path and query have more than {MAX_TARGET:,} bytes")
    if len(fields) > MAX_FIELDS:
        return HeadTooLarge(f"the request has more than {MAX_FIELDS} header fields")
    if size > MAX_HEAD:
        return HeadTooLarge(f"the head of the request has more than {MAX_HEAD:,} bytes")
    if upgrade and announces_body(fields):
        # The parser takes what follows an upgrade for something else, and would find a request in the body.
        return Malformed("a request that asks for an upgrade cannot have a body")
    return None


def announces_body(fields: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a body comes after a head."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0") != b"")
        for name, value in fields
    )


def without_upgrade(parser: HttpRequestParser, target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The head that was parsed as it would be if it asked for no upgrade."""
    first = b"%b %b HTTP/%b" % (parser.get_method(), target, parser.get_http_version().encode())
    return b"\r\n".join([first, *(b"%b: %b" % field for field in fields if field[0] != b"upgrade"), b"", b""])
