"""The composition root: settings → store → broker → doors → one ASGI application, and its life from start to drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from streambroker.broker.broker import Broker
from streambroker.broker.clock import steady_clock
from streambroker.config import Settings
from streambroker.core.errors import BrokerError, DataDirUnusable, Overloaded, StorageFailed
from streambroker.notify.local import LocalNotifier
from streambroker.observe import logging as logging_setup
from streambroker.protocol.messages import Limits
from streambroker.store.sql.sqlite import SqliteStore
from streambroker.transport import rest, server
from streambroker.transport.auth.keys import SigningKeys, configured_key, load_or_create_key
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.service import AuthService
from streambroker.transport.auth.tokens import AccessTokens
from streambroker.transport.front import Front, Hosts
from streambroker.transport.http import Endpoint
from streambroker.transport.limiting import RateLimits
from streambroker.transport.login import LoginDoor
from streambroker.transport.openapi import describe
from streambroker.transport.presence import Presence
from streambroker.transport.problems import refuse
from streambroker.transport.resource import Counters, Gate, Nowhere, Resource
from streambroker.transport.routes import routes
from streambroker.transport.status import StatusDoor
from streambroker.transport.users import UserDoor
from streambroker.transport.websocket import Sockets, WebSocketDoor

log = logging.getLogger(__name__)

FRAME_OVERHEAD = 64 * 1024
"""What a WebSocket frame may hold beside the largest content: 1 MiB + 64 KiB by default."""
_DRAIN_LOOK_S = 0.05
FAIL_STOP_S = 15
"""How long a broker whose storage failed may take to end, in seconds."""
EXIT_INPUT_OUTPUT = 74


def wall_ms() -> int:
    """Milliseconds since 1970 by the machine's clock."""
    return time.time_ns() // 1_000_000


