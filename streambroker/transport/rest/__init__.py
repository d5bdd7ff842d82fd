"""The REST door: queues and messages."""

from __future__ import annotations

from collections.abc import Callable

from streambroker.broker.broker import Broker
from streambroker.protocol.messages import Limits
from streambroker.transport.http import Endpoint
from streambroker.transport.presence import Presence
from streambroker.transport.resource import Counters
from streambroker.transport.rest.consuming import ConsumeDoor
from streambroker.transport.rest.looking import MessageDoor
from streambroker.transport.rest.publishing import PublishDoor
from streambroker.transport.rest.queues import Oldest, QueueDoor
from streambroker.transport.rest.settling import SettleDoor


def endpoints(
    broker: Broker, limits: Limits, presence: Presence, counters: Counters, wall: Callable[[], int], oldest: Oldest
) -> list[Endpoint]:
    """What REST serves; the busiest paths first, for the router looks from the top."""
    return [
        *PublishDoor(broker, limits).endpoints(),
        *SettleDoor(broker).endpoints(),
        *ConsumeDoor(broker, presence, counters, wall).endpoints(),
        *MessageDoor(broker).endpoints(),
        *QueueDoor(broker, oldest).endpoints(),
    ]
