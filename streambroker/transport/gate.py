"""The one gate that every request passes: who it is, how often it may come, and whether that still holds."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

from streambroker.core.access import Principal
from streambroker.core.errors import Conflict, RateLimited, Unauthenticated
from streambroker.transport.counting import Refused
from streambroker.transport.credentials import bearer
from streambroker.transport.limiting import Kind, RateLimits, counted_as, network

_REMEMBERED, _REMEMBERED_BYTES = 1_024, 1_024


def recognized(scope: Scope) -> None:
    """Tell the server that somebody is known on this connection: it is a stranger's no more."""
    if (told := scope.get("streambroker.recognized")) is not None:
        told()


class Gate:
    """Asked before every handler, and again where a request took its time. Owned by the event loop.

    `still` tells who a principal is now, None when it is nobody any more; `changes` counts how often that may have
    become another answer for anybody.
    """

    def __init__(
        self,
        authenticate: Callable[[str], Principal],
        still: Callable[[Principal], Principal | None],
        rates: RateLimits,
    ) -> None:
        self.refused = Refused()
        self.changes = 0
        self._authenticate = authenticate
        self._still = still
        self._rates = rates
        # The words of an `Authorization` header, with the token in them, whose it was found to be, and under which name
        # that counts. It says nothing of whether the token is still good.
        self._read: dict[bytes, tuple[str, Principal, str]] = {}

    def changed(self, username: str) -> None:
        """Somebody's sessions, keys or rights have changed."""
        self.changes += 1

    def at_once(self, scope: Scope, kind: Kind) -> Principal | None:
        """As `pass_in` for somebody who was here before with the same words and has not used up a share of the limit.

        None, and nothing done, where it takes `pass_in` to say more.
        """
        words = scope["streambroker.headers"].get(b"authorization")
        read = self._read.get(words)
        if read is None:
            return None
        token, known, who = read
        try:
            principal = self._authenticate(token)
        except Unauthenticated:
            return None
        if principal is not known or not self._rates.take(kind, who):
            del self._read[words]
            return None
        scope["streambroker.user"] = principal.username
        scope["streambroker.limited"] = (kind, who)
        recognized(scope)
        return principal

    def _remember(self, scope: Scope, principal: Principal) -> None:
        """What `at_once` needs; called where somebody was let in."""
        headers = scope["streambroker.headers"]
        words = headers[b"authorization"]
        if len(words) > _REMEMBERED_BYTES:
            return
        if len(self._read) >= _REMEMBERED:
            self._read.clear()
        self._read[words] = bearer(headers), principal, counted_as(principal)

    def recognize(self, scope: Scope) -> Principal:
        """Who asks. Raises `Unauthenticated`."""
        principal = self._authenticate(bearer(scope["streambroker.headers"]))
        scope["streambroker.user"] = principal.username
        recognized(scope)
        return principal

    def still_welcome(self, principal: Principal) -> None:
        """Return where nothing has changed for it since it was recognized.

        Raises `Unauthenticated` where its session or key has ended, `Conflict` where it has other rights now.
        """
        now = self._still(principal)
        if now is None:
            raise Unauthenticated("the session or key ended while the request came; log in again")
        if now is not principal:
            raise Conflict("your rights changed while the request came; nothing of it was done, send it again")

    async def admit(self, scope: Scope, principal: Principal | None, kind: Kind | None) -> None:
        """Count a request of a user, or of an address where nobody is known. Raises `RateLimited`."""
        if kind is None:
            return
        who = counted_as(principal) if principal is not None else f"a:{network(scope['streambroker.address'])}"
        scope["streambroker.limited"] = (kind, who)
        if not self._rates.take(kind, who):
            try:
                await self._rates.refill(kind, who)
            except RateLimited:
                self.refused.limited(kind)
                raise

    async def pass_in(self, scope: Scope, kind: Kind | None) -> Principal:
        """Who asks, counted. Raises `Unauthenticated`, which is counted for the address, and `RateLimited`."""
        try:
            principal = self.recognize(scope)
        except Unauthenticated:
            self.refused.unknown(scope["streambroker.headers"].get(b"authorization"))
            await self.admit(scope, None, Kind.DEFAULT)
            raise
        await self.admit(scope, principal, kind)
        self._remember(scope, principal)
        return principal

    def told_lines(self, scope: Scope) -> bytes:
        """As `told`, as lines of a head."""
        limited = scope.get("streambroker.limited")
        standing = None if limited is None else self._rates.standing(*limited)
        return b"" if standing is None else standing.lines()

    def told(self, scope: Scope) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that tell a client how it stands with its limit."""
        limited = scope.get("streambroker.limited")
        standing = None if limited is None else self._rates.standing(*limited)
        return () if standing is None else standing.headers()
