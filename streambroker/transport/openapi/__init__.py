"""The description of the REST API, and of whatever else is served by an `Endpoint`."""

from streambroker.transport.openapi.document import document

__all__ = ["document"]
