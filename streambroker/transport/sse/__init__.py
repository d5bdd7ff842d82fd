"""Server-sent events: what happens in a queue, as a stream over plain HTTP (HTML standard, section 9.2)."""

from streambroker.transport.sse.door import EventsDoor

__all__ = ["EventsDoor"]
