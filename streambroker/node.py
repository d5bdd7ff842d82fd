"""One running broker: settings → store → broker → doors → one ASGI application."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from streambroker.broker.broker import Broker
from streambroker.broker.clock import Clock, steady_clock
from streambroker.broker.quotas import Quotas
from streambroker.config import Settings, log_directory, off_or
from streambroker.core.access import Role
from streambroker.core.errors import ConfigError, DataDirUnusable, StorageFailed
from streambroker.notify.local import LocalNotifier
from streambroker.observe.access import AccessLog
from streambroker.observe.history import Recent
from streambroker.observe.lag import LoopLag
from streambroker.observe.metrics import CONTENT_TYPE, Metrics
from streambroker.observe.node_metrics import NodeCollector, NodeSources
from streambroker.observe.queue_metrics import QueueCollector, QueueSources
from streambroker.observe.usage import Usage
from streambroker.protocol.messages import Limits
from streambroker.store.sql.login_failures import LoginFailures
from streambroker.store.sql.sqlite import SqliteStore
from streambroker.store.sql.totals import Totals
from streambroker.transport import logs, rest
from streambroker.transport.apidocs import ApiDocsDoor, describe
from streambroker.transport.auth.keys import SigningKeys, configured_key, load_or_create_key
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.service import AuthService
from streambroker.transport.auth.tokens import AccessTokens
from streambroker.transport.consumers import ConsumersDoor
from streambroker.transport.counting import Requests
from streambroker.transport.dashboard import static
from streambroker.transport.dashboard.door import DashboardDoor
from streambroker.transport.dashboard.feed import Feed, Sources
from streambroker.transport.dashboard.frames import Refusing
from streambroker.transport.front import Front, Hosts
from streambroker.transport.gate import Gate
from streambroker.transport.graphql.absent import NOT_INSTALLED, OFF, Absent, GraphQL
from streambroker.transport.graphql.doors import Doors, is_installed
from streambroker.transport.http import Endpoint
from streambroker.transport.limiting import Guard, Kind, RateLimits
from streambroker.transport.login import LoginDoor
from streambroker.transport.metrics import MetricsDoor, MetricsPort
from streambroker.transport.presence import Presence
from streambroker.transport.proxies import TrustedProxies
from streambroker.transport.resource import Counters, Nowhere, Resource
from streambroker.transport.rest.queues import Oldest
from streambroker.transport.roster import Roster
from streambroker.transport.routes import Paths, routes
from streambroker.transport.sdk import SdkDoor
from streambroker.transport.sse import EventsDoor
from streambroker.transport.status import Readiness, Status, StatusDoor
from streambroker.transport.totals import TotalsKeeper
from streambroker.transport.users import UserDoor
from streambroker.transport.webhooks.opening import Options as WebhookOptions
from streambroker.transport.webhooks.opening import WebhookService
from streambroker.transport.websocket import Sockets, WebSocketDoor

if TYPE_CHECKING:
    from streambroker.observe.tracing import Tracing

log = logging.getLogger(__name__)

FRAME_OVERHEAD = 64 * 1024
"""What a WebSocket frame may hold beside the largest content: 1 MiB + 64 KiB by default."""
_DRAIN_LOOK_S = 0.05


def wall_ms() -> int:
    """Milliseconds since 1970 by the machine's clock."""
    return time.time_ns() // 1_000_000


