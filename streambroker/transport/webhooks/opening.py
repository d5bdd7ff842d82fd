"""Webhooks put together for one broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from streambroker.broker.broker import Broker
from streambroker.store.sql.accounts import Run
from streambroker.store.sql.webhooks import Webhooks
from streambroker.transport.http import Endpoint
from streambroker.transport.roster import Roster
from streambroker.transport.webhooks.addresses import Resolve, Vetting
from streambroker.transport.webhooks.answers import Lines
from streambroker.transport.webhooks.door import WebhooksDoor
from streambroker.transport.webhooks.fleet import Fleet
from streambroker.transport.webhooks.resolving import Resolver
from streambroker.transport.webhooks.rights import Keys, Rights, Users

_SWITCHED_OFF = "webhooks are off on this broker; its operator can set webhooks = on"
_NOT_INSTALLED = "this broker cannot send webhooks; its operator can: pip install 'streambroker[webhooks]'"


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator says of webhooks; see the settings of these names."""

    webhooks: bool = True
    webhook_allow_private: Iterable[str] = ()
    max_webhooks_per_user: int = 20


class WebhookService:
    """The fleet and its door. `wall` gives milliseconds since 1970 UTC; `resolve` looks names up."""

    def __init__(
        self,
        run: Run,
        broker: Broker,
        users: Users,
        keys: Keys,
        roster: Roster,
        options: Options,
        wall: Callable[[], int],
        resolve: Resolve | None = None,
    ) -> None:
        vetting = Vetting(options.webhook_allow_private, resolve or Resolver())

        def lines() -> Lines:
            from streambroker.transport.webhooks import sending  # what it needs is an extra, and not needed at a start

            return sending.Lines(vetting, wall)

        installed = find_spec("certifi") is not None
        off = _NOT_INSTALLED if options.webhooks else _SWITCHED_OFF
        self.fleet = Fleet(
            Webhooks(run),
            broker,
            Rights(users, keys, wall),
            roster,
            lines if options.webhooks and installed else None,
            off,
            wall,
            options.max_webhooks_per_user,
        )
        # Apart: whoever has the door look up names that hang, one after another, holds up no deliveries.
        self._door = WebhooksDoor(
            self.fleet, broker, Vetting(options.webhook_allow_private, resolve or Resolver()), wall
        )

    def endpoints(self) -> list[Endpoint]:
        """What the door serves."""
        return self._door.endpoints()
