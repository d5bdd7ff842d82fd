"""The broker within a program, without a server, for programs of their own and for tests."""

from __future__ import annotations

from streambroker.client.messages import Message
from streambroker.client.sync import SyncMessage
from streambroker.embedded.broker import Broker
from streambroker.embedded.clock import ManualClock
from streambroker.embedded.serving import Served
from streambroker.embedded.sync import SyncBroker

__all__ = ["Broker", "ManualClock", "Message", "Served", "SyncBroker", "SyncMessage"]
