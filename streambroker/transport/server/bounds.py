"""How long a client may take, and how much it may send, before anything is known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

NEVER = math.inf
"""When a deadline passes that there is not."""
MAX_HEAD = 64 * 1024
"""Bytes of a request's head, give or take one `PORTION`."""
MAX_TARGET = 8 * 1024
"""Bytes of a request's target: its path and query."""
MAX_FIELDS = 100
"""Header fields of one request."""
MAX_UNKNOWN = 16 * 1024
"""Bytes of a WebSocket message, give or take one `PORTION`, as long as nobody is recognized."""
PORTION = 4 * 1024
"""Bytes that are parsed at a time. What they hold at most (requests, frames) is what one client has at once."""

MAX_UNREAD = 64 * 1024 * 1024
"""Bytes that wait in memory to be read by clients, of all connections, unless those of a single one are more."""
FRAMING = 8
"""Bytes of chunk headers, extensions and trailers that a chunked body may have for each byte of content."""
REFUSED_AT_ONCE = 128
"""So many connections too many may wait for their request to be answered."""
GLIMPSE_S = 0.02
"""So long the others wait for it: some clients look at no answer that came before they have asked."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a client may take. Seconds."""

    head: float = 10.0
    """From the connection, or from the first byte of a further request, to the end of its head."""
    body: float = 30.0
    """From there to the end of its body; a large one has more, as long as it comes at `rate`. As long has a WebSocket
    message that comes in fragments."""
    rate: float = 100_000.0
    """Bytes a second."""
    rest: float = 5.0
    """For what is still to come of a body whose answer is already out."""
    unread: float = 10.0
    """Without taking any of what waits to be sent to it."""
    least: float = 10_000.0
    """Bytes a second at which it has to take what waits, beyond `unread`."""
    refused: float = 1.0
    """To send a request on a connection that is one too many, or to be recognized on one too many of its address."""
    idle: float = 75.0
    """Between two requests on one connection."""
    idle_unknown: float = 10.0
    """Likewise, as long as nobody is recognized on it."""
