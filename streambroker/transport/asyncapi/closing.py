"""The codes with which the broker closes a WebSocket: what each says, and what a client should do then."""

from __future__ import annotations

from typing import NamedTuple


class CloseCode(NamedTuple):
    """One code."""

    code: int
    meaning: str
    then: str


CLOSE_CODES = (
    CloseCode(4400, "not JSON, or neither an object nor an array of objects", "fix the client"),
    CloseCode(4401, "not, or no longer, authenticated; the session was logged out", "log in"),
    CloseCode(4403, "no right to this queue, or no longer; disconnected by an administrator", "do not come back"),
    CloseCode(4404, "no such queue, or it was deleted", "do not come back"),
    CloseCode(4408, "no hello within 5 s", "send it first"),
    CloseCode(4413, "a frame larger than max_frame; before the hello, one larger than 16 KiB", "send smaller frames"),
    CloseCode(4429, "too many connections, frames or pings", "come back later"),
    CloseCode(4450, "the token expired", "get a new one, come back"),
    CloseCode(4500, "a fault of the broker's", "come back with backoff"),
    CloseCode(4503, "the broker is stopping", "come back with backoff"),
    CloseCode(4508, "the client read nothing for 10 s", "come back with backoff"),
    CloseCode(4509, "no answer to a ping", "come back with backoff"),
)
