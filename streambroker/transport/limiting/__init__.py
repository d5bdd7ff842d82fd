"""Placeholder of the lead's until H2's package is here: same names, no limits. H2: overwrite it."""

from __future__ import annotations

import enum
from typing import Any


class Kind(enum.Enum):
    DEFAULT = "default"
    LOGIN = "login"
    MESSAGES = "messages"


class RateLimits:
    def take(self, kind: Kind, who: str, cost: int = 1) -> bool:
        return True

    async def refill(self, kind: Kind, who: str, cost: int = 1) -> None:
        return

    def standing(self, kind: Kind, who: str) -> Any:
        return None

    def close(self) -> None:
        return


def network(address: str) -> str:
    return address
