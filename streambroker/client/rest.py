"""The REST half of a client: one broker, one pool of connections, one session, all that REST can do."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Self

import httpx

from streambroker.client.events import follow
from streambroker.client.http import DEFAULT_TIMEOUT_S, Http
from streambroker.client.messages_api import Messages
from streambroker.client.models import QueueEvent, Stats, Tokens
from streambroker.client.overview import Consumers, Logs, ready, stats
from streambroker.client.posting import Posting
from streambroker.client.queues import Queues
from streambroker.client.receiving import Receiving
from streambroker.client.retrying import RetryPolicy
from streambroker.client.tokens import FixedToken, Session, TokenSource
from streambroker.client.users import ApiKeys, Users
from streambroker.client.webhooks import Webhooks

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "STREAMBROKER_URL"
TOKEN_VARIABLE = "STREAMBROKER_TOKEN"  # noqa: S105


class Rest:
    """What a client can do over REST.

    Who is asking: `token` (an API key or an access token), or `username` and `password`, which make a session that is
    kept fresh. Without both, the environment's STREAMBROKER_TOKEN; `url` defaults to STREAMBROKER_URL likewise.
    `timeout` in seconds holds for each call. Raises `ValueError` for arguments that contradict each other.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        where = url or environment.get(URL_VARIABLE) or DEFAULT_URL
        self.http = Http(where, timeout=timeout, retry=retry, verify=verify, transport=transport)
        self.tokens = self.http.tokens = self._source(token, username, password, environment)
        self.queues = Queues(self.http)
        self.messages = Messages(self.http)
        self.users = Users(self.http)
        self.api_keys = ApiKeys(self.http)
        self.consumers = Consumers(self.http)
        self.webhooks = Webhooks(self.http)
        self.logs = Logs(self.http)
        self.posting = Posting(self.http)
        self.receiving = Receiving(self.http)

    def _source(
        self, token: str | None, username: str | None, password: str | None, environment: Mapping[str, str]
    ) -> TokenSource:
        if (username is None) != (password is None):
            raise ValueError("a username needs a password, and a password a username")
        if username is None or password is None:
            return FixedToken(token or environment.get(TOKEN_VARIABLE) or None)
        if token is not None:
            raise ValueError("give a token, or a username and a password, not both")
        return Session(lambda: login(self.http, username, password), lambda old: refresh(self.http, old))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The session stays: `logout` ends it."""
        await self.http.close()

    async def login(self, username: str, password: str, *, timeout: float | None = None) -> Tokens:
        """Begin a session; this client goes on as that user, and keeps the session fresh."""
        pair = await login(self.http, username, password, timeout=timeout)
        session = Session(lambda: login(self.http, username, password), lambda old: refresh(self.http, old))
        session.begin(pair)
        self.tokens = self.http.tokens = session
        return pair

    async def logout(self, *, timeout: float | None = None) -> None:
        """End the session: its tokens are refused everywhere from now on. With an API key it is `Forbidden`."""
        await self.http.call("POST", "/logout", timeout=timeout)
        await self.tokens.forget()

    async def stats(self, *, timeout: float | None = None) -> Stats:
        """What the broker does."""
        return await stats(self.http, timeout=timeout)

    async def ready(self, *, timeout: float | None = None) -> str:
        """``ready``; raises `Overloaded` or `Draining`, which say why not."""
        return await ready(self.http, timeout=timeout)

    def events(
        self, queue: str, *, kinds: Sequence[str] = (), last_event_id: str = ""
    ) -> AsyncGenerator[QueueEvent, None]:
        """What happens in a queue, live; see `events.follow`."""
        return follow(self.http, queue, kinds=kinds, last_event_id=last_event_id)


async def login(http: Http, username: str, password: str, *, timeout: float | None = None) -> Tokens:
    """A session's first pair of tokens. Raises `Unauthenticated`, `RateLimited`."""
    body = {"username": username, "password": password}
    pair: Tokens = await http.call("POST", "/login", Tokens, body=body, timeout=timeout, public=True)
    return pair


async def refresh(http: Http, refresh_token: str, *, timeout: float | None = None) -> Tokens:
    """The next pair. The token given is used up; raises `Unauthenticated`, `RefreshRaced`."""
    body = {"refresh_token": refresh_token}
    # Not repeatable: a repeat after a lost answer would be taken for a stolen token once the ten seconds are over.
    pair: Tokens = await http.call("POST", "/refresh", Tokens, body=body, timeout=timeout, public=True)
    return pair
