"""The JavaScript SDK's files, public: pages that the broker serves, or that `allowed_origins` names, import them.

Each is asked for anew and answered 304 while it is the same, so that a page never mixes modules of two versions.
"""

from __future__ import annotations

from pathlib import Path

from streambroker.transport.files import FileDoor, web
from streambroker.transport.resource import Counters

ASSETS = "/sdk/{path:path}"


class SdkDoor(FileDoor):
    """The ASGI application of the files below `directory`; ``/sdk/streambroker.js`` is the one to import."""

    def __init__(self, counters: Counters, directory: Path | None = None) -> None:
        super().__init__(directory or web("sdk"), {}, ASSETS, counters, "the JavaScript SDK")