class Node:
    """One running broker: everything that is opened at the start and closed at the stop."""

    def __init__(self, settings: Settings, store: SqliteStore, broker: Broker, auth: AuthService, passwords: Passwords):
        self.broker = broker
        self.sockets = Sockets()
        self.password: str | None = None
        self._settings = settings
        self._store = store
        self._auth = auth
        self._passwords = passwords
        self._rates = RateLimits()
        self._presence = Presence(lambda principal: None, settings.max_connections_per_user)
        self._hosts = Hosts(("*",))
        auth.on_revoked(lambda sid: None)

    @classmethod
    async def open(cls, settings: Settings, on_failure: Callable[[StorageFailed], None]) -> Node:
        """Open and recover the data, load users and queues.

        Raises `DataDirUnusable`, `DataDamaged` or `ConfigError`.
        """
        clock = steady_clock()
        data_dir = Path(settings.data_dir)
        store = await SqliteStore.open(data_dir, clock(), on_failure)
        try:
            key = load_or_create_key(data_dir, settings.jwt_secret)
            old = settings.jwt_secret_previous
            previous = None if old is None else configured_key(old, "jwt_secret_previous")
            tokens = AccessTokens(SigningKeys(key, previous), lifetime_ms=settings.access_token_ms)
            passwords = Passwords()
            auth = AuthService(
                store.work, passwords, tokens, refresh_token_ms=settings.refresh_token_ms, clock=wall_ms
            )
            await auth.start()
            broker = Broker(store, LocalNotifier(), clock, store.last_id, settings.auto_create_queues)
            node = cls(settings, store, broker, auth, passwords)
            node.password = await auth.users.first_start(settings.admin_password)
            await broker.start()
        except OSError as error:
            await store.close()
            raise DataDirUnusable(f"the data directory {data_dir} cannot be used: {error}") from error
        except BaseException:
            await store.close()
            raise
        return node

    def application(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """The ASGI application with all doors."""
        settings, broker = self._settings, self.broker
        limits, counters = Limits(settings.max_message_bytes), Counters()
        gate = Gate(self._auth.authenticate, self._rates)
        endpoints: list[Endpoint] = [
            *rest.endpoints(broker, limits, self._presence, counters),
            *LoginDoor(self._auth).endpoints(),
            *UserDoor(self._auth).endpoints(),
            *StatusDoor(broker, self.sockets, counters).endpoints(),
        ]
        endpoints.append(describe(endpoints))
        by_path: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            by_path.setdefault(endpoint.path, []).append(endpoint)
        resources = {path: Resource(path, group, gate, counters) for path, group in by_path.items()}
        socket_door = WebSocketDoor(
            broker,
            self._auth.authenticate,
            self.sockets,
            self._presence,
            self._rates,
            limits,
            settings.heartbeat_ms,
            settings.max_message_bytes + FRAME_OVERHEAD,
            wall_ms,
        )
        router = Router(routes(resources, socket_door), default=Nowhere(gate, counters), redirect_slashes=False)
        return Front(router, self._hosts, settings.allowed_origins)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Stop as promised: no more publishes, acks for as long as somebody works, then close everything."""
        self.broker.drain()
        timeout_ms = self._settings.drain_timeout_ms
        self.sockets.draining(timeout_ms)
        deadline = time.monotonic() + timeout_ms / 1_000
        hurrying = asyncio.create_task(hurry.wait())
        while await self.broker.processing() and time.monotonic() < deadline and not hurrying.done():
            await asyncio.wait([hurrying], timeout=_DRAIN_LOOK_S)
        hurrying.cancel()
        await self.sockets.close_all(4503, "the broker is stopping")

    async def close(self) -> None:
        """Close what `open` opened."""
        await self._auth.close()
        self._passwords.close()
        await self.broker.stop()
        await self._store.close()


class Lobby:
    """Answers while the broker starts: alive, not ready; then hands every request on to it."""

    def __init__(self) -> None:
        self.application: Callable[[Scope, Receive, Send], Awaitable[None]] = Front(self._not_yet)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.application(scope, receive, send)

    async def _not_yet(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": b'{"status":"alive"}'})
            return
        await refuse(scope, send, Overloaded("the broker is starting", retry_after_ms=1_000))


async def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Run a broker until it is told to stop. `say` prints a line for the operator.

    Returns when it was stopped by SIGTERM or SIGINT. Raises `StorageFailed` when the storage failed, `OSError` when it
    cannot listen, and what `Node.open` raises.
    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()
    failed: asyncio.Future[None] = loop.create_future()

    def asked_to_stop() -> None:
        if hurry.is_set():
            os._exit(EXIT_INPUT_OUTPUT)  # asked a third time: something hangs
        (hurry if stop.is_set() else stop).set()

    def storage_failed(error: StorageFailed) -> None:
        log.critical("the storage failed; the broker stops: %s", error)
        if not failed.done():
            failed.set_exception(error)
            # Nothing may keep a broker alive that cannot keep its promises: not even a disk that does not answer.
            watchdog = threading.Timer(FAIL_STOP_S, os._exit, (EXIT_INPUT_OUTPUT,))
            watchdog.daemon = True
            watchdog.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    sock = server.listen(settings.host, settings.port)
    lobby = Lobby()
    front = server.Server(server.configured(lobby, settings.heartbeat_ms, settings.max_message_bytes + FRAME_OVERHEAD))
    serving = asyncio.create_task(front.serve(sockets=[sock]))
    try:
        node = await _opened(settings, storage_failed, failed)
        try:
            lobby.application = node.application()
            await asyncio.wait(
                [asyncio.ensure_future(front.listening.wait()), serving], return_when=asyncio.FIRST_COMPLETED
            )
            _announce(settings, sock.getsockname()[1], node.password, say)
            # What lives as long as the broker need not be looked at by the collector again; and what the hot paths make
            # has no cycles, so looking for them more seldom loses nothing.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)
            stopping = asyncio.create_task(stop.wait())
            ends: list[asyncio.Future[Any]] = [stopping, failed, serving]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            await node.drain(hurry)
        finally:
            front.should_exit = True
            await asyncio.wait([serving], timeout=10)
            await node.close()
        if failed.done():
            failed.result()
        if not stop.is_set():
            raise OSError("the server ended by itself; its log says why")
    finally:
        front.should_exit = True
        await asyncio.wait([serving], timeout=10)
        sock.close()


async def _opened(settings: Settings, storage_failed: Callable[[StorageFailed], None], failed: Any) -> Node:
    try:
        return await Node.open(settings, storage_failed)
    except BrokerError:
        await asyncio.sleep(0)  # the news of a failed storage comes by the loop
        if failed.done():
            failed.result()
        raise


def _announce(settings: Settings, port: int, password: str | None, say: Callable[[str], None]) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{port}"
    if password is not None:
        say(f"first start: user admin, password {password}   (shown only now)")
    say(f"streambroker listening on {url}")
    shown = password or "YOUR-PASSWORD"
    credentials = f'{{"username":"admin","password":"{shown}"}}'
    say(f"try: curl -s {url}/login -H 'Content-Type: application/json' -d '{credentials}'")


def run(settings: Settings) -> None:
    """Run a broker in an event loop of its own; see `serve`."""
    logging_setup.configure(settings.log_format, settings.log_level)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, say))
