"""What comes of a request to a receiver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from streambroker.transport.webhooks.addresses import Target

Outcome = Literal["delivered", "gone", "refused", "timeout", "unreachable", "blocked"]
"""2xx, 410, any other status, none in time, no connection or no HTTP, and an address that is not connected to."""
OUTCOMES: tuple[Outcome, ...] = ("delivered", "gone", "refused", "timeout", "unreachable", "blocked")
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request. Without `status` no answer came, and `error` says why; `response` is how its body began.

    `retry_after_ms` is how long the receiver asked to wait.
    """

    outcome: Outcome
    latency_ms: int
    status: int | None = None
    error: str | None = None
    response: str | None = None
    retry_after_ms: int | None = None


class Line(Protocol):
    """Requests to one receiver; see `sending.Line`, which needs what only an extra installs."""

    async def post(self, body: bytes, headers: Headers, timeout_ms: int) -> Answer:
        """POST a body of JSON; all of it takes `timeout_ms` at most."""
        ...

    async def close(self) -> None:
        """Close the connections; requests under way fail."""
        ...


class Lines(Protocol):
    """Makes lines; see `sending.Lines`."""

    def __call__(self, target: Target, connections: int) -> Line:
        """A line that opens so many connections at a time; to be closed by whoever asked for it."""
        ...
