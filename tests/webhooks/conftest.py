"""A broker and a receiver for each test."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.webhooks.receiver import Receiver, receiving
from tests.webhooks.world import World, broker


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with broker(tmp_path) as world:
        yield world


class Names:
    """What names lead to, in place of the machine's name server. `asked` counts look-ups.

    Each look-up takes the next answer; the last one stays.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked = 0

    def lead(self, name: str, *answers: list[str]) -> None:
        self.answers[name] = list(answers)

    def look_up(self, host: str) -> list[str] | None:
        if (answers := self.answers.get(host)) is None:
            return None
        self.asked += 1
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names, real = Names(), socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        found = names.look_up(host)
        if found is None:
            return real(host, port, *args, **options)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, found, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names
