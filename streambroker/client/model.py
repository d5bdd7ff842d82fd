"""The base of everything that the broker answers."""

from __future__ import annotations

import msgspec


class Model(msgspec.Struct, frozen=True):
    """Base of all answers. Fields that a type does not know are passed over, so a newer broker works."""
