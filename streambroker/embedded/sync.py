"""`streambroker.SyncBroker`: the broker within a program that has no event loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from streambroker.client.consuming import LeaseMode
from streambroker.client.sync import (
    Blocking,
    SyncApiKeys,
    SyncConsumers,
    SyncMessage,
    SyncMessages,
    SyncQueues,
    SyncUsers,
    SyncWebhooks,
    blocking,
    iterating,
)
from streambroker.embedded.broker import Broker
from streambroker.embedded.clock import ManualClock
from streambroker.embedded.heart import MEMORY, Heart
from streambroker.embedded.hosting import LoopThread, SameLoop
from streambroker.embedded.serving import Served


class SyncBroker(Blocking[Broker]):
    """A broker within the program: `with SyncBroker("data") as broker`. See `Broker`, whose methods it has, blocking.

    It lives on a thread of its own, and may be called from any other. Lists are iterators.
    """

    _run: LoopThread

    def __init__(self, path: str | Path = MEMORY, *, clock: ManualClock | None = None, **settings: Any) -> None:
        self._of = Broker(path, clock=clock, **settings)
        self._owns = True

    @classmethod
    def _attached(cls, heart: Heart, thread: LoopThread) -> SyncBroker:
        """A broker that is open on that thread; whoever opened it closes it."""
        broker = cls()
        broker._of, broker._run, broker._owns = Broker._attached(heart, SameLoop()), thread, False
        return broker

    def __getattr__(self, name: str) -> Any:
        if name == "_run":  # there is no thread yet
            raise RuntimeError("the broker is not open; use `with SyncBroker(…) as broker`")
        raise AttributeError(name)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open and recover the data; raises as `Broker.open`."""
        if "_run" in vars(self):
            raise RuntimeError("the broker is open, or was; make another one")
        self._run = LoopThread()
        try:
            self._run.run(self._of.open())
            self._run.when_dropped(self._of.close)
        except BaseException:
            self._run.stop()
            raise

    def close(self) -> None:
        """Give back what nobody has settled, and let go of the data. Again, it does nothing."""
        if self._owns and "_run" in vars(self) and self._run.is_here:
            try:
                self._run.run(self._of.close())
            finally:
                self._run.stop()

    # -- publish and consume -------------------------------------------------------------------------------------------

    publish = blocking(Broker.publish)
    publish_many = blocking(Broker.publish_many)

    def consume(
        self, queue: str, *, credit: int = 100, lease_mode: LeaseMode = "session", lease_ms: int | None = None
    ) -> Iterator[SyncMessage]:
        """Messages as they come; blocks while there is none. See `Broker.consume`."""
        for message in _consumed(self, queue, credit=credit, lease_mode=lease_mode, lease_ms=lease_ms):
            yield SyncMessage(message, self._run)

    def receive(
        self, queue: str, *, wait_ms: int = 0, lease_ms: int | None = None, timeout: float | None = None
    ) -> SyncMessage | None:
        """One message; None when none came within `wait_ms`."""
        received = self.receive_many(queue, most=1, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout)
        return received[0] if received else None

    def receive_many(
        self,
        queues: str | Sequence[str],
        *,
        most: int = 100,
        wait_ms: int = 0,
        lease_ms: int | None = None,
        timeout: float | None = None,
    ) -> list[SyncMessage]:
        """Up to `most` messages; waits for the first only."""
        messages = _received(self, queues, most=most, wait_ms=wait_ms, lease_ms=lease_ms, timeout=timeout)
        return [SyncMessage(message, self._run) for message in messages]

    # -- everything else -----------------------------------------------------------------------------------------------

    @property
    def queues(self) -> SyncQueues:
        """Create, look, change, purge, pause, resume, redrive, delete."""
        return SyncQueues(self._run, self._of.queues)

    @property
    def messages(self) -> SyncMessages:
        """By id: get, browse, delete, retry, timeline, ack, nack, extend."""
        return SyncMessages(self._run, self._of.messages)

    @property
    def users(self) -> SyncUsers:
        """Users and their rights, for when the data is served."""
        return SyncUsers(self._run, self._of.users)

    @property
    def api_keys(self) -> SyncApiKeys:
        """API keys, likewise."""
        return SyncApiKeys(self._run, self._of.api_keys)

    @property
    def consumers(self) -> SyncConsumers:
        """Who consumes: this program, and others while the broker is served."""
        return SyncConsumers(self._run, self._of.consumers)

    @property
    def webhooks(self) -> SyncWebhooks:
        """Queues that are pushed to a URL."""
        return SyncWebhooks(self._run, self._of.webhooks)

    stats = blocking(Broker.stats)
    events = iterating(Broker.events)

    # -- tests ---------------------------------------------------------------------------------------------------------

    advance = blocking(Broker.advance)

    @property
    def now(self) -> datetime:
        """See `Broker.now`."""
        return self._of.now

    @contextmanager
    def serve(self, port: int = 0, host: str = "127.0.0.1") -> Iterator[Served]:
        """See `Broker.serve`: `with broker.serve() as served`."""
        serving = self._of.serve(port, host)

        async def begin() -> Served:
            return await serving.__aenter__()

        async def end() -> None:
            await serving.__aexit__(None, None, None)

        served = self._run.run(begin())
        try:
            yield served
        finally:
            self._run.run(end())


_consumed = iterating(Broker.consume)
_received = blocking(Broker.receive_many)
