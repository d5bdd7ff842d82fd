"""Requests of all webhooks: whose turn it is, how they are signed, what is counted and noted of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from weakref import WeakValueDictionary

from streambroker.core.message import Message
from streambroker.core.names import format_id
from streambroker.store.sql.webhooks import Delivery, Kind, Webhook
from streambroker.transport.webhooks.addresses import target
from streambroker.transport.webhooks.answers import OUTCOMES, Answer, Headers, Line, Lines
from streambroker.transport.webhooks.journal import Journal
from streambroker.transport.webhooks.signing import signed

MAX_REQUESTS = 500
"""Requests under way for everybody together; each takes a file descriptor."""
MAX_REQUESTS_OF_A_USER = 100
SPARE_CONNECTIONS = 2
"""Beyond a webhook's `concurrency`: for a test and a redelivery, which do not wait for messages."""


class Courier:
    """Makes the requests. Owns their turns, by user and for all; used from the event loop.

    `lines` is called when the first request is to be made: what it takes need not be there before. `wall` gives
    milliseconds since 1970 UTC.
    """

    def __init__(self, lines: Callable[[], Lines], journal: Journal, wall: Callable[[], int]) -> None:
        self.under_way = 0
        self.outcomes: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self._lines = cache(lines)
        self._journal = journal
        self._wall = wall
        self._turns = asyncio.Semaphore(MAX_REQUESTS)
        self._turns_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def line(self, webhook: Webhook) -> Line:
        """Connections for one webhook, to be closed by whoever asked for them. Raises `Invalid`."""
        return self._lines()(target(webhook.url), webhook.concurrency + SPARE_CONNECTIONS)

    async def deliver(
        self,
        webhook: Webhook,
        line: Line,
        kind: Kind,
        name: str,
        body: bytes,
        headers: Headers = (),
        message: tuple[int, int] | None = None,
        going: Callable[[], bool] = lambda: True,
    ) -> tuple[Answer, Delivery] | None:
        """Make one request when its turn comes: what came of it, and how that was noted.

        `name` is its webhook-id, `message` the id and the attempt of a message. None where `going` said no: then
        nothing was sent.
        """
        async with self._turn(webhook.username):
            if not going():
                return None
            at = self._wall()
            own = [(name.encode(), value.encode()) for name, value in webhook.headers]
            sealed = signed(secrets(webhook, at), name, at // 1_000, body)
            answer = await line.post(body, [*sealed, *headers, *own], webhook.timeout_ms)
        self.outcomes[answer.outcome] += 1
        message_id, attempt = message or (None, None)
        return answer, self._journal.note(webhook.id, kind, at, message_id, attempt, answer)

    @asynccontextmanager
    async def _turn(self, username: str) -> AsyncIterator[None]:
        # The user's own first: who waits there takes no place from others. Weak: it is there while somebody uses it.
        own = self._turns_of.setdefault(username, asyncio.Semaphore(MAX_REQUESTS_OF_A_USER))
        async with own, self._turns:
            self.under_way += 1
            try:
                yield
            finally:
                self.under_way -= 1


class Posting:
    """The requests of one webhook; a `pushing.Post`."""

    def __init__(self, courier: Courier, webhook: Webhook, line: Line) -> None:
        self._courier = courier
        self._webhook = webhook
        self._line = line

    async def __call__(
        self, message: Message, body: bytes, headers: Headers, going: Callable[[], bool], /
    ) -> Answer | None:
        """See `pushing.Post`."""
        about = message.id, message.attempt
        sent = await self._courier.deliver(
            self._webhook, self._line, "message", format_id(message.id), body, headers, about, going
        )
        return None if sent is None else sent[0]


def secrets(webhook: Webhook, now: int) -> list[str]:
    """The secrets that sign at the moment, the newest first."""
    old = webhook.previous_secret
    return [webhook.secret, *([old] if old is not None and (webhook.previous_until or 0) > now else [])]
