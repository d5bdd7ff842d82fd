"""streambroker: a durable message broker that any program with HTTP can speak to."""

__version__ = "0.1.0"
