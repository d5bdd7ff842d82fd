"""A client of graphql-transport-ws that says exactly what a test wants said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

SUBPROTOCOL = "graphql-transport-ws"
PATIENCE = 60.0


@dataclass(frozen=True)
class Talk:
    """One connection; every wait has a deadline that only a broken broker reaches."""

    connection: ClientConnection

    def say(self, kind: str, **members: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **members}))

    def raw(self) -> str:
        text = self.connection.recv(timeout=PATIENCE)
        assert isinstance(text, str)
        return text

    def hear(self, kind: str = "", number: str = "") -> dict[str, Any]:
        """The next message, which must be of that kind."""
        message: dict[str, Any] = json.loads(self.raw())
        assert not kind or message["type"] == kind, message
        assert not number or message["id"] == number, message
        return message

    def begin(self, token: str) -> None:
        self.say("connection_init", payload={"token": token})
        self.hear("connection_ack")

    def subscribe(self, number: str, query: str, **variables: Any) -> None:
        self.say("subscribe", id=number, payload={"query": query, "variables": variables})

    def settled(self) -> None:
        """Until everything that was said has been taken up: messages are taken in their order."""
        self.say("ping", payload={"settled": True})
        assert self.hear("pong")["payload"] == {"settled": True}

    def _hear_everything(self) -> NoReturn:
        while True:
            self.connection.recv(timeout=PATIENCE)

    def closed(self) -> int:
        """The code with which the broker closes; what it says before that is passed over."""
        with pytest.raises(ConnectionClosed) as end:
            self._hear_everything()
        assert end.value.rcvd is not None, "closed without a word"
        return end.value.rcvd.code


@contextmanager
def talk(url: str, protocols: tuple[str, ...] = (SUBPROTOCOL,), **options: Any) -> Iterator[Talk]:
    spoken = [Subprotocol(name) for name in protocols]
    with connect(f"{url}/graphql", subprotocols=spoken, proxy=None, max_size=None, **options) as connection:
        yield Talk(connection)
