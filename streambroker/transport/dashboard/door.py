"""Who comes in to the dashboard's feed."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from streambroker.core.access import Principal
from streambroker.core.errors import BrokerError
from streambroker.transport.counting import Refused
from streambroker.transport.dashboard.connection import Dashboard
from streambroker.transport.dashboard.feed import Feed
from streambroker.transport.limiting import RateLimits
from streambroker.transport.presence import Presence
from streambroker.transport.problems import refuse

PATH = "/dashboard/ws"


class DashboardDoor:
    """The ASGI application of the feed; what each dashboard is given. `wall` is milliseconds since 1970."""

    def __init__(
        self,
        feed: Feed,
        authenticate: Callable[[str], Principal],
        presence: Presence,
        rates: RateLimits,
        refused: Refused,
        wall: Callable[[], int],
    ) -> None:
        self.feed = feed
        self.authenticate = authenticate
        self.presence = presence
        self.rates = rates
        self.refused = refused
        self.wall = wall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            dashboard = Dashboard(self, scope, receive, send)
        except BrokerError as error:
            await refuse(scope, send, error)
            return
        await dashboard.run()

    def routes(self) -> list[WebSocketRoute]:
        """Its path."""
        return [WebSocketRoute(PATH, self)]
