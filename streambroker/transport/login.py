"""The door where one becomes somebody: login, refresh, logout."""

from __future__ import annotations

from streambroker.protocol.json import JsonDecoder
from streambroker.transport import schemas
from streambroker.transport.auditing import audited
from streambroker.transport.auth.service import AuthService, TokenPair
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.limiting import Kind

MAX_LOGIN_BODY = 32 * 1024

_login = JsonDecoder[schemas.Login](schemas.Login)
_refresh = JsonDecoder[schemas.Refresh](schemas.Refresh)


class LoginDoor:
    """Handlers over the `AuthService`."""

    def __init__(self, auth: AuthService) -> None:
        self._auth = auth

    @audited
    async def login(self, call: Call) -> Reply:
        """Exchange a user name and a password for a pair of tokens."""
        given = await call.json(_login, MAX_LOGIN_BODY)
        return reply(await self._auth.login(given.username, given.password, call.scope["streambroker.address"]))

    @audited
    async def refresh(self, call: Call) -> Reply:
        """Exchange a refresh token for a new pair; the old one is used up."""
        given = await call.json(_refresh, MAX_LOGIN_BODY)
        return reply(await self._auth.refresh(given.refresh_token))

    @audited
    async def logout(self, call: Call) -> Reply:
        """End this session: its tokens are refused from now on, its sockets are closed."""
        await self._auth.logout(call.user)
        return Reply(204)

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        answers = {200: TokenPair}
        return [
            Endpoint(
                "POST",
                "/login",
                self.login,
                "Log in",
                schemas.Login,
                answers,
                public=True,
                codes=("unauthenticated",),
                limit=Kind.LOGIN,
            ),
            Endpoint(
                "POST",
                "/refresh",
                self.refresh,
                "Refresh the tokens",
                schemas.Refresh,
                answers,
                public=True,
                codes=("unauthenticated", "refresh_raced"),
            ),
            Endpoint("POST", "/logout", self.logout, "Log out", answers={204: None}, session=True),
        ]
