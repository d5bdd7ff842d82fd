"""Everything that goes over a client's connection: publishes, settles, subscriptions."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable

from streambroker.client import frames
from streambroker.client.connection import Connection, Reconnecting
from streambroker.client.consuming import Consumptions
from streambroker.client.errors import StreambrokerError, from_problem
from streambroker.client.http import Http
from streambroker.client.link import Link
from streambroker.client.messages_api import Messages
from streambroker.client.publishing import Publisher
from streambroker.client.settling import Settler

log = logging.getLogger("streambroker.client")


class Traffic:
    """Owns the parts and the connection that they share, which is opened when one of them first needs it.

    On the way out settles come first: an ack must not wait behind a megabyte of publishes.
    """

    def __init__(
        self,
        http: Http,
        messages: Messages,
        settle_timeout: float,
        reconnecting: Reconnecting,
        verify: ssl.SSLContext | bool,
    ) -> None:
        self.connection = Connection(http.url, lambda: http.tokens, self, reconnecting=reconnecting, verify=verify)
        need = self.connection.need
        self.publisher = Publisher(http, need, reconnecting.chance, lambda: self.connection.trouble)
        self.settler = Settler(messages, need, settle_timeout, reconnecting.chance, reconnecting.sleep)
        self.consumptions = Consumptions(self.settler.settle, need, reconnecting.chance)

    async def close(self, timeout: float) -> None:
        """End all subscriptions, wait so many seconds for settles to be confirmed, disconnect."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(consumption.close() for consumption in self.consumptions.all()))
                await self.settler.all_told()
        except TimeoutError:
            log.warning("closed with %d settles that the broker has not confirmed", self.settler.unconfirmed)
        finally:
            try:
                await self.connection.close()
            finally:
                self.publisher.close()
                self.settler.close()

    # -- `connection.User` ---------------------------------------------------------------------------------------------

    def wants_connection(self) -> bool:
        """See `User`. Settles need none: what was not confirmed goes over REST."""
        return self.publisher.busy or bool(self.consumptions)

    async def before_opening(self) -> None:
        """See `User`: what was settled but not confirmed must not be delivered again."""
        await self.settler.caught_up()

    def opened(self, link: Link) -> None:
        """See `User`."""
        self.consumptions.opened(link)

    def ended(self, link: Link) -> None:
        """See `User`."""
        self.consumptions.ended(link)
        self.settler.ended()

    def given_up(self, error: StreambrokerError) -> None:
        """See `User`."""
        self.publisher.fail_all(error)
        self.consumptions.fail_all(error)

    # -- `link.Party` --------------------------------------------------------------------------------------------------

    def outgoing(self, link: Link) -> Iterable[bytes]:
        """See `Party`."""
        yield from self.settler.outgoing(link)
        yield from self.publisher.outgoing(link)

    def incoming(self, link: Link, frame: frames.ServerFrame) -> None:
        """See `Party`."""
        match frame:
            case frames.Deliver():
                self.consumptions.delivered(frame)
            case frames.Lost():
                self.consumptions.lost(frame)
            case frames.Expiring():
                self.connection.expiring(link)
            case frames.Refused():
                self.consumptions.unsettling(link, from_problem(frame.problem))
            case _:
                pass
