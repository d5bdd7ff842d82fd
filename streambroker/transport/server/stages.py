"""How far a request has come in."""

from __future__ import annotations

import enum


class Stage(enum.Enum):
    """How much of the newest request of a connection has come."""

    NONE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    WHOLE = enum.auto()


NONE, HEAD, BODY, WHOLE = Stage
