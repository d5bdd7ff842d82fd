"""What the SDK shows at the broker's doors: an API key or access token as given, or a session that it keeps fresh.

One source serves REST and the WebSocket of a client, so that there is one session and one refresh at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from streambroker.client.errors import RefreshRaced, Unauthenticated
from streambroker.client.models import Tokens

EARLY_S = 30
"""A token is renewed so many seconds before its end, or after nine tenths of a life that is shorter."""


class TokenSource(Protocol):
    """Where tokens come from."""

    async def token(self) -> str | None:
        """The token to use now; None where there is none. Raises what a login raises."""
        ...

    async def renew(self, refused: str | None) -> str | None:
        """Another token than the one that was refused, or that is about to end; None where there cannot be one.

        Raises what a login raises. Many may ask at once: one login or refresh is made for all.
        """
        ...

    async def forget(self) -> None:
        """Drop the session that there is, so that the next use logs in again."""
        ...


class FixedToken:
    """An API key, or an access token that somebody else keeps fresh; None or empty for nobody. See `TokenSource`.

    White space around it, such as a file's end of line, is taken off. Raises `ValueError` for what no token can be: it
    could not be sent, and the library that refuses to would name it in its error.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.strip() or None
        if self._token is not None and not (self._token.isascii() and self._token.isprintable()):
            raise ValueError("the token holds characters that no token has")

    async def token(self) -> str | None:
        """See `TokenSource`."""
        return self._token

    async def renew(self, refused: str | None) -> str | None:
        """See `TokenSource`: there is no other."""
        return None if self._token == refused else self._token

    async def forget(self) -> None:
        """See `TokenSource`: there is nothing to forget."""


class Session:
    """A user's session: logs in at the first use, refreshes before the token ends, logs in anew where that fails.

    `login` and `refresh` are the broker's calls; `clock` tells seconds that only go on. See `TokenSource`.
    """

    def __init__(
        self,
        login: Callable[[], Awaitable[Tokens]],
        refresh: Callable[[str], Awaitable[Tokens]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login = login
        self._refresh = refresh
        self._clock = clock
        self._pair: Tokens | None = None
        self._fresh_until = 0.0
        self._renewing: asyncio.Task[Tokens] | None = None

    async def token(self) -> str:
        """See `TokenSource`."""
        if self._pair is not None and self._clock() < self._fresh_until:
            return self._pair.access_token
        return await self._renewed()

    async def renew(self, refused: str | None) -> str:
        """See `TokenSource`."""
        if self._pair is not None and self._pair.access_token != refused and self._clock() < self._fresh_until:
            return self._pair.access_token  # somebody else has just been told the same
        return await self._renewed()

    async def forget(self) -> None:
        """See `TokenSource`."""
        self._pair = None

    def begin(self, pair: Tokens) -> None:
        """Go on with a pair that the broker has just given (a login elsewhere, another password)."""
        self._pair = pair
        self._fresh_until = self._clock() + pair.expires_in - min(EARLY_S, pair.expires_in / 10)

    async def _renewed(self) -> str:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._pair_anew())
        # A refresh token works once: the answer must be kept even if whoever asked for it has gone.
        pair = await asyncio.shield(self._renewing)
        return pair.access_token

    async def _pair_anew(self) -> Tokens:
        pair = await self._refreshed() or await self._login()
        self.begin(pair)
        return pair

    async def _refreshed(self) -> Tokens | None:
        """A pair for the refresh token that there is; None where only a login helps."""
        if self._pair is None:
            return None
        try:
            return await self._refresh(self._pair.refresh_token)
        except (Unauthenticated, RefreshRaced):
            # Raced: the answer to our own first try was lost, and with it the only pair that was given.
            return None
