"""How much each scenario does: one frozen ``Plan`` for a full run, a smaller one for ``--quick``."""

from __future__ import annotations

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of every scenario. Seconds are floats; ``*_messages`` and ``*_requests`` count per round and side."""

    rounds: int = 5
    patience_seconds: float = 0.0
    """How long to wait before each measurement for the machine to be quiet."""
    payload_bytes: int = 256
    """Size of one message's content on every side; for ours it is a JSON string of this size, quotes included."""

    rest_seconds: float = 6.0
    rest_connections: int = 32
    rest_single_requests: int = 2_000

    batch_size: int = 100
    """Messages in one confirmed publish (one WebSocket op, one Redis pipeline, one burst of NATS publishes)."""
    publish_messages: int = 100_000
    publish_windows: tuple[int, ...] = (1, 4)
    """Batches in flight at a time; each is a row of its own."""

    flow_messages: int = 100_000
    flow_single_window: int = 64
    """Publishes of one message each that are in flight at a time."""
    flow_batch_window: int = 10
    """Batches in flight at a time, when messages are published in batches."""
    credit: int = 1_000
    """Delivered and not yet settled messages at most (credit, ``max_ack_pending``, count of XREADGROUP)."""

    drain_messages: int = 1_000_000
    drain_consumers: tuple[int, ...] = (1, 4)

    latency_rate: int = 1_000
    """Messages per second."""
    latency_seconds: float = 8.0

    logins_at_once: int = 200
    login_seconds: float = 5.0

    idle_connections: int = 5_000
    idle_seconds: float = 10.0

    dashboards: int = 50
    dashboard_queues: int = 100
    dashboard_seconds: float = 20.0

    webhook_messages: int = 20_000

    hung_sockets: int = 500
    hung_websockets: int = 50
    hung_seconds: float = 15.0
    """Longer than the server takes to cut them off, so that some are and come back."""


FULL = Plan()
QUICK = Plan(
    rounds=3,
    rest_seconds=2.0,
    rest_single_requests=500,
    publish_messages=30_000,
    flow_messages=30_000,
    drain_messages=100_000,
    latency_seconds=3.0,
    idle_seconds=5.0,
    hung_seconds=5.0,
    dashboard_seconds=10.0,
    webhook_messages=3_000,
)
