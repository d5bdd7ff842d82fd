"""What a request says of who it is."""

from __future__ import annotations

from collections.abc import Mapping

from streambroker.core.errors import Unauthenticated


def bearer(headers: Mapping[bytes, bytes]) -> str:
    """The token of the `Authorization` header. Raises `Unauthenticated`."""
    value = headers.get(b"authorization", b"")
    if value[:7].lower() != b"bearer ":
        raise Unauthenticated("log in first: POST /login, then send Authorization: Bearer <access token>")
    return value[7:].strip().decode("latin-1")