class Node:
    """One running broker: everything that is opened at the start and closed at the stop."""

    def __init__(
        self,
        settings: Settings,
        store: SqliteStore,
        broker: Broker,
        auth: AuthService,
        passwords: Passwords,
        guard: Guard,
        names: Sequence[str],
        readiness: Readiness,
    ) -> None:
        self.broker = broker
        self.sockets = Sockets()
        self.password: str | None = None
        self._settings = settings
        self._store = store
        self._auth = auth
        self._passwords = passwords
        self._guard = guard
        self._rates = RateLimits(
            {
                Kind.DEFAULT: off_or(settings.rate_limit_default),
                Kind.LOGIN: off_or(settings.rate_limit_login),
                Kind.MESSAGES: off_or(settings.rate_limit_messages),
            },
            storage=settings.rate_limit_storage,
        )
        self._presence = Presence(auth.still, settings.max_connections_per_user)
        self._hosts = Hosts((settings.host, *names, *settings.allowed_hosts))
        self._proxies = TrustedProxies(settings.trusted_proxies)
        requests = Requests()
        self._access = AccessLog(settings.access_log, requests.counts)
        self._readiness = readiness
        self._counters = Counters(self._access, requests)
        self._totals = TotalsKeeper(Totals(store.work), self._counters)
        usage, watching, waits = Usage(), store.watching, broker.waits
        self._status = Status(self.sockets, self._counters, usage)
        delivery, publish = Recent(waits.delivery), Recent(waits.confirm, to_ms=1_000)
        self._oldest: Oldest = lambda names: asyncio.to_thread(watching.oldest, names)
        sources = Sources(watching.depths, self._oldest, usage.look, delivery.look, publish.look, self._refusing)
        self.feed = Feed(broker, self._presence.consumers, self._status, sources)
        self.streams = EventsDoor(broker, self._presence, self._counters, wall_ms)
        self._lag = LoopLag()
        self._tasks = [asyncio.create_task(run) for run in (self._access.run(), self._lag.run())]
        self._metrics_port: MetricsPort | None = None
        self._graphql: GraphQL | None = None
        self._tracing: Tracing | None = None
        auth.on_changed(self._presence.changed)
        self.webhooks = WebhookService(
            store.work,
            broker,
            auth.users,
            auth.keys,
            self._presence.consumers,
            WebhookOptions(settings.webhooks, settings.webhook_allow_private, settings.max_webhooks_per_user),
            wall_ms,
        )
        auth.on_changed(self.webhooks.fleet.changed)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        on_failure: Callable[[StorageFailed], None],
        names: Sequence[str] = (),
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> Node:
        """Open and recover the data, load users and queues.

        `names` are those that the broker is known by beside its settings: its certificate's. `clock` and `chance` are
        the time and the dice of messages and queues, for tests. Raises `DataDirUnusable`, `DataDamaged` or
        `ConfigError`.
        """
        clock = clock or steady_clock()
        data_dir = Path(settings.data_dir)
        readiness = Readiness()

        def failed(error: StorageFailed) -> None:
            readiness.storage_failed = True
            on_failure(error)

        tracing = _tracing(settings)
        store = await SqliteStore.open(
            data_dir, clock(), failed, settings.max_stored_bytes, settings.max_stored_bytes_per_user
        )
        try:
            key = load_or_create_key(data_dir, settings.jwt_secret)
            old = settings.jwt_secret_previous
            previous = None if old is None else configured_key(old, "jwt_secret_previous")
            tokens = AccessTokens(SigningKeys(key, previous), lifetime_ms=settings.access_token_ms)
            passwords = Passwords()
            guard = Guard(off_or(settings.rate_limit_login), LoginFailures(store.work), clock, key)
            auth = AuthService(
                store.work,
                passwords,
                tokens,
                refresh_token_ms=settings.refresh_token_ms,
                clock=wall_ms,
                guard=guard,
            )
            await guard.start()
            await auth.start()
            broker = Broker(
                store,
                LocalNotifier(),
                clock,
                store.last_id,
                settings.auto_create_queues,
                chance,
                quotas=Quotas(settings.max_queues, settings.max_queues_per_user, settings.max_in_flight_per_user),
                exempt=lambda user: (account := auth.users.find(user)) is not None and account.role is Role.ADMIN,
                tracer=tracing,
            )
            node = cls(settings, store, broker, auth, passwords, guard, names, readiness)
            node._tracing = tracing
            node.password = await auth.users.first_start(settings.admin_password)
            await broker.start()
            await node.webhooks.fleet.start()
            await node._count()
        except OSError as error:
            await store.close()
            raise DataDirUnusable(f"the data directory {data_dir} cannot be used: {error}") from error
        except BaseException:
            await store.close()
            raise
        return node

    async def _count(self) -> None:
        """Go on counting where the last run ended, and measure from now on."""
        await self._totals.load()
        self._tasks += [asyncio.create_task(self._totals.run()), asyncio.create_task(self.feed.run())]

    def application(
        self, connections: Callable[[], int] = lambda: 0, cut_off: Callable[[], Mapping[str, int]] = dict
    ) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """The ASGI application with all doors.

        `connections` tells how many are open, WebSockets among them; `cut_off` how many clients the server has cut off
        because they did not read, by why.
        """
        settings, broker = self._settings, self.broker
        limits, counters = Limits(settings.max_message_bytes), self._counters
        gate = Gate(self._auth.authenticate, self._auth.still, self._rates)
        self._auth.on_changed(gate.changed)
        self._metrics = MetricsDoor(self._collected(gate, connections, cut_off).text, CONTENT_TYPE)
        endpoints: list[Endpoint] = [
            *rest.endpoints(broker, limits, self._presence, counters, wall_ms, self._oldest),
            *LoginDoor(self._auth).endpoints(),
            *UserDoor(self._auth).endpoints(),
            *StatusDoor(broker, self._status, self._store.watching.depths, self._readiness).endpoints(),
            *ConsumersDoor(broker, self._presence.consumers).endpoints(),
            *self.webhooks.endpoints(),
            *self.streams.endpoints(),
            *self._metrics.endpoints(),
            *logs.LogsDoor(log_directory(settings)).endpoints(),
        ]
        self._graphql = served = self._graphql_over(endpoints, gate, limits)
        endpoints += served.endpoints()
        endpoints += describe(endpoints)
        by_path: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            by_path.setdefault(endpoint.path, []).append(endpoint)
        resources = {path: Resource(path, group, gate, counters) for path, group in by_path.items()}
        of_graphql = served.routes(resources)
        resources[logs.ANY_FILE] = resources["/logs/{filename}"]
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
            gate.refused,
        )
        feed_door = DashboardDoor(
            self.feed, self._auth.authenticate, self._presence, self._rates, gate.refused, wall_ms
        )
        page = static.StaticDoor(static.directory(), counters)
        paths = [*routes(resources, socket_door), *feed_door.routes(), *page.routes(), *ApiDocsDoor(counters).routes()]
        paths += of_graphql
        paths += SdkDoor(counters).routes()
        router = Paths(paths, Nowhere(gate, counters))
        client_address = self._proxies.client_address if settings.trusted_proxies else None
        return Front(router, self._hosts, settings.allowed_origins, client_address)

    def _graphql_over(self, endpoints: Sequence[Endpoint], gate: Gate, limits: Limits) -> GraphQL:
        """GraphQL over these endpoints of REST, or what says why there is none."""
        if not self._settings.graphql:
            return Absent(OFF, gate, self._counters)
        if not is_installed():
            return Absent(NOT_INSTALLED, gate, self._counters)
        authenticate, presence = self._auth.authenticate, self._presence
        return Doors(self.broker, endpoints, gate, authenticate, presence, self._counters, limits, wall_ms)

    def _collected(
        self, gate: Gate, connections: Callable[[], int], cut_off: Callable[[], Mapping[str, int]]
    ) -> Metrics:
        broker, watching, counters = self.broker, self._store.watching, self._counters

        def open_by_kind() -> dict[str, int]:
            sockets, polls, boards = len(self.sockets.open), counters.long_polls, len(self.feed.open)
            streams, graphql = counters.streams, counters.graphql
            http = max(connections() - sockets - polls - boards - streams - graphql, 0)
            known = {"websocket": sockets, "long_poll": polls, "sse": streams, "dashboard": boards}
            return {"http": http, **known, "graphql": graphql}

        queues = QueueSources(broker.traffic, watching.depths, watching.oldest, broker.clock)
        node = NodeSources(
            broker.waits.confirm,
            broker.waits.delivery,
            self._lag.seconds,
            watching.figures,
            counters.requests,
            open_by_kind,
            partial(gate.refused.auth_failures, counters.requests),
            gate.refused.rate_limited,
            lambda: broker.draining,
            self.webhooks.fleet.outcomes,
            self.webhooks.fleet.under_way,
            cut_off,
            lambda: (broker.clock(), wall_ms()),
        )
        return Metrics([NodeCollector(node), QueueCollector(queues)])

    def listen_for_metrics(self) -> None:
        """Serve the metrics on a port of their own, where there is one; after `application()`. Raises `OSError`."""
        if port := self._settings.metrics_port:
            self._metrics_port = MetricsPort(self._metrics, port)

    @property
    def consumers(self) -> Roster:
        """Who consumes at the moment."""
        return self._presence.consumers

    def _refusing(self) -> Refusing | None:
        disk_full, quota_used_up = self._store.watching.full
        if disk_full or quota_used_up:
            return "disk" if disk_full else "quota"
        return "draining" if self.broker.draining else None

    def insider(self) -> tuple[str, str]:
        """See `AuthService.insider`."""
        return self._auth.insider()

    async def password_shown(self) -> None:
        """`password` was printed; until then each start makes another one."""
        await self._auth.users.first_password_shown()

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
        if left := await self.broker.processing():
            log.warning("%d messages were not settled in time; sessions give theirs back, other leases run on", left)
        await self.webhooks.fleet.close()
        await self.sockets.close_all(4503, "the broker is stopping")
        await self.feed.close_all(4503, "the broker is stopping")
        if self._graphql is not None:
            await self._graphql.close_all(4503, "the broker is stopping")
        await self.streams.close_all()

    async def close(self) -> None:
        """Close what `open` opened."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self._metrics_port is not None:
            await self._metrics_port.close()
        await self.webhooks.fleet.close()
        await self._totals.save()
        await self._rates.close()
        await self._auth.close()
        self._passwords.close()
        await self._guard.close()
        await self.broker.stop()
        await self._store.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)


def _tracing(settings: Settings) -> Tracing | None:
    """Where spans go, if they are asked for. Raises `ConfigError` where what it takes is not installed, or wrong."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from streambroker.observe.tracing import Tracing  # what it needs is an extra
    except ImportError as error:
        raise ConfigError(f"otlp_endpoint needs OpenTelemetry: pip install 'streambroker[otel]' ({error})") from None
    try:
        return Tracing.to(settings.otlp_endpoint, settings.trace_ratio, settings.host, settings.port)
    except ValueError as error:
        raise ConfigError(f"a variable OTEL_… in the environment is wrong: {error}") from None
