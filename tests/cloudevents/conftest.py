"""A real broker, and queues on it: as for streams of events."""

from __future__ import annotations

from tests.sse.conftest import api, broker, messages, queue

__all__ = ["api", "broker", "messages", "queue"]
