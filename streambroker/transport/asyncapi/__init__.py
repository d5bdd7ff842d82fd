"""The description of the WebSocket, and of the streams of events."""

from streambroker.transport.asyncapi.document import document

__all__ = ["document"]
