"""The dashboard's files: one page, and what it loads. They are public; what they show is asked for with a token."""

from __future__ import annotations

from pathlib import Path

from streambroker.transport.files import FileDoor, Page, web
from streambroker.transport.resource import Counters

PAGE = "index.html"
ASSETS = "/dashboard/assets/{path:path}"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class StaticDoor(FileDoor):
    """The ASGI application of the page and the files below `directory`."""

    def __init__(self, directory: Path, counters: Counters) -> None:
        super().__init__(
            directory, {"/dashboard": Page(PAGE, CONTENT_SECURITY_POLICY)}, ASSETS, counters, "the dashboard"
        )


def directory() -> Path:
    """Where the files are: in the installed package, or beside it in a checkout."""
    return web("dashboard")
