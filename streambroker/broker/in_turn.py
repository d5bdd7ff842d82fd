"""Answers of the store, acted upon in the order in which it applied the commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from streambroker.core.errors import BrokerError
from streambroker.store.contract import Command, Store
from streambroker.store.groupcommit import resolve


def in_turn(store: Store, command: Command, apply: Callable[[Any], None]) -> asyncio.Future[Any]:
    """Submit a command, and `apply` its answer in its turn: in the order in which the store applied the commands.

    What is awaited comes a turn of the loop later, when the answers to younger commands may have been applied.
    """
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def told(answer: Any) -> None:
        if not isinstance(answer, BrokerError):
            apply(answer)
        resolve(answered, answer)

    store.post(command, told)
    return answered
