"""A broker on a store in memory, its dashboard's door, and dashboards that are plain ASGI, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec

from streambroker.core.access import Principal
from streambroker.core.errors import Unauthenticated
from streambroker.transport.counting import Refused
from streambroker.transport.dashboard.door import PATH, DashboardDoor
from streambroker.transport.dashboard.feed import Feed, Sources
from streambroker.transport.dashboard.frames import Refusing
from streambroker.transport.limiting import Kind, RateLimits
from streambroker.transport.presence import Presence
from streambroker.transport.resource import Counters
from streambroker.transport.status import Status
from tests.broker.virtual import clock
from tests.broker.world import USERS, Frame, Peer, World


class Idle:
    """A process that takes nothing."""

    cpu_percent = 12.5
    memory_mb = 64.0


class House(World):
    """A world with a dashboard. `users` are who they are now, by name; None: nobody any more."""

    def __init__(self, most_open: int = 0) -> None:
        super().__init__()
        self.users: dict[str, Principal | None] = dict(USERS)
        self.presence = Presence(lambda principal: self.users.get(principal.username), most_open)
        self.counters = Counters()
        self.status = Status(self.sockets, self.counters, Idle())
        self.refusing: Refusing | None = None
        self.percentiles: tuple[float, float, float] | None = (1.0, 2.0, 3.0)
        sources = Sources(
            self.depths, self.oldest, lambda: None, lambda: self.percentiles, lambda: None, lambda: self.refusing
        )
        self.feed = Feed(self.broker, self.presence.consumers, self.status, sources)
        rates = RateLimits({Kind.DEFAULT: None}, clock)
        self.dashboards = DashboardDoor(self.feed, self.known, self.presence, rates, Refused(), clock)
        # The world's own door, with this presence: its consumers are what dashboards see.
        self.door.presence = self.presence

    def known(self, token: str) -> Principal:
        principal = self.users.get(token)
        if principal is None:
            raise Unauthenticated("who is that?")
        return principal

    def depths(self) -> Mapping[str, Sequence[int]]:
        return {q.name: msgspec.structs.astuple(self.engine.depth(q.name)) for q in self.engine.queues()}

    async def oldest(self, names: Sequence[str]) -> Mapping[str, int]:
        return {name: since for name in names if (since := self.engine.oldest_ready(name)) is not None}

    def change(self, name: str, principal: Principal | None) -> None:
        """The user has other rights from now on, or none at all."""
        self.users[name] = principal
        self.presence.changed(name)

    async def advance(self, intervals: int = 1) -> None:
        """So many intervals pass."""
        for _ in range(intervals):
            await asyncio.sleep(1)
            self.feed.advance()
            await asyncio.sleep(0)

    async def open(self, user: str | None = "admin", **scope: Any) -> Viewer:
        """A dashboard whose upgrade is under way; without a user it has said nothing."""
        viewer = Viewer(user, **scope)
        task = asyncio.create_task(self.dashboards(viewer.scope, viewer.receive, viewer.take))
        self._tasks.add(task)
        return viewer

    async def look(self, user: str = "admin") -> Viewer:
        """A dashboard that is welcomed and has its history."""
        viewer = await self.open(user)
        await viewer.frame("welcome")
        await viewer.frame("history")
        return viewer


class Viewer(Peer):
    """The browser's end of a dashboard. `refused` is the status with which the upgrade was refused."""

    def __init__(self, user: str | None, **scope: Any) -> None:
        super().__init__("/ws", user or "", b"")
        if user is None:
            del self.scope["streambroker.headers"][b"authorization"]
        self.scope |= {"path": PATH, **scope}
        self.refused: int | None = None
        self.refusal_body = b""

    def _read(self, event: Any) -> None:
        match event["type"]:
            case "websocket.http.response.start":
                self.refused = event["status"]
            case "websocket.http.response.body":
                self.refusal_body = event["body"]
            case _:
                super()._read(event)

    async def watch(self, *topics: str, events: str | None = None) -> None:
        answer = await self.call("watch", topics=list(topics), events=events)
        assert answer["op"] == "ok", answer

    def taken(self) -> list[Frame]:
        """What it was told and nobody asked for yet."""
        taken, self.inbox = self.inbox, []
        return taken


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[House]:
    """A house with a started broker."""
    house = House(**options)
    await house.broker.start()
    try:
        yield house
    finally:
        await house.feed.close_all(1001, "the test is over")
        await house.sockets.close_all(1001, "the test is over")
        await house.broker.stop()


def with_grants(principal: Principal, other: Principal) -> Principal:
    """The user with the rights of another one."""
    return replace(principal, role=other.role, grants=other.grants)
